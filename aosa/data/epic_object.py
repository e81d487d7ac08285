"""EPIC-Object: which object is handled, with its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from aosa.clip import Clip
from aosa.data.epic_kitchens import EpicKitchens, annotation_path
from aosa.data.epic_lists import Segment, add_boxes, read_segments
from aosa.data.preprocess import Geometry
from aosa.fields import option


@dataclass(kw_only=True)
class EpicObject(EpicKitchens):
    """EPIC-Object of the STEP paper (4.1): the segments of EPIC-Kitchens-55 in which the object that is handled has a
    box; the label is the noun. Boxes are given at 2 frames a second, and every other frame has none.

    The paper takes the 20 classes with the most segments, five segments of each for the test, drawn at random, and 16
    frames of a segment, one of each of 16 parts (``window="segments"``). Which five were drawn, only the authors' own
    list can tell: with it as `annotations`, ``subset="all"`` and ``top=None`` it is their test. Their draw leaves out
    segments of more than 300 frames; this one does not.

    Segments that folders are named after have no boxes. The authors' `reach` is 3 (a twentieth of a second); 16 parts
    meet few of the annotated frames alone.

    Raises:
        ConfigError: as there.
    """

    title: ClassVar[str] = "EPIC-Object"

    word = "noun"

    annotated = frozenset({"boxes"})

    name: str = option("epic_object", "in folders and tables")
    objects: str | Path | None = option(None, "``EPIC_train_object_labels.csv``; None = the boxes of `annotations`")
    reach: int = option(3, "a frame at most so many frames from an annotated one has its boxes; 0 = none other", low=0)

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
