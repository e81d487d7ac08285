"""UCF101-24: the videos of UCF101 that have boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from aosa.clip import Clip
from aosa.data.base import Entry
from aosa.data.preprocess import Geometry
from aosa.data.pyannot import Tube, read_pyannot
from aosa.data.ucf101 import UCF101
from aosa.data.video_folder import video_stem
from aosa.fields import option

_HEIGHT, _WIDTH = 240, 320


@dataclass
class UCF10124(UCF101):
    """The annotated videos of a UCF101 split; clips carry boxes and the segment of the action.

    A frame may carry several boxes (tubes overlap) or none; what a tube says beyond the last decoded
    frame is never asked for. The segment runs from the first to the last sampled frame with a box.

    Raises:
        ConfigError: as `aosa.data.ucf101.UCF101`, or no annotation file.
        AosaError: an annotation file that is not one, or asks to run code.
    """

    title: ClassVar[str] = "UCF101-24"

    annotated = frozenset({"boxes"})

    annotations: str | Path = option(meaning="``pyannot.pkl``, the corrected annotations")
    _: KW_ONLY
    name: str = option("ucf101_24", "in folders and tables")

    @cached_property
    def tubes(self) -> dict[str, list[Tube]]:
        return read_pyannot(self.annotations)

    def all_classes(self) -> list[str]:
        """The annotated classes, in UCF101's order."""
        annotated = {key.split("/")[0] for key, tubes in self.tubes.items() if tubes}
        return [name for name in super().all_classes() if name in annotated]

    def listed(self) -> Iterator[tuple[str, Path]]:
        return (
            (c, path) for c, path in super().listed() if self.tubes.get(f"{c}/{video_stem(path.name) or path.name}")
        )

    def annotate(self, clip: Clip, entry: Entry, indices: tuple[int, ...], geometry: Geometry) -> None:
        height, width = geometry.source_size
        scale = np.array([width / _WIDTH, height / _HEIGHT] * 2)
        tubes = self.tubes[entry.id]
        rows = [[t.boxes[i - t.start] for t in tubes if t.start <= i < t.end] for i in indices]
        clip.boxes = geometry.boxes(np.reshape(r, (-1, 4)) * scale for r in rows)
        with_box = [position for position, row in enumerate(rows) if row]
        clip.segment = (with_box[0], with_box[-1] + 1) if with_box else None

    def fingerprint(self, entry: Entry) -> str:
        """Of the file's bytes and of its boxes."""
        h = hashlib.sha256(super().fingerprint(entry).encode())
        for tube in self.tubes[entry.id]:
            h.update(f"{tube.start}{tube.boxes.shape}".encode() + tube.boxes.tobytes())
        return h.hexdigest()
