import cv2
import numpy as np
import pytest
import torch

from aosa import Clip
from aosa.errors import ConfigError
from aosa.removal.segments import carried_labels, grid_labels, segment, slic_labels

OPTIONS = {"grid": (2, 3, 4), "segments": 40, "compactness": 20.0, "spacing": (0.2, 1.0, 1.0), "flow": None}


def drifting(speed: int, frames: int = 6, size: int = 64) -> np.ndarray:
    """A smooth texture that moves right by `speed` pixels a frame: uint8 T×H×W×3."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (size, size + frames * abs(speed), 3), dtype=np.uint8)
    scene = cv2.normalize(cv2.GaussianBlur(scene, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    left = [speed * (frames - t) if speed > 0 else -speed * t for t in range(frames)]
    return np.stack([scene[:, at : at + size] for at in left])


def test_grid_cells_are_as_equal_as_they_can_be() -> None:
    labels = grid_labels((4, 9, 10), (2, 3, 4))
    assert labels[0, 0].tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert labels[:, 0, 0].tolist() == [0, 0, 12, 12]
    assert labels[0, :, 0].tolist() == [0, 0, 0, 4, 4, 4, 8, 8, 8]
    assert np.bincount(labels.ravel()).min() > 0


def test_a_grid_finer_than_the_clip_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"explainer\.grid=\[5, 3, 4\] is finer than the clip of 4×9×10"):
        grid_labels((4, 9, 10), (5, 3, 4))
    clip = Clip(id="x", frames=torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"explainer\.grid"):
        segment(clip, "slic", **{**OPTIONS, "grid": (3, 1, 1), "flow": "dis"})


def test_slic_follows_colours_and_numbers_all_segments() -> None:
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    frames[:, :, 27:] = (250, 40, 40)
    labels = slic_labels(frames, 100, 20.0, (0.2, 1.0, 1.0))
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 30 <= labels.max() + 1 <= 150
    assert not set(np.unique(labels[:, :, :27])) & set(np.unique(labels[:, :, 27:]))


@pytest.mark.parametrize("speed", [3, -3])
def test_segments_ride_on_the_flow(speed: int) -> None:
    frames = drifting(speed)
    first = grid_labels((1, 64, 64), (1, 4, 4))[0]
    labels = carried_labels(frames, first, "farneback")
    assert np.array_equal(labels[0], first)
    inside = slice(20, 44)
    moved = np.roll(first, 5 * speed, axis=1)
    assert (labels[5, inside, inside] == moved[inside, inside]).mean() > 0.97
    assert (first[inside, inside] == moved[inside, inside]).mean() < 0.5


def test_slow_motion_adds_up() -> None:
    """A quarter of a pixel a frame moves the segments by a pixel after four."""
    scene = drifting(0, frames=1, size=80)[0]
    shifts = [np.float32([[1, 0, 0.25 * t], [0, 1, 0]]) for t in range(9)]
    frames = np.stack([cv2.warpAffine(scene, m, (80, 80), borderMode=cv2.BORDER_REFLECT) for m in shifts])
    first = np.tile(np.arange(80) // 2, (80, 1))
    labels = carried_labels(frames, first, "farneback")
    assert (labels[8, 20:60, 20:60] == first[20:60, 18:58]).mean() > 0.9


def test_carried_segments_start_anew_in_each_piece_of_time() -> None:
    clip = Clip(id="x", frames=torch.from_numpy(drifting(3)))
    labels = segment(clip, "grid", **{**OPTIONS, "flow": "farneback"})
    assert set(np.unique(labels[:3])) == set(range(12))
    assert set(np.unique(labels[3:])) == set(range(12, 24))
    superpixels = segment(clip, "slic", **{**OPTIONS, "flow": "dis"})
    assert np.array_equal(np.unique(superpixels), np.arange(superpixels.max() + 1))
    assert not set(np.unique(superpixels[:3])) & set(np.unique(superpixels[3:]))
