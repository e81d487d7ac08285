"""EPIC-Action: what is done, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from aosa.clip import Clip
from aosa.data.epic_kitchens import EpicKitchens, annotation_path
from aosa.data.epic_lists import Segment, read_segments
from aosa.data.preprocess import Geometry
from aosa.fields import option
from aosa.rng import generator


@dataclass(kw_only=True)
class EpicAction(EpicKitchens):
    """EPIC-Action of the STEP paper (4.1): the segments of EPIC-Kitchens-55, the label is the verb. For T-PT, a part
    of the action is shown with as much of what comes before or after it as is left out of the action.

    The paper takes the 20 classes with the most segments and five segments of each for the test, drawn at random, and
    16 frames of a clip, one of each of 16 parts (``window="segments"``). Which were drawn, and how they were cut, only
    the authors' own list can tell: with it as `annotations`, ``subset="all"`` and ``top=None`` it is their test.

    With `background`, as in the authors' code, the action is cut between a quarter and three quarters of its frames, by
    a draw keyed by `seed` and the segment; the clip has as many frames as the action. A list that says where the action
    lies is taken as it is.

    Raises:
        ConfigError: as there.
    """

    title: ClassVar[str] = "EPIC-Action"

    word = "verb"

    annotated = frozenset({"segment"})

    name: str = option("epic_action", "in folders and tables")
    background: bool = option(True, "show a part of the action and its neighbourhood; else the action alone, all of it")

    def listed(self) -> list[Segment]:
        return self.named() if self.annotations is None else read_segments(annotation_path(self.annotations))

    def pieces(self, segment: Segment) -> list[Segment]:
        start, stop = segment.start, segment.stop
        if not self.background or start is None or stop is None or segment.action is not None:
            return [segment]
        draw, quarter = generator(self.seed, "background", segment.id), (stop - start + 1) // 4
        cut = int(torch.randint(start + quarter, stop - quarter + 1, (), generator=draw))
        before = replace(segment, start=start + cut - stop, stop=cut, action=(start, cut))
        after = replace(segment, start=cut, stop=stop + cut - start, action=(cut, stop))
        # At an end of the video there is only one side.
        return [before, after] if int(torch.randint(2, (), generator=draw)) else [after, before]

    def mark(self, clip: Clip, segment: Segment, numbers: Sequence[int], geometry: Geometry) -> None:
        assert segment.start is not None
        assert segment.stop is not None
        first, last = segment.action or (segment.start, segment.stop)
        inside = [place for place, number in enumerate(numbers) if first <= number <= last]
        clip.segment = (inside[0], inside[-1] + 1) if inside else None

    def identity(self) -> dict[str, object]:
        return {**super().identity(), "background": self.background, "seed": self.seed if self.background else None}
