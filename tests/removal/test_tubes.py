import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from aosa import Clip, InputSpec
from aosa.errors import CheckpointError, ConfigError
from aosa.removal.flow import optical_flow, raft_small
from aosa.removal.tubes import (
    AdaptiveMasks,
    _floored,
    anchor_grid,
    co_occurring,
    drawn,
    equally_fast,
    has_letter_box,
    track,
    tube_boxes,
)
from tests.helpers import SPEC, moving_clip

OPTIONS = {
    "stride": 8,
    "box": 16,
    "neighbours": 3,
    "similarity": "cosine",
    "temporal_stride": None,
    "uncovered": False,
    "flow": "farneback",
    "flow_weights": None,
    "displacement": "positions",
    "subpixel": False,
    "letter_box": False,
    "compat": None,
    "seed": 0,
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


def test_ways_of_the_same_length_are_alike_whatever_their_direction() -> None:
    right, down, fast, still = [[0, 2]] * 3, [[2, 0]] * 3, [[0, 5]] * 3, [[0, 0]] * 3
    jumps = [[0, 6], [0, 0], [0, 0]]
    lengths = np.linalg.norm(np.array([right, down, fast, still, jumps], dtype=float), axis=-1)
    # Ways 6, 6, 15, 0, 6.
    assert equally_fast(lengths, 2).tolist() == [[1, 4], [0, 4], [0, 1], [0, 1], [0, 1]]
    # Cosine of the lengths per frame: the first three are one, the still one has 0 with all.
    assert np.sort(co_occurring(lengths, 2))[:4].tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_more_tubes_than_are_compared_at_once() -> None:
    moves = np.random.default_rng(0).normal(size=(1100, 3, 2))
    vectors = moves.reshape(1100, 6)
    cosine = vectors @ vectors.T / np.outer(np.linalg.norm(vectors, axis=1), np.linalg.norm(vectors, axis=1))
    np.fill_diagonal(cosine, -2)
    np.testing.assert_array_equal(co_occurring(moves, 3), np.argsort(-cosine, axis=1)[:, :3])


def test_drawn_neighbours() -> None:
    chosen = drawn(9, 4, 0, "clip")
    assert all(len({i, *row}) == 5 and max(row) < 9 for i, row in enumerate(chosen.tolist()))
    assert len(np.unique(chosen)) == 9
    np.testing.assert_array_equal(chosen, drawn(9, 4, 0, "clip"))
    assert (chosen != drawn(9, 4, 1, "clip")).any()
    assert (chosen != drawn(9, 4, 0, "another")).any()
    counts = sum(np.bincount(drawn(9, 4, seed, "clip")[2], minlength=9) for seed in range(400))
    assert counts[2] == 0
    assert np.abs(np.delete(counts, 2) - 200).max() < 50  # of 400, each of the others is drawn half the time


@pytest.mark.parametrize("compat", [None, "authors"])
def test_similarities_join_other_tubes(compat: str | None) -> None:
    clip, spec = moving_clip(), SPEC
    options = {**OPTIONS, "stride": 4, "box": 8, "compat": compat, "displacement": "flow", "neighbours": 2}
    groups = {
        name: AdaptiveMasks(**{**options, "similarity": name}).masks(clip, spec).groups
        for name in ("cosine", "norm_cosine", "norm")
    }
    assert (groups["cosine"] != groups["norm_cosine"]).any()
    assert (groups["cosine"] != groups["norm"]).any()
    assert (groups["norm"] != groups["norm_cosine"]).any()
    frames = clip.frames.numpy() if compat is None else _floored(clip, spec)
    raw = track(anchor_grid(24, 32, 4), optical_flow(frames, swap_channels=compat is not None))[2]
    way = np.linalg.norm(raw, axis=-1).sum(axis=1)
    distance = np.abs(way[:, None] - way[None])
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(groups["norm"][:, 1:], np.argsort(distance, axis=1)[:, :2])


def test_a_tube_that_starts_later_is_still_and_not_there_before() -> None:
    positions, alive, raw = track(np.array([[10, 20], [10, 55]]), constant_flow(3.0, -1.0), start=2)
    np.testing.assert_array_equal(positions[0], [[10, 20]] * 2 + [[10 - t, 20 + 3 * t] for t in range(4)])
    assert alive.tolist() == [[False, False, True, True, True, True], [False, False, True, True, False, False]]
    np.testing.assert_array_equal(raw[0], [[0, 0]] * 2 + [[-1, 3]] * 3)
    at_last = track(np.array([[10, 20]]), constant_flow(3.0, 0.0), start=5)
    assert at_last[1].tolist() == [[False] * 5 + [True]]
    assert not at_last[2].any()


def test_bars_end_no_tube_before_it_starts() -> None:
    flow = constant_flow(0, 0, size=(112, 112))
    bounds = (16 / 112, 96 / 112)
    assert track(np.array([[12, 20]]), flow, start=2, bounds=bounds)[1].tolist() == [
        [False, False, True, False, False, False]
    ]


def test_rounding_towards_zero() -> None:
    positions, _, _ = track(np.array([[10, 20]]), constant_flow(1.7, -0.2, steps=2), truncate=True)
    assert positions[0].tolist() == [[10, 20], [9, 21], [8, 22]]


def test_the_authors_round_later_starts_towards_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aosa.removal.tubes.optical_flow", lambda *_, **__: constant_flow(1.7, 0, size=(48, 64)))
    clip, spec = drifting(), InputSpec(frames=6, size=(48, 64))
    options = {**OPTIONS, "neighbours": 0, "box": 4}
    for compat, stride, right in (("authors", 3, 1), ("authors", None, 2), (None, 3, 2)):
        masks = AdaptiveMasks(**{**options, "compat": compat, "temporal_stride": stride}).masks(clip, spec)
        assert masks.boxes[0, :3, 2].tolist() == [2, 2 + right, 2 + 2 * right]


def drifting(t: int = 6) -> Clip:
    """A texture that drifts right by six pixels a frame, so that tubes leave the left quarter free."""
    scene = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64 + 6 * t, 3)).astype(np.uint8), (7, 7), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    frames = np.stack([scene[:, 6 * (t - i) : 6 * (t - i) + 64] for i in range(t)])
    return Clip(id="drift", frames=torch.from_numpy(frames))


