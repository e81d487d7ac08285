"""Views are those of the published protocols; `reference/views.json` holds what mmaction2's `SampleFrames`,
`DenseSampleFrames` and `ThreeCrop` (test mode), STEP's sampling and 3D-ResNets' sliding window gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aosa.clip import InputSpec
from aosa.data import files
from aosa.data.base import View, Views
from aosa.data.moving_shapes import MovingShapes
from aosa.data.preprocess import Geometry
from aosa.data.video_folder import VideoFolder
from aosa.data.window import Window
from aosa.errors import ConfigError, VideoError
from aosa.video import decode

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "views.json").read_text())


def spec_of(case: dict) -> InputSpec:
    return InputSpec(frames=case["frames"], interval=case.get("interval", 1))


def rows(window: Window, case: dict, views: Views) -> list[list[int]]:
    return [list(row) for row in window.several(case["video"], spec_of(case), "v", None, views)]


def named(case: dict) -> str:
    return "-".join(f"{k}{v}" for k, v in case.items() if isinstance(v, int))


@pytest.mark.parametrize("case", REFERENCE["sample_frames"], ids=named)
def test_clips_are_those_of_sample_frames(case):
    assert rows(Window(short_videos="loop"), case, Views(case["clips"])) == case["rows"]


@pytest.mark.parametrize("case", REFERENCE["dense"], ids=named)
def test_dense_clips_are_those_of_dense_sample_frames(case):
    assert rows(Window(short_videos="loop"), case, Views(case["clips"], sampling="dense")) == case["rows"]


@pytest.mark.parametrize("case", REFERENCE["sliding"], ids=named)
def test_all_clips_are_those_of_the_sliding_window(case):
    assert rows(Window(), case, Views("all")) == case["rows"]


@pytest.mark.parametrize("case", REFERENCE["segments"], ids=named)
def test_segments_are_those_of_step(case):
    assert rows(Window(window="segments"), case, Views()) == case["rows"]


@pytest.mark.parametrize("case", REFERENCE["three_crop"], ids=lambda case: "×".join(map(str, case["source"])))
def test_crops_are_those_of_three_crop(case):
    size, spec = case["size"], InputSpec(size=(case["size"], case["size"]))
    found = []
    for view in files._crops(Views(crops=3), case["source"]):
        geometry = Geometry(tuple(case["source"]), spec, view)
        top, left = geometry.offset
        assert list(geometry.resized) == case["resized"]
        found.append([left, top, left + size, top + size])
    assert sorted(found) == sorted(case["boxes"])


def test_all_clips_at_an_interval():
    spec = InputSpec(frames=3, interval=2)
    assert Window().several(9, spec, "v", None, Views("all")) == [(0, 2, 4), (6, 8, 6)]


def test_three_crops_of_a_frame_with_a_margin_lie_on_its_middle_line():
    spec = InputSpec(size=(16, 16), short=20)
    offsets = [Geometry((20, 32), spec, view).offset for view in files._crops(Views(crops=3), (20, 32))]
    assert offsets == [(2, 0), (2, 8), (2, 16)]


@pytest.mark.parametrize(("start", "expected"), [(0.0, (3, 6, 9)), (0.5, (4, 7, 9)), (1.0, (5, 8, 10))])
def test_start_within_segments(start, expected):
    """11 frames: parts of three, of which the last three are taken; the last one is cut short."""
    assert Window(window="segments").indices(11, InputSpec(frames=3), "v", start=start) == expected


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.25, 2), (1.0, 6)])
def test_start_of_a_view(start, first):
    assert Window().indices(10, InputSpec(frames=4), "v", start=start) == tuple(range(first, first + 4))


def test_short_video_is_looped_on_request_only():
    spec = InputSpec(frames=4, interval=2)
    assert Window(short_videos="loop").indices(5, spec, "v") == (0, 2, 4, 1)
    assert Window(window="segments", short_videos="loop").indices(3, spec, "v") == (0, 1, 2, 0)
    with pytest.raises(VideoError, match=r"or dataset\.short_videos=loop"):
        Window().indices(5, spec, "v")
    with pytest.raises(VideoError, match=r"v: has 3 frames, fewer than the 4 segments; .*dataset\.short_videos=loop"):
        Window(window="segments").indices(3, spec, "v")


@pytest.mark.parametrize("views", [Views("all"), Views(3, sampling="dense")])
def test_segments_have_no_windows(views):
    with pytest.raises(ConfigError, match="not with window=segments"):
        Window(window="segments").several(20, InputSpec(frames=4), "v", None, views)


@pytest.mark.parametrize("window", [Window(window="start"), Window(window="index", index=1)])
@pytest.mark.parametrize("views", [Views("all"), Views(2), Views(3, sampling="dense")])
def test_a_window_at_one_place_is_one_clip(window, views):
    message = rf"accuracy\.clips={views.clips}: dataset\.window={window.window} is one clip"
    with pytest.raises(ConfigError, match=message):
        window.several(20, InputSpec(frames=4), "v", None, views)
    assert len(window.several(20, InputSpec(frames=4), "v", None, Views(crops=3))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 0}, r"accuracy\.clips=0: give a whole number from 1 to 1000, or all"),
        ({"clips": "some"}, r"accuracy\.clips=some"),
        ({"crops": 2}, r"accuracy\.crops=2: choose one of 1, 3"),
        ({"sampling": "random"}, r"accuracy\.sampling=random: choose one of uniform, dense"),
        ({"sampling": "dense"}, r"accuracy\.sampling=dense with accuracy\.clips=1"),
    ],
)
def test_views_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Views(**options)


def test_views_say_what_they_are():
    assert [str(v) for v in (Views(), Views(10, 3), Views("all"), Views(10, 3, "dense"))] == [
        "1 clip × 1 crop",
        "10 clips × 3 crops",
        "all clips × 1 crop",
        "10 clips × 3 crops, dense",
    ]


@pytest.fixture
def gradient(tmp_path, write_video) -> VideoFolder:
    """One 24×40 video of 9 frames: red tells the frame, green the column, blue the row."""
    frames = np.zeros((9, 24, 40, 3), np.uint8)
    frames[..., 0] = np.arange(9)[:, None, None] * 10
    frames[..., 1] = np.arange(40) * 5
    frames[..., 2] = np.arange(24)[:, None] * 5
    write_video(tmp_path / "a" / "1.avi", frames)
    return VideoFolder(tmp_path)


def corner(clip) -> tuple[int, int, int]:
    """First frame, left column and top row of a clip cut out of `gradient` without a resize."""
    red, green, blue = clip.frames[0, 0, 0].tolist()
    return red // 10, green // 5, blue // 5


SPEC = InputSpec(frames=4, size=(24, 24))


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (None, (2, 8, 0)),
        (View(), (2, 8, 0)),
        (View(start=0, across=0), (0, 0, 0)),
        (View(start=1, across=1), (5, 16, 0)),
    ],
)
def test_a_view_of_a_file(gradient, view, expected):
    clip = gradient.load(gradient.entries[0], SPEC, view)
    assert corner(clip) == expected
    assert clip.source["start"] == expected[0]
    assert ("view" in clip.source) == (view not in (None, View()))


def test_a_zoom_cuts_its_part_out_of_the_source(gradient):
    """Half the largest square of 24: 12 pixels from row 12 and column 28, drawn large."""
    clip = gradient.load(gradient.entries[0], SPEC, View(across=1, down=1, zoom=0.5))
    plain = gradient.load(gradient.entries[0], InputSpec(frames=4, size=(12, 12), short=24), View(across=1, down=1))
    assert clip.size == (4, 24, 24)
    assert torch.equal(clip.frames[:, ::23, ::23], plain.frames[:, ::11, ::11])


def test_views_of_a_file_are_what_each_alone_gives_and_decoded_once(gradient, monkeypatch):
    decoded = []
    original = decode.VideoFile
    gradient.load(gradient.entries[0], SPEC)  # frames are counted once, whatever the views
    monkeypatch.setattr(decode, "VideoFile", lambda path, *args: decoded.append(path) or original(path, *args))
    clips = list(gradient.load_views(gradient.entries[0], SPEC, Views(3, 3)))
    assert len(decoded) == 1
    assert [corner(c) for c in clips] == [(f, x, 0) for f in (0, 2, 5) for x in (0, 8, 16)]
    alone = gradient.load(gradient.entries[0], SPEC, View(start=0.5, across=1))
    assert torch.equal(clips[5].frames, alone.frames)
    assert (clips[5].id, clips[5].class_name) == ("a/1", "a")


def test_three_crops_of_a_squashed_frame_are_refused(gradient):
    spec = InputSpec(frames=4, size=(24, 24), resize="squash")
    with pytest.raises(ConfigError, match=r"accuracy\.crops=3: with model\.spec\.resize=squash"):
        list(gradient.load_views(gradient.entries[0], spec, Views(crops=3)))


def test_options_of_the_window_reach_the_clip_and_its_identity(tmp_path, write_video):
    write_video(tmp_path / "1.avi", 6)
    looped = VideoFolder(tmp_path, short_videos="loop")
    clip = looped.load(looped.entries[0], InputSpec(frames=8, size=(32, 32)))
    assert clip.source["frames"] == [0, 1, 2, 3, 4, 5, 0, 1]
    assert clip.frames[:, 0, 0, 0].tolist() == [0, 4, 8, 12, 16, 20, 0, 4]
    segments = VideoFolder(tmp_path, window="segments")
    assert segments.load(segments.entries[0], InputSpec(frames=3, size=(32, 32))).source["interval"] == 2
    identities = [VideoFolder(tmp_path).identity(), looped.identity(), segments.identity()]
    assert "short_videos" not in identities[0]
    assert len({json.dumps(i) for i in identities}) == 3


def test_a_made_clip_has_one_view():
    shapes, spec = MovingShapes(size=1), InputSpec(frames=4, size=(32, 32))
    plain = shapes.load(shapes.entries[0], spec)
    assert torch.equal(shapes.load(shapes.entries[0], spec, View()).frames, plain.frames)
    (only,) = shapes.load_views(shapes.entries[0], spec, Views())
    assert torch.equal(only.frames, plain.frames)
    with pytest.raises(ConfigError, match="moving_shapes: a clip is made at the model's size and has no other view"):
        shapes.load(shapes.entries[0], spec, View(across=0))
    with pytest.raises(ConfigError, match=r"accuracy\.clips=3.*moving_shapes has one view only"):
        list(shapes.load_views(shapes.entries[0], spec, Views(3)))
