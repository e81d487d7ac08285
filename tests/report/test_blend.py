"""Overlapping maps made one."""

import numpy as np

from aosa.report.blend import blend


def flat(*values):
    """A map whose frames are uniform."""
    return np.array(values, np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)


def values(windows, interval, frames):
    out = list(blend(windows, interval, frames))
    assert all(np.ptp(m) == 0 for m in out)
    return [float(m[0, 0]) for m in out]


def test_one_window_is_its_map():
    assert values([(0, flat(1, 2, 3, 4))], 1, 4) == [1, 2, 3, 4]


def test_neighbours_fade_into_each_other():
    # Weights over a span of 4: 1 2 2 1, so that frame 2 is (2·0 + 1·1) / 3, and frame 3 (1·0 + 2·1) / 3.
    got = values([(0, flat(0, 0, 0, 0)), (2, flat(1, 1, 1, 1))], 1, 6)
    np.testing.assert_allclose(got, [0, 0, 1 / 3, 2 / 3, 1, 1], rtol=1e-6)


def test_frames_between_samples_are_interpolated():
    np.testing.assert_allclose(values([(0, flat(0, 4, 2))], 4, 9), [0, 1, 2, 3, 4, 3.5, 3, 2.5, 2], rtol=1e-6)


def test_equal_maps_stay_what_they_are_whatever_the_overlap():
    windows = [(first, flat(*range(first, first + 5))) for first in (0, 2, 3, 6, 7)]
    np.testing.assert_allclose(values(windows, 1, 12), range(12), rtol=1e-6)


def test_beyond_the_last_frame_is_left_out():
    assert values([(0, flat(5, 6, 7, 8))], 1, 3) == [5, 6, 7]


def test_places_within_a_frame_are_kept():
    saliency = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(np.stack(list(blend([(0, saliency)], 1, 4))), saliency, rtol=1e-6)


def test_maps_are_asked_for_as_late_as_possible():
    asked = []

    def windows():
        for first in range(0, 100, 4):
            asked.append(first)
            yield first, flat(*[0] * 8)

    frames = blend(windows(), 1, 104)
    for _ in range(4):
        next(frames)
    assert asked == [0, 4]
    assert len(list(frames)) == 100