def test_masks_start_on_every_nth_frame() -> None:
    clip, spec = drifting(), InputSpec(frames=6, size=(48, 64))
    first = AdaptiveMasks(**{**OPTIONS, "neighbours": 0}).masks(clip, spec)
    assert len(first) == 48
    masks = AdaptiveMasks(**{**OPTIONS, "temporal_stride": 2}).masks(clip, spec)
    assert len(masks) == 3 * 48
    there = masks.boxes[..., 1] > 0
    for i, start in enumerate((0, 2, 4)):
        tubes = slice(48 * i, 48 * (i + 1))
        assert there[tubes].argmax(axis=1).tolist() == [start] * 48
        np.testing.assert_array_equal(masks.boxes[tubes, start], first.boxes[:, 0])
    np.testing.assert_array_equal(masks.boxes[:48], first.boxes)
    assert (masks.groups[:48, 1:] >= 48).any()  # tubes of all starts are compared
    for stride, starts in ((5, 2), (6, 1)):
        assert len(AdaptiveMasks(**{**OPTIONS, "temporal_stride": stride}).masks(clip, spec)) == 48 * starts


@pytest.mark.parametrize(
    ("dx", "compat", "columns"),
    [
        (6, None, [4, 12]),  # the tubes stand at 22, 30 … 62 on frame 3
        (4, None, [4, 12, 20, 28, 36, 44, 52, 60]),  # at 16 … 56; the one that has left at 64 covers nothing
        (6, "authors", [4, 12, 20]),  # frame 4 is asked: 28, 36 … 60
        (5, "authors", [4, 12, 20, 28, 36, 44, 52]),  # 24 … 56, and one that has left, held at the border
    ],
)
def test_later_anchors_only_where_no_tube_is(
    dx: int, compat: str | None, columns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aosa.removal.tubes.optical_flow", lambda *_, **__: constant_flow(dx, 0, size=(48, 64)))
    clip, spec = drifting(), InputSpec(frames=6, size=(48, 64))
    options = {**OPTIONS, "box": 6, "neighbours": 0, "temporal_stride": 3, "compat": compat}
    masks = AdaptiveMasks(**{**options, "uncovered": compat is None}).masks(
        clip, spec
    )  # the authors' code has no other
    starts = masks.boxes[48:, 3, [0, 2]] + 3
    assert starts.tolist() == [[y, x] for y in range(4, 48, 8) for x in columns]


def test_farneback_and_dis_find_a_shift() -> None:
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8), (7, 7), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    frames = np.stack([scene[10:70, 20 - 2 * t : 80 - 2 * t] for t in range(3)])
    for method in ("farneback", "dis"):
        flow = optical_flow(frames, method)
        assert flow.shape == (2, 60, 60, 2)
        np.testing.assert_allclose(np.median(flow[:, 15:45, 15:45], axis=(0, 1, 2)), [2, 0], atol=0.15)


