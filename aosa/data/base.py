"""What every data set is: a list of entries, and a way to turn one into a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from aosa.clip import Clip, InputSpec
from aosa.errors import ConfigError
from aosa.fields import Options, option
from aosa.options import check_range, is_whole
from aosa.video.image_range import ImageRange

_MOST_VIEWS = 1000  # windows of one video; published accuracies have 10


@dataclass(frozen=True)
class Entry:
    """One video of a data set, before it is decoded.

    Args:
        id: unique in the data set, safe as a relative path: ``"Archery/v_Archery_g01_c01"``.
        class_name: true class by the data set's own name, None when unknown.
        path: the video file, the folder of its frames, or those of a folder that are it; None for procedural data.
        group: recording that the clip was cut from (UCF101: ``"Archery/g01"``), for the bootstrap.
        extra: whatever the data set needs to load it.
    """

    id: str
    class_name: str | None = None
    path: Path | ImageRange | None = None
    group: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Problem:
    """A video that is listed and cannot be used: ``kind`` is missing, unreadable or rejected."""

    id: str
    kind: str
    reason: str


def first_of(problems: Sequence[Problem]) -> str:
    """The first problem, for the end of a message; empty where there is none."""
    return f"; {problems[0].id}: {problems[0].reason}" if problems else ""


@dataclass(frozen=True)
class View:
    """Another part of a video than the data set's own window and the centre crop: for the several views of published
    accuracies, and for training.

    Args:
        start: where the window begins, from 0 (the earliest place) to 1 (the latest); None = the data set's window.
        across, down: where the crop lies, from 0 (left, top) to 1 (right, bottom).
        zoom: side of the crop, relative to the largest crop of the input's aspect that fits the resized frame; above
            0, at most 1. None = the crop that the input spec asks for.

    Raises:
        ConfigError: a value out of range.
    """

    start: float | None = None
    across: float = 0.5
    down: float = 0.5
    zoom: float | None = None

    def __post_init__(self) -> None:
        check_range("view", start=(self.start, 0, 1), across=(self.across, 0, 1), down=(self.down, 0, 1))
        if self.zoom is not None and not 0 < self.zoom <= 1:
            raise ConfigError(f"view.zoom={self.zoom}: give a number above 0, at most 1")


@dataclass
class Views(Options):
    """The clips and crops of one video whose predictions are averaged.

    Raises:
        ConfigError: a value out of range.
    """

    owner: ClassVar[str] = "accuracy"

    clips: int | str = option(
        1,
        "1 = the data set's own window; n = n windows evenly spaced from the video's earliest to its latest "
        "(mmaction2's SampleFrames in its test mode); all = every window of those that lie side by side, the last "
        "filled up by repeating it (3D-ResNets' inference)",
    )
    crops: int = option(
        1, "1 = the centre; 3 = both ends and the centre of the longer side (mmaction2's ThreeCrop)", choices=(1, 3)
    )
    sampling: str = option(
        "uniform",
        "uniform, or dense: n starts rounded down, of a range that ends T·interval frames before the end of the video "
        "(mmaction2's DenseSampleFrames in its test mode)",
        choices=("uniform", "dense"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clips != "all" and not (is_whole(self.clips) and 1 <= self.clips <= _MOST_VIEWS):
            raise ConfigError(f"accuracy.clips={self.clips}: give a whole number from 1 to {_MOST_VIEWS}, or all")
        if self.sampling == "dense" and self.clips in (1, "all"):
            raise ConfigError(f"accuracy.sampling=dense with accuracy.clips={self.clips}: give at least 2 clips")

    def __str__(self) -> str:
        clips = f"{self.clips} clip{'s' * (self.clips != 1)}"
        dense = ", dense" if self.sampling == "dense" else ""
        return f"{clips} × {self.crops} crop{'s' * (self.crops != 1)}{dense}"


class VideoDataset(ABC):
    """Subclasses list their videos without decoding any (10 000 in seconds) and decode lazily.

    Attributes:
        name: as in the config.
        class_names: the data set's own classes, in its own order.
        model_classes: the model's name of those classes that it knows by another.
        entries: the videos that are there, in a fixed order.
        problems: the videos that are listed but missing, or refused, each with its reason.
        annotated: which of ``boxes``, ``segment`` and ``truth`` its clips may have; None where nobody says, and metrics
            ask each clip.
        flip_keeps_class: whether a clip mirrored left to right still shows its class; training may then mirror.
    """

    name: str
    class_names: Sequence[str]
    model_classes: Mapping[str, str] = MappingProxyType({})
    entries: list[Entry]
    problems: list[Problem]
    flip_keeps_class: bool = False
    annotated: ClassVar[frozenset[str] | None] = None

    @abstractmethod
    def load(self, entry: Entry, spec: InputSpec, view: View | None = None) -> Clip:
        """Decode one entry at the spec's size. The clip's ``class_name`` is set, its ``label`` is not:
        that depends on the model (see `aosa.engine.job.Job.load`).

        Raises:
            VideoError: the video cannot be used; the message names the file and the reason.
        """

    def check_views(self, views: Views) -> None:
        """Refuse views that the data set cannot give, before any work.

        Raises:
            ConfigError: naming the key; a data set has but one view by default.
        """
        if (views.clips, views.crops) != (1, 1):
            raise ConfigError(
                f"accuracy.clips={views.clips}, accuracy.crops={views.crops}: {self.name} has one view only"
            )

    def load_views(self, entry: Entry, spec: InputSpec, views: Views) -> Iterator[Clip]:
        """The clips of several views of one entry, decoded once; crops vary fastest.

        Raises:
            ConfigError: see `check_views`.
            VideoError: see `load`.
        """
        self.check_views(views)
        yield self.load(entry, spec)

    @abstractmethod
    def fingerprint(self, entry: Entry) -> str:
        """sha256 of the entry's content (file bytes), cheap enough to take on every resume."""

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """All options that change a clip (window, split, seed …) and none that do not (paths, limits)."""

    def __len__(self) -> int:
        return len(self.entries)
