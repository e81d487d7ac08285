import numpy as np
import pytest
import torch

from aosa import Clip
from aosa.metrics import SpatialPointing
from aosa.metrics.spatial_pointing import distance_to_boxes
from tests.helpers import SPEC, small_model

EMPTY = np.zeros((0, 4), np.float32)


def clip(boxes: list[np.ndarray]) -> Clip:
    return Clip(id="x", frames=torch.zeros(4, *SPEC.size, 3, dtype=torch.uint8), label=0, boxes=boxes)


def peak(*at: tuple[int, int]) -> torch.Tensor:
    saliency = torch.zeros(4, *SPEC.size)
    for t, (y, x) in enumerate(at):
        saliency[t, y, x] = 1
    return saliency


def test_distance_to_the_nearest_pixel() -> None:
    box = np.array([[10.0, 5.0, 20.0, 9.0]])  # pixels 10..19 × 5..8
    for (x, y), expected in {(12, 6): 0, (19, 8): 0, (20, 8): 1, (9, 4): 2**0.5, (26, 8): 7, (15, 16): 8}.items():
        assert distance_to_boxes(x, y, box)[0] == pytest.approx(expected)
    assert distance_to_boxes(21, 6, np.array([[10.0, 5.0, 20.2, 9.0]]))[0] == pytest.approx(1)


def test_hits_count_only_frames_with_a_box() -> None:
    box = np.array([[4.0, 4.0, 8.0, 8.0]], np.float32)
    far = np.array([[24.0, 16.0, 30.0, 20.0]], np.float32)
    boxes = [box, box, EMPTY, np.concatenate([far, box])]
    # inside; 7 pixels right of the last column (7); frame without a box; near the second of two boxes
    record = SpatialPointing()(small_model(), clip(boxes), peak((5, 5), (5, 14), (23, 31), (10, 4)), 0)
    assert (record["hits"], record["frames"]) == (3, 3)
    record = SpatialPointing()(small_model(), clip(boxes), peak((5, 5), (5, 15), (0, 0), (16, 12)), 0)
    assert (record["hits"], record["frames"]) == (1, 3)
    assert record["spt"] == pytest.approx(1 / 3)


def test_the_first_maximum_counts() -> None:
    saliency = peak((5, 5), (5, 5), (5, 5), (5, 5))
    saliency[:, 20, 30] = 1
    box = np.array([[28.0, 18.0, 32.0, 24.0]], np.float32)
    assert SpatialPointing()(small_model(), clip([box] * 4), saliency, 0)["hits"] == 0


def test_a_clip_without_boxes_has_no_score() -> None:
    record = SpatialPointing()(small_model(), Clip(id="x", frames=clip([EMPTY] * 4).frames, label=0), peak((1, 1)), 0)
    assert record["spt"] is None
    assert record["frames"] == 0