class FakeRAFT(torch.nn.Module):
    """Moves by the mean of its two frames in x, by its parameter in y, as an estimate that it then refines."""

    def __init__(self) -> None:
        super().__init__()
        self.y = torch.nn.Parameter(torch.zeros(1))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        assert first.shape[2] % 8 == first.shape[3] % 8 == 0
        assert min(first.shape[2:]) >= 128
        x = (first + second).mean(dim=1, keepdim=True) / 2
        return [torch.zeros(1), torch.cat([x, self.y.expand_as(x)], dim=1)]


@pytest.fixture
def fake_raft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    package = ModuleType("torchvision")
    package.models = ModuleType("torchvision.models")  # type: ignore[attr-defined]
    package.models.optical_flow = ModuleType("torchvision.models.optical_flow")
    package.models.optical_flow.raft_small = lambda weights, progress: FakeRAFT()
    for module in (package, package.models, package.models.optical_flow):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"y": torch.tensor([32.0])}, tmp_path / "raft.pth")
    raft_small.cache_clear()
    yield tmp_path / "raft.pth"
    raft_small.cache_clear()


def test_raft_gives_pixels_of_the_clip_whatever_size_it_wants(fake_raft: Path) -> None:
    frames = np.zeros((3, 112, 150, 3), np.uint8)
    frames[1:] = 255
    flow = optical_flow(frames, "raft_small", weights=fake_raft)
    assert flow.dtype == np.float32
    # Frames of −1 and 1 in RAFT's units, 128×152 large: 0 and 1 in x, 32 in y.
    np.testing.assert_allclose(flow[0], np.broadcast_to([0, 32 * 112 / 128], (112, 150, 2)), atol=1e-5)
    np.testing.assert_allclose(flow[1], np.broadcast_to([150 / 152, 28], (112, 150, 2)), atol=1e-5)


def test_tubes_follow_raft(fake_raft: Path) -> None:
    options = {**OPTIONS, "neighbours": 0, "flow": "raft_small", "flow_weights": str(fake_raft)}
    masks = AdaptiveMasks(**options).masks(moving_clip(), SPEC)
    centres = masks.boxes[0, :2, :2].mean(axis=1)
    assert masks.boxes[0, 1, :2].tolist() == [2, 18]  # 4 + 32·24/128, ± 8
    assert centres[0] < centres[1]


def test_what_raft_needs(fake_raft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**OPTIONS, "flow": "raft_small"}
    with pytest.raises(ConfigError, match=r"needs explainer\.flow_weights=<file>"):
        AdaptiveMasks(**options)
    with pytest.raises(CheckpointError, match="no such file"):
        AdaptiveMasks(**{**options, "flow_weights": "absent.pth"})
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ConfigError, match="needs a torchvision that fits torch"):
        AdaptiveMasks(**{**options, "flow_weights": str(fake_raft)})


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
    masks = AdaptiveMasks(**OPTIONS).masks(clip, spec)
    assert len(masks) == 196
    assert masks.groups.shape == (196, 4)
    assert (masks.groups[:, 0] == np.arange(196)).all()
    assert not (masks.groups[:, 1:] == np.arange(196)[:, None]).any()
    single = AdaptiveMasks(**{**OPTIONS, "neighbours": 0}).masks(clip, spec)
    whole = masks.occluded(0, 196)
    assert (whole >= single.occluded(0, 196)).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stride", 0),
        ("box", 0),
        ("neighbours", -1),
        ("similarity", "kmeans"),
        ("temporal_stride", 0),
        ("uncovered", 2),
        ("uncovered", True),
        ("seed", -1),
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


def test_no_seed_reproduces_the_authors_random_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"explainer\.similarity=random has no compat=authors"):
        AdaptiveMasks(**{**OPTIONS, "similarity": "random", "compat": "authors"})


def test_more_neighbours_than_anchors() -> None:
    clip = Clip(id="x", frames=torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"explainer\.stride=8 leaves 4 anchors"):
        AdaptiveMasks(**{**OPTIONS, "neighbours": 4}).masks(clip, InputSpec(frames=2, size=(16, 16)))
