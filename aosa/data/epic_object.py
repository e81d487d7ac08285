"""EPIC-Object: which object is handled, with its boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aosa.clip import Clip
from aosa.data.epic_kitchens import EpicKitchens, annotation_path
from aosa.data.epic_lists import Segment, add_boxes, read_segments
from aosa.data.preprocess import Geometry
from aosa.options import check_whole


class EpicObject(EpicKitchens):
    """EPIC-Object of the STEP paper (4.1): the segments of EPIC-Kitchens-55 in which the object that is handled has a
    box; the label is the noun. Boxes are given at 2 frames a second, and every other frame has none.

    The paper takes the 20 classes with the most segments, five segments of each for the test, drawn at random, and 16
    frames of a segment, one of each of 16 parts (``window="segments"``). Which five were drawn, only the authors' own
    list can tell: with it as `annotations`, ``subset="all"`` and ``top=None`` it is their test. Their draw leaves out
    segments of more than 300 frames; this one does not.

    Args:
        root: the folder of the frames, see `aosa.data.epic_kitchens.EpicKitchens`.
        annotations: see `aosa.data.epic_lists.read_segments`; None = the segments that folders are named after, which
            have no boxes.
        objects: ``EPIC_train_object_labels.csv``; None = the boxes of `annotations`.
        reach: a frame that is at most so many frames from an annotated one has its boxes. The authors' code has 3 (a
            twentieth of a second); 0 = annotated frames alone, of which 16 parts meet few.
        others: as for `aosa.data.epic_kitchens.EpicKitchens`.

    Raises:
        ConfigError: as there.
    """

    word = "noun"

    annotated = frozenset({"boxes"})

    def __init__(
        self,
        root: str | Path,
        name: str = "epic_object",
        annotations: str | Path | None = None,
        objects: str | Path | None = None,
        reach: int = 3,
        subset: str = "test",
        top: int | None = None,
        per_class: int | None = None,
        seed: int = 0,
        manifest: str | Path | None = None,
        classes: Sequence[str] | None = None,
        min_frames: int = 1,
        class_list: str | Path | None = None,
        window: str = "centre",
        index: int | None = None,
        interval: int | None = None,
        class_map: str | Path | Mapping[str, str] | None = None,
        short_videos: str = "refuse",
    ) -> None:
        check_whole("dataset", reach=(reach, 0))
        self.annotations, self.objects, self.reach = annotations, objects, reach
        super().__init__(
            root, name, subset, top, per_class, seed, manifest, classes, min_frames, class_list,
            window, index, interval, class_map, short_videos,
        )  # fmt: skip

    def listed(self) -> list[Segment]:
        if self.annotations is None:
            return self.named()
        segments = read_segments(annotation_path(self.annotations))
        if self.objects is not None:
            return add_boxes(segments, annotation_path(self.objects))
        return [segment for segment in segments if segment.boxes]

    def mark(self, clip: Clip, segment: Segment, numbers: Sequence[int], geometry: Geometry) -> None:
        height, width = geometry.source_size
        scale = np.array([width / segment.size[0], height / segment.size[1]] * 2)
        nearest = [min(segment.boxes, key=lambda frame: abs(frame - n), default=None) for n in numbers]
        clip.boxes = geometry.boxes(
            segment.boxes[frame] * scale if frame is not None and abs(frame - n) <= self.reach else np.empty((0, 4))
            for n, frame in zip(numbers, nearest, strict=True)
        )

    def identity(self) -> dict[str, object]:
        return {**super().identity(), "reach": self.reach}
