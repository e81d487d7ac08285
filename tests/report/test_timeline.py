"""Class probabilities over time."""

import numpy as np
import pytest

from aosa.report.timeline import COLOURS, Timeline, _clock, _ticks

FIRST, SECOND = (np.array(c) for c in COLOURS[:2])


def strip(probabilities, seconds=(2.0, 5.0, 8.0), **options):
    probabilities = np.array(probabilities, np.float64)
    names = [f"class {k}" for k in range(probabilities.shape[1])]
    given = {"names": names, "captions": ["a", "b", "c"], "duration": 10.0, "width": 640, **options}
    return Timeline(np.array(seconds), probabilities, **given)


def rows_of(image, colour, column):
    """Rows of one pixel column that have the colour."""
    return np.flatnonzero((np.abs(image[:, column].astype(int) - colour) < 8).all(axis=1))


def test_curves_go_from_0_at_the_bottom_to_1_at_the_top():
    timeline = strip([[1, 0], [1, 0], [1, 0]])
    left, top, right, bottom = timeline._box
    image = timeline.image(9.5)
    for column in (left + 3, (left + right) // 2):
        assert abs(rows_of(image, FIRST, column).mean() - top) <= 1
        assert abs(rows_of(image, SECOND, column).mean() - bottom) <= 1


def test_between_windows_a_curve_is_straight_and_outside_them_flat():
    timeline = strip([[0.0], [1.0], [1.0]])
    left, top, right, bottom = timeline._box
    image = timeline.image(9.5)

    def share(second):
        row = rows_of(image, FIRST, round(left + (right - left) * second / 10)).mean()
        return (bottom - row) / (bottom - top)

    assert [share(1.0), share(3.5), share(7.0)] == pytest.approx([0, 0.5, 1], abs=0.03)


@pytest.mark.parametrize("second", [0.0, 2.5, 10.0])
def test_the_cursor_stands_at_its_time(second):
    timeline = strip([[0.5], [0.5], [0.5]])
    left, top, right, bottom = timeline._box
    plot = timeline.image(second)[top + 5 : bottom - 5, left - 1 : right + 2].astype(int)
    dark = np.flatnonzero((plot < 60).all(axis=(0, 2))) - 1
    assert abs(dark.mean() - (right - left) * second / 10) <= 1


def test_without_a_time_there_is_no_cursor():
    timeline = strip([[0.5], [0.5], [0.5]])
    _, top, right, bottom = timeline._box
    plot = timeline.image()[top + 5 : bottom - 5, timeline._box[0] : right]
    assert not (plot < 60).all(axis=(0, 2)).any()


def test_caption_is_that_of_the_nearest_window():
    def heads(*captions):
        timeline = strip([[0.5], [0.5], [0.5]], captions=captions)
        return [timeline.image(t).tobytes() for t in (3.4, 3.6, 9.0)]

    one, other = heads("a", "b", "b"), heads("c", "b", "b")
    assert [x == y for x, y in zip(one, other, strict=True)] == [False, True, True]


@pytest.mark.parametrize(
    ("second", "text"), [(0, "0.0 s"), (7.42, "7.4 s"), (59.96, "1:00.0"), (62.5, "1:02.5"), (5400, "1:30:00.0")]
)
def test_clock(second, text):
    assert _clock(second) == text


@pytest.mark.parametrize("duration", [0.3, 2.0, 10.0, 61.0, 500.0, 20_000.0, 200_000.0])
def test_ticks_are_few_and_lie_within(duration):
    ticks = _ticks(duration)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= duration
