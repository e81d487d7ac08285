"""Which frames a window takes, and what is said when there are too few."""

from __future__ import annotations

import pytest

from aosa.clip import InputSpec
from aosa.data.window import Window
from aosa.errors import ConfigError, VideoError

SPEC = InputSpec(frames=4, interval=2)  # a span of 7 frames


@pytest.mark.parametrize(
    ("window", "frames", "expected"),
    [
        (Window(), 12, [2, 4, 6, 8]),
        (Window(), 7, [0, 2, 4, 6]),
        (Window(window="start"), 12, [0, 2, 4, 6]),
        (Window(window="index", index=0), 15, [0, 2, 4, 6]),
        (Window(window="index", index=1), 15, [7, 9, 11, 13]),
        (Window(window="start", interval=3), 12, [0, 3, 6, 9]),
        (Window(interval=1), 12, [4, 5, 6, 7]),
    ],
)
def test_frames_of_a_window(window, frames, expected):
    assert list(window.indices(frames, SPEC, "a.avi")) == expected


def test_one_frame():
    assert list(Window().indices(5, InputSpec(frames=1), "a.avi")) == [2]


def test_too_short_names_file_count_need_and_the_key_that_helps():
    message = r"a\.avi: has 6 frames, the window needs 7 \(4 frames at interval 2\); set dataset\.interval=1 or less"
    with pytest.raises(VideoError, match=message):
        Window().indices(6, SPEC, "a.avi")


def test_interval_that_is_said_to_help_does():
    with pytest.raises(VideoError, match=r"set dataset\.interval=5 or less"):
        Window(interval=9).indices(16, SPEC, "a.avi")
    assert list(Window(interval=5).indices(16, SPEC, "a.avi")) == [0, 5, 10, 15]


def test_fewer_frames_than_the_model_takes():
    with pytest.raises(VideoError, match=r"has 3 frames, .* set a smaller model\.spec\.frames, or dataset\.short"):
        Window().indices(3, SPEC, "a.avi")


def test_truncated_file_is_called_so():
    with pytest.raises(VideoError, match=r"has 6 frames \(its container lists 100: truncated\?\)"):
        Window().indices(6, SPEC, "a.avi", listed=100)


def test_index_beyond_the_last_window():
    with pytest.raises(VideoError, match=r"has 20 frames, 2 windows of 7: dataset\.index must be below 2"):
        Window(window="index", index=2).indices(20, SPEC, "a.avi")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "middle"}, r"dataset\.window=middle: choose one of centre, start, index, segments"),
        ({"window": "index"}, "an index is needed with window=index"),
        ({"window": "start", "index": 1}, "dataset.index=1 with dataset.window=start"),
        ({"window": "index", "index": -1}, r"dataset\.index=-1"),
        ({"interval": 0}, r"dataset\.interval=0"),
        ({"interval": 1.5}, r"dataset\.interval=1\.5: give a whole number from 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Window(**options)
