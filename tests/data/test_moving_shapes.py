"""moving_shapes: what the clips hold is known, and nothing but the relevant motion tells the class."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aosa.clip import Clip, InputSpec
from aosa.data.moving_shapes import CLASS_NAMES, MovingShapes
from aosa.errors import ConfigError

SPEC = InputSpec(frames=16, size=(64, 64))


def centres(clip: Clip) -> np.ndarray:
    return np.array(clip.source["centres"])


def in_segment(clip: Clip) -> np.ndarray:
    assert clip.segment is not None
    return centres(clip)[slice(*clip.segment)]


def test_a_clip_does_not_depend_on_what_was_made_before() -> None:
    first, second = MovingShapes(size=12), MovingShapes(size=6)
    for entry in first.entries:
        first.load(entry, SPEC)
    torch.rand(3)
    np.random.rand(3)
    assert second.load(second.entries[4], SPEC).digest() == first.load(first.entries[4], SPEC).digest()


def test_splits_seeds_and_entries_differ() -> None:
    data = [MovingShapes(split=s, seed=n, size=7) for s in ("train", "val", "test") for n in (0, 1)]
    digests = {d.load(e, SPEC).digest() for d in data for e in d.entries}
    assert len(digests) == 6 * 7
    assert len({d.fingerprint(d.entries[0]) for d in data}) == 6


def test_fingerprint_ignores_the_size_and_follows_the_options() -> None:
    entry = MovingShapes(size=1).entries[0]
    assert MovingShapes(size=1).fingerprint(entry) == MovingShapes(size=50).fingerprint(entry)
    assert MovingShapes(distractors=4).fingerprint(entry) != MovingShapes().fingerprint(entry)


def test_entries_take_the_classes_in_turn() -> None:
    data = MovingShapes(size=13)
    assert [e.class_name for e in data.entries[:7]] == [*CLASS_NAMES, CLASS_NAMES[0]]
    assert data.entries[8].id == "horizontal/000008"


@pytest.mark.parametrize(("name", "sign"), [("clockwise", 1), ("anticlockwise", -1)])
def test_circles_turn_one_way_as_seen_on_the_screen(name: str, sign: int) -> None:
    data = MovingShapes(size=30)
    for entry in (e for e in data.entries if e.class_name == name):
        steps = np.diff(in_segment(data.load(entry, SPEC)), axis=0)
        # With y pointing down, a positive cross product is a turn to the right.
        turn = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
        assert (sign * turn > 0).all()


@pytest.mark.parametrize(
    ("name", "across"),
    [("horizontal", (0, 1)), ("vertical", (1, 0)), ("diagonal_up", (1, 1)), ("diagonal_down", (1, -1))],
)
def test_shakes_keep_to_their_line_and_turn_back(name: str, across: tuple[int, int]) -> None:
    data = MovingShapes(size=30)
    for entry in (e for e in data.entries if e.class_name == name):
        steps = np.diff(in_segment(data.load(entry, SPEC)), axis=0)
        assert np.abs(steps @ np.array(across)).max() < 0.01
        along = steps @ np.array([across[1], -across[0]])
        assert along.min() < -0.5
        assert along.max() > 0.5


def test_the_truth_is_where_the_relevant_sprite_is() -> None:
    data = MovingShapes(size=24, distractors=0)
    for entry in data.entries:
        clip = data.load(entry, SPEC)
        assert clip.truth is not None
        assert clip.boxes is not None
        assert clip.segment is not None
        begin, end = clip.segment
        assert end - begin == 12
        for t in range(16):
            ys, xs = np.nonzero(clip.truth[t].numpy())
            if not begin <= t < end:
                assert len(xs) == 0
                assert clip.boxes[t].shape == (0, 4)
                continue
            middle = np.array([xs.mean() + 0.5, ys.mean() + 0.5])
            assert np.abs(middle - centres(clip)[t]).max() < 0.5
            assert clip.boxes[t].tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


def test_covered_pixels_are_not_truth() -> None:
    alone, crowd = MovingShapes(size=60, distractors=0), MovingShapes(size=60, distractors=3)
    shares = []
    for entry in alone.entries:
        whole, seen = alone.load(entry, SPEC).truth, crowd.load(entry, SPEC).truth
        assert whole is not None
        assert seen is not None
        assert not (seen & ~whole).any()
        shares.append(float(seen.sum() / whole.sum()))
    assert min(shares) < 1  # some are covered in part
    assert np.mean(shares) > 0.9  # few, and seldom by much
    assert min(shares) > 0.3


def test_leaving_the_relevant_sprite_out_changes_no_other_pixel() -> None:
    full, without = MovingShapes(size=12), MovingShapes(size=12, relevant=False)
    for entry in full.entries:
        a, b = full.load(entry, SPEC), without.load(entry, SPEC)
        changed = (a.frames != b.frames).any(-1).numpy()
        t, y, x = np.nonzero(changed)
        assert len(t) > 0
        away = np.abs(np.stack([x, y], 1) + 0.5 - centres(a)[t]).max(1)
        assert away.max() <= 9  # the largest radius, and a soft edge
        assert b.truth is not None
        assert not b.truth.any()
        assert b.boxes is not None
        assert all(len(box) == 0 for box in b.boxes)


def test_without_the_relevant_sprite_the_class_cannot_matter() -> None:
    data = MovingShapes(size=6, relevant=False)
    for entry in data.entries:
        made = {data.load(replace(entry, class_name=name), SPEC).digest() for name in CLASS_NAMES}
        assert len(made) == 1


def test_one_frame_does_not_tell_the_class() -> None:
    """A ridge regression from the pixels of one frame stays within the 99 % interval of chance."""

    def frames(split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        data = MovingShapes(split=split, size=size)
        x = [
            cv2.resize(data.load(e, SPEC).frames[8].numpy(), (16, 16), interpolation=cv2.INTER_AREA)
            for e in data.entries
        ]
        y = [CLASS_NAMES.index(str(e.class_name)) for e in data.entries]
        return np.array(x, float).reshape(size, -1) / 255 - 0.4, np.array(y)

    x, y = frames("train", 600)
    kernel = x @ x.T
    weights = np.linalg.solve(kernel + np.eye(len(x)), np.eye(6)[y])
    probe, answer = frames("test", 300)
    right = ((probe @ x.T @ weights).argmax(1) == answer).mean()
    assert abs(right - 1 / 6) < 2.576 * np.sqrt(5 / 36 / 300)


def test_a_shaken_sprite_is_spread_as_far_across_its_motion_as_along_it() -> None:
    """Otherwise its place in a single frame would hint at the class."""
    data = MovingShapes(size=2400, split="train")
    spec = InputSpec(frames=4, interval=4, size=(16, 16))
    along, across = [], []
    for entry in data.entries:
        if entry.class_name in ("horizontal", "vertical"):
            x, y = in_segment(data.load(entry, spec))[1] - 8
            along.append(x if entry.class_name == "horizontal" else y)
            across.append(y if entry.class_name == "horizontal" else x)
    assert 1 / 1.08 < np.std(along) / np.std(across) < 1.08


def test_flow_follows_the_sprite() -> None:
    data = MovingShapes(size=12)
    errors, lengths = [], []
    for entry in data.entries:
        clip = data.load(entry, SPEC)
        assert clip.truth is not None
        assert clip.segment is not None
        grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in clip.frames.numpy()]
        for t in range(clip.segment[0], clip.segment[1] - 1):
            flow = cv2.calcOpticalFlowFarneback(grey[t], grey[t + 1], None, 0.5, 3, 15, 3, 5, 1.2, 0)
            if clip.truth[t].any():
                step = centres(clip)[t + 1] - centres(clip)[t]
                errors.append(np.linalg.norm(flow[clip.truth[t].numpy()].mean(0) - step))
                lengths.append(np.linalg.norm(step))
    assert np.mean(errors) < 0.2 * np.mean(lengths)


@pytest.mark.parametrize(
    ("frames", "interval", "size"), [(16, 1, (112, 112)), (32, 1, (64, 96)), (8, 2, (64, 64)), (1, 1, (64, 64))]
)
def test_clips_fit_any_spec(frames: int, interval: int, size: tuple[int, int]) -> None:
    spec = InputSpec(frames=frames, interval=interval, size=size)
    data = MovingShapes(size=6, distractors=0)
    scale = min(size) / 64
    for entry in data.entries:
        clip = data.load(entry, spec)
        clip.tensor(spec)
        assert clip.truth is not None
        assert clip.boxes is not None
        assert clip.segment is not None
        assert clip.segment[1] - clip.segment[0] == max(1, round(frames * 0.75))
        side = np.concatenate(clip.boxes)[:, 2:] - np.concatenate(clip.boxes)[:, :2]
        assert 9 * scale < side.mean() < 18 * scale
        assert (centres(clip) > 5 * scale).all()
        assert (centres(clip) < np.array(size[::-1]) - 5 * scale).all()
        if frames > 1:
            longest = np.linalg.norm(np.diff(centres(clip), axis=0), axis=1).max()
            assert 2 * scale * interval < longest < 3.01 * scale * interval


def test_an_interval_shows_the_same_video_at_fewer_moments() -> None:
    data = MovingShapes(size=3, relevant=False)
    for entry in data.entries:
        dense = data.load(entry, InputSpec(frames=15, interval=1, size=(64, 64))).frames
        sparse = data.load(entry, InputSpec(frames=8, interval=2, size=(64, 64))).frames
        assert torch.equal(dense[::2], sparse)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"split": "Test"}, "dataset.split"),
        ({"size": 0}, "dataset.size"),
        ({"distractors": -1}, "dataset.distractors"),
        ({"distractors": [3, 1]}, "dataset.distractors"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        MovingShapes(**options)


def test_the_number_of_distractors_is_drawn_from_its_range() -> None:
    data = MovingShapes(size=40, distractors=[0, 2], relevant=False)
    fixed = [MovingShapes(size=40, distractors=n, relevant=False) for n in range(3)]
    counts = [[f.load(e, SPEC).digest() for f in fixed].index(data.load(e, SPEC).digest()) for e in data.entries]
    assert set(counts) == {0, 1, 2}
