import numpy as np
import pytest
import torch

from aosa import Clip, InputSpec
from aosa.errors import ConfigError
from aosa.removal.flow import optical_flow
from aosa.removal.tubes import AdaptiveMasks, anchor_grid, co_occurring, has_letter_box, track, tube_boxes

OPTIONS = {
    "stride": 8,
    "box": 16,
    "neighbours": 3,
    "flow": "farneback",
    "displacement": "positions",
    "subpixel": False,
    "letter_box": False,
    "compat": None,
}


def constant_flow(dx: float, dy: float, steps: int = 5, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    flow = np.zeros((steps, *size, 2), np.float32)
    flow[..., 0], flow[..., 1] = dx, dy
    return flow


def test_the_papers_grid() -> None:
    grid = anchor_grid(112, 112, 8)
    assert len(grid) == 196
    assert grid[0].tolist() == [4, 4]
    assert grid[1].tolist() == [4, 12]
    assert grid[-1].tolist() == [108, 108]
    assert len(anchor_grid(112, 112, 4)) == 784


def test_positions_follow_the_flow() -> None:
    positions, alive, raw = track(np.array([[10, 20]]), constant_flow(3.0, -1.0))
    np.testing.assert_array_equal(positions[0], [[10 - t, 20 + 3 * t] for t in range(6)])
    assert alive.all()
    np.testing.assert_array_equal(raw[0], [[-1.0, 3.0]] * 5)


def test_slow_motion_moves_a_box_only_with_subpixel() -> None:
    anchors, flow = np.array([[10, 20]]), constant_flow(0.4, 0.0)
    assert (track(anchors, flow)[0][0, -1] == [10, 20]).all()
    np.testing.assert_allclose(track(anchors, flow, subpixel=True)[0][0, -1], [10, 22], atol=1e-5)


def test_a_tube_ends_where_it_leaves_and_stays_ended() -> None:
    flow = constant_flow(-6.0, 0.0)
    flow[3:] = 6.0
    _, alive, raw = track(np.array([[10, 8]]), flow)
    assert alive[0].tolist() == [True, True, False, False, False, False]
    assert raw.shape == (1, 5, 2)
    assert raw[0, 4, 1] == 6.0


def test_unrounded_positions_end_a_tube_earlier() -> None:
    anchors, flow = np.array([[10, 3]]), constant_flow(-3.4, 0.0, steps=1)
    assert track(anchors, flow)[1][0].tolist() == [True, True]
    assert track(anchors, flow, strict=True)[1][0].tolist() == [True, False]


def test_boxes_are_half_open_and_clipped() -> None:
    positions = np.array([[[4, 4], [20, 30], [39, 59]]])
    boxes = tube_boxes(positions, np.array([[True, True, True]]), (16, 16), (40, 60))
    assert boxes[0].tolist() == [[0, 12, 0, 12], [12, 28, 22, 38], [31, 40, 51, 60]]
    odd = tube_boxes(positions, np.array([[True, False, True]]), (5, 3), (40, 60))
    assert odd[0].tolist() == [[2, 7, 3, 6], [0, 0, 0, 0], [37, 40, 58, 60]]


def test_neighbours_are_those_that_move_alike() -> None:
    right, left, still = [[0, 2]] * 3, [[0, -2]] * 3, [[0, 0]] * 3
    partners = co_occurring(np.array([right, left, right, left, still, right]), 2)
    assert partners[0].tolist() == [2, 5]
    assert partners[1].tolist() == [3, 4]  # after its twin all others are opposite or still: still comes first
    assert partners[4].tolist() == [0, 1]  # a still tube has cosine 0 with all: the lowest indices


def test_farneback_and_dis_find_a_shift() -> None:
    rng = np.random.default_rng(0)
    import cv2

    scene = cv2.GaussianBlur(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8), (7, 7), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    frames = np.stack([scene[10:70, 20 - 2 * t : 80 - 2 * t] for t in range(3)])
    for method in ("farneback", "dis"):
        flow = optical_flow(frames, method)
        assert flow.shape == (2, 60, 60, 2)
        np.testing.assert_allclose(np.median(flow[:, 15:45, 15:45], axis=(0, 1, 2)), [2, 0], atol=0.15)


def test_letter_box_rule() -> None:
    frames = np.full((4, 112, 112, 3), 200, np.uint8)
    assert not has_letter_box(frames)
    frames[:, :3] = frames[:, -3:] = 15
    assert has_letter_box(frames)
    rows = anchor_grid(112, 112, 8, bars=True)[:, 0]
    assert rows.min() == 12
    assert rows.max() == 100
    _, alive, _ = track(np.array([[20, 20]]), constant_flow(0, -3, size=(112, 112)), bounds=(16 / 112, 96 / 112))
    assert alive[0].tolist() == [True, True, False, False, False, False]


def test_a_union_holds_each_mask_and_its_neighbours() -> None:
    spec = InputSpec(frames=4, size=(112, 112))
    frames = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3)).astype(np.uint8)
    clip = Clip(id="x", frames=torch.from_numpy(frames))
    masks = AdaptiveMasks(**OPTIONS)(clip, spec)
    assert len(masks) == 196
    assert masks.groups.shape == (196, 4)
    assert (masks.groups[:, 0] == np.arange(196)).all()
    assert not (masks.groups[:, 1:] == np.arange(196)[:, None]).any()
    single = AdaptiveMasks(**{**OPTIONS, "neighbours": 0})(clip, spec)
    whole = masks.occluded(0, 196)
    assert (whole >= single.occluded(0, 196)).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stride", 0),
        ("box", 0),
        ("neighbours", -1),
        ("flow", "raft"),
        ("displacement", "speed"),
        ("compat", "paper"),
        ("box", [1, 2, 3]),
        ("box", 16.5),
    ],
)
def test_options_out_of_range_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"explainer\.{key}="):
        AdaptiveMasks(**{**OPTIONS, key: value})


def test_more_neighbours_than_anchors() -> None:
    clip = Clip(id="x", frames=torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"explainer\.stride=8 leaves 4 anchors"):
        AdaptiveMasks(**{**OPTIONS, "neighbours": 4})(clip, InputSpec(frames=2, size=(16, 16)))
