"""What every data set is: a list of entries, and a way to turn one into a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aosa.clip import Clip, InputSpec


@dataclass(frozen=True)
class Entry:
    """One video of a data set, before it is decoded.

    Args:
        id: unique in the data set, safe as a relative path: ``"Archery/v_Archery_g01_c01"``.
        class_name: true class by the data set's own name, None when unknown.
        path: the video file, or the folder of its frames; None for procedural data.
        group: recording that the clip was cut from (UCF101: ``"Archery/g01"``), for the bootstrap.
        extra: whatever the data set needs to load it.
    """

    id: str
    class_name: str | None = None
    path: Path | None = None
    group: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Problem:
    """A video that is listed and cannot be used: ``kind`` is missing, unreadable or rejected."""

    id: str
    kind: str
    reason: str


@dataclass(frozen=True)
class View:
    """Another part of a video than the data set's own window and the centre crop: for the several views of published
    accuracies, and for training.

    Args:
        start: where the window begins, from 0 (the earliest place) to 1 (the latest); None = the data set's window.
        across, down: where the crop lies, from 0 (left, top) to 1 (right, bottom).
        zoom: side of the crop, relative to the largest crop of the input's aspect that fits the resized frame.
    """

    start: float | None = None
    across: float = 0.5
    down: float = 0.5
    zoom: float | None = None


class VideoDataset(ABC):
    """Subclasses list their videos without decoding any (10 000 in seconds) and decode lazily.

    Attributes:
        name: as in the config.
        class_names: the data set's own classes, in its own order.
        entries: the videos that are there, in a fixed order.
        problems: the videos that are listed but missing, or refused, each with its reason.
        flip_keeps_class: whether a clip mirrored left to right still shows its class; training may then mirror.
    """

    name: str
    class_names: Sequence[str]
    entries: list[Entry]
    problems: list[Problem]
    flip_keeps_class: bool = False

    @abstractmethod
    def load(self, entry: Entry, spec: InputSpec, view: View | None = None) -> Clip:
        """Decode one entry at the spec's size. The clip's ``class_name`` is set, its ``label`` is not:
        that depends on the model (see `aosa.pipeline.common.Job.load`).

        Raises:
            VideoError: the video cannot be used; the message names the file and the reason.
        """

    @abstractmethod
    def fingerprint(self, entry: Entry) -> str:
        """sha256 of the entry's content (file bytes), cheap enough to take on every resume."""

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """All options that change a clip (window, split, seed …) and none that do not (paths, limits)."""

    def __len__(self) -> int:
        return len(self.entries)
