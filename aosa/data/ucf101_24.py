"""UCF101-24: the videos of UCF101 that have boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aosa.clip import Clip
from aosa.data.base import Entry
from aosa.data.preprocess import Geometry
from aosa.data.pyannot import read_pyannot
from aosa.data.ucf101 import UCF101
from aosa.data.video_folder import video_stem

_HEIGHT, _WIDTH = 240, 320


class UCF10124(UCF101):
    """The annotated videos of a UCF101 split; clips carry boxes and the segment of the action.

    A frame may carry several boxes (tubes overlap) or none; what a tube says beyond the last decoded
    frame is never asked for. The segment runs from the first to the last sampled frame with a box.

    Args:
        root: as for `aosa.data.ucf101.UCF101`.
        annotations: path of ``pyannot.pkl``, the corrected annotations.
        others: as for `aosa.data.ucf101.UCF101`.

    Raises:
        ConfigError: as `aosa.data.ucf101.UCF101`, or no annotation file.
        AosaError: an annotation file that is not one, or asks to run code.
    """

    annotated = frozenset({"boxes"})

    def __init__(
        self,
        root: str | Path,
        annotations: str | Path,
        name: str = "ucf101_24",
        layout: str = "video",
        split: int = 1,
        subset: str = "test",
        classes: Sequence[str] | None = None,
        limit_per_class: int | None = None,
        window: str = "centre",
        index: int | None = None,
        interval: int | None = None,
        class_map: str | Path | Mapping[str, str] | None = None,
        short_videos: str = "refuse",
        damaged_videos: str = "refuse",
    ) -> None:
        self.tubes = read_pyannot(annotations)
        shared = (layout, split, subset, classes, limit_per_class, window, index, interval, class_map)
        super().__init__(root, name, *shared, short_videos, damaged_videos)

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
