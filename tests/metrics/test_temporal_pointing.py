import pytest
import torch

from aosa import Clip
from aosa.errors import ConfigError
from aosa.metrics import TemporalPointing
from tests.helpers import SPEC, small_model


def clip(segment: tuple[int, int] | None) -> Clip:
    return Clip(id="x", frames=torch.zeros(4, *SPEC.size, 3, dtype=torch.uint8), label=0, segment=segment)


def saliency() -> torch.Tensor:
    """Frame 1 has the highest value, frame 2 the highest sum."""
    values = torch.zeros(4, *SPEC.size)
    values[1, 5, 5] = 3
    values[2] = 1
    return values


@pytest.mark.parametrize(
    ("segment", "hit", "hit_by_sum"),
    [((1, 2), 1, 0), ((0, 2), 1, 0), ((2, 3), 0, 1), ((2, 4), 0, 1), ((1, 3), 1, 1), ((0, 1), 0, 0), ((3, 4), 0, 0)],
)
def test_the_most_important_frame_lies_in_the_segment(segment, hit, hit_by_sum) -> None:
    record = TemporalPointing()(small_model(), clip(segment), saliency(), 0)
    assert (record["tpt"], record["frame"]) == (hit, 1)
    assert record["share"] == (segment[1] - segment[0]) / 4
    record = TemporalPointing(frame="sum")(small_model(), clip(segment), saliency(), 0)
    assert (record["tpt"], record["frame"]) == (hit_by_sum, 2)


@pytest.mark.parametrize("frame", ["max", "sum"])
def test_the_first_of_equal_frames_counts(frame) -> None:
    even = torch.rand(1, *SPEC.size, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1)
    assert TemporalPointing(frame)(small_model(), clip((0, 1)), even, 0)["tpt"] == 1
    assert TemporalPointing(frame)(small_model(), clip((1, 4)), even, 0)["tpt"] == 0


def test_negative_maps_point_too() -> None:
    values = torch.full((4, *SPEC.size), -2.0)
    values[3, 0, 0] = -1
    assert TemporalPointing()(small_model(), clip((3, 4)), values, 0)["tpt"] == 1


def test_a_clip_without_a_segment_has_no_score() -> None:
    record = TemporalPointing()(small_model(), clip(None), saliency(), 0)
    assert (record["tpt"], record["share"]) == (None, None)


def test_another_frame_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"metric\.frame=mean: choose one of max, sum"):
        TemporalPointing(frame="mean")
