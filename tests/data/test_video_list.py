"""Plain lists of videos: every form in use, parts of videos, and what is wrong line by line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.config import build, compose, quoted
from aosa.data.base import Views
from aosa.data.video_list import VideoList
from aosa.errors import ConfigError, VideoError

SPEC = InputSpec(frames=4, size=(16, 16))


@pytest.fixture
def root(tmp_path) -> Path:
    """Five files and two folders of images, all empty: listing opens none."""
    for name in (
        "a.mp4",
        "b.avi",
        "day 1/c d.mkv",
        "day 1/e,f.mp4",
        "x.y.webm",
        "frames/g/img_1.jpg",
        "my dir 7/i_1.jpg",
    ):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    return tmp_path / "root"


def make(root: Path, text: str | bytes, **options: object) -> VideoList:
    path = root.parent / "list.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return VideoList(root, path, **options)  # type: ignore[arg-type]


def found(dataset: VideoList) -> dict[str, str | None]:
    return {entry.id: entry.class_name for entry in dataset.entries}


def problems(dataset: VideoList) -> list[tuple[str, str, str]]:
    return [(p.id, p.kind, p.reason) for p in dataset.problems]


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 0\nday 1/c d.mkv 2\nframes/g 1\n",
        "a.mp4 0\r\n\r\nday 1/c d.mkv   2\r\nframes/g 1",
        "a.mp4\t0\nday 1/c d.mkv\t2\nframes/g\t1\n",
        "a.mp4,0\nday 1/c d.mkv, 2\nframes/g,1\n",
        "a.mp4;0\nday 1/c d.mkv;2\nframes/g;1\n",
        '"a.mp4" 0\n"day 1/c d.mkv" 2\n"frames/g" 1\n',
        "./a.mp4 0\nday 1\\c d.mkv 2\nframes//g/ 1\n",
        "a.mp4 0\nday 1/c d.mkv 2\nROOT/frames/g 1\n",
        "path,label\na.mp4,0\nday 1/c d.mkv,2\nframes/g,1\n",
        ",Label,Video\n0,0,a.mp4\n1,2.0,day 1/c d.mkv\n2,1,frames/g\n",
        "a.avi 0\nday 1/c d 2\nframes/g.mp4 1\n",
    ],
)
def test_forms_of_a_list(root, text):
    dataset = make(root, text.replace("ROOT", str(root)))
    assert found(dataset) == {"a": "0", "day 1/c d": "2", "frames/g": "1"}
    assert (dataset.class_names, dataset.problems) == (["0", "1", "2"], [])
    assert [e.path.relative_to(root).as_posix() for e in dataset.entries] == ["a.mp4", "day 1/c d.mkv", "frames/g"]


@pytest.mark.parametrize(
    ("text", "options", "classes"),
    [
        ("a.mp4 surfing water\nb.avi archery\n", {}, ["archery", "surfing water"]),
        ("a.mp4,surfing water\nb.avi,archery\n", {}, ["archery", "surfing water"]),
        ("a.mp4 1\nb.avi 0\n", {"class_names": ["archery", "surfing water"]}, ["archery", "surfing water"]),
        ("a.mp4 2\nb.avi 1\n", {"class_names": ["archery", "surfing water"], "labels": "from_1"}, None),
        ("a.mp4 surfing water\nb.avi archery", {"class_names": ["surfing water", "x", "archery"]}, None),
    ],
)
def test_labels(root, text, options, classes):
    dataset = make(root, text, **options)
    assert found(dataset) == {"a": "surfing water", "b": "archery"}
    assert dataset.class_names == (classes or options["class_names"])


def test_packaged_and_own_class_names(root, tmp_path):
    assert found(make(root, "a.mp4 2\nb.avi 0", class_names="ucf101")) == {"a": "Archery", "b": "ApplyEyeMakeup"}
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbf1 one\r\n2 two\r\n3 three\r\n")
    assert found(make(root, "a.mp4 2\nb.avi 0", class_names=tmp_path / "names.txt")) == {"a": "three", "b": "one"}


def test_list_without_labels(root):
    dataset = make(root, "a.mp4\nday 1/c d.mkv\nmy dir 7\n")
    assert found(dataset) == {"a": None, "day 1/c d": None, "my dir 7": None}
    assert dataset.class_names == []


def test_what_is_wrong_is_named_line_by_line(root):
    lines = [
        "path,label,start,end",
        "a.mp4,0,,",
        "gone.mp4,1,,",
        "A.mp4,1,,",
        "b.avi,2,,",
        "b.avi,,,",
        "b.avi,1,7,3",
        "b.avi,1,x,",
        "../b.avi,1,,",
        "/etc/passwd,1,,",
        "frames/g,1,1.5,",
        "./a.mp4,1,,",
        "b.avi,1,,",
    ]
    dataset = make(root, "\n".join(lines), class_names=["x", "y"])
    assert found(dataset) == {"a": "x", "b": "y"}
    assert problems(dataset) == [
        ("b.avi", "rejected", "line 5: its label '2' is none of the 2 classes"),
        ("b.avi", "rejected", "line 6: it has no label, and others have one"),
        ("b.avi", "rejected", "line 7: start=7 is not before end=3"),
        ("b.avi", "rejected", "line 8: start='x' is no number of seconds"),
        ("../b.avi", "rejected", "line 9: ../b.avi: path='..' cannot be the name of a file or folder"),
        ("/etc/passwd", "rejected", "line 10: /etc/passwd does not lead below dataset.root; give paths below it"),
        ("frames/g", "rejected", "line 11: images have no seconds; give start and end in frames"),
        ("./a.mp4", "rejected", "line 12: it is listed a second time, first in line 2"),
        ("gone", "missing", "line 3: gone.mp4 is not there"),
        ("A", "missing", "line 4: A.mp4 is not there; a.mp4 differs only in case"),
    ]


def test_several_files_could_be_a_video(root):
    (root / "a.avi").touch()
    assert problems(make(root, "a.webm 0\nb.avi 1")) == [
        ("a", "missing", "line 1: a.webm is not there, and several could be it: a.avi, a.mp4")
    ]
    assert make(root, "a.mp4 0\nb.avi 1").entries[0].path == root / "a.mp4"


def test_line_that_names_two_things(root):
    (root / "my dir").mkdir()
    dataset = make(root, "my dir 7 3\na.mp4 0\n")
    assert problems(dataset) == [
        ("my dir 7", "missing", "line 1: 'my dir 7' and 'my dir' are both there; give a delimiter, or quote the path")
    ]
    assert found(make(root, '"my dir" 7 3\n"my dir 7" 3\n')) == {"my dir/0-7": "3", "my dir 7": "3"}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"dataset\.videos=.*list\.txt: no line in it"),
        ("z.mp4 0\n", {}, r"none of the 1 listed videos \(video_list\) is there; z: line 1: z\.mp4 is not there"),
        ("a.mp4,0,x\n", {}, r"line 1 has 3 fields; expected path, label; path, frames, label; "),
        ("path,label\na.mp4\n", {}, r"line 2 has 1 fields, the header has 2"),
        ("path,start_frame,end_time\na.mp4,0,1\n", {}, "columns start_frame and end_time are not of one unit"),
        (
            "a.mp4 1\nb.avi 2\n",
            {"class_names": ["x", "y"]},
            r"the labels go from 1 to 2, and there are 2 class names: give dataset\.labels=from_1",
        ),
        ("a.mp4 1\nb.avi 0\n", {"class_names": ["1", "0"]}, r"label [01] is the number of one class and the name of"),
        ("a.mp4 0\n", {"delimiter": "|"}, r"dataset\.delimiter=|: choose one of auto, space, comma"),
        ("a.mp4 0\n", {"classes": ["1"]}, r"'1' is not one of the 1 classes of video_list"),
        ("a.mp4 0\n", {"class_names": "gone.txt"}, r"dataset\.class_names=gone\.txt: neither a file nor one of"),
    ],
)
def test_lists_and_options_that_are_refused(root, text, options, message):
    with pytest.raises(ConfigError, match=message):
        make(root, text, **options)


def test_choice_and_classes(root, tmp_path):
    text = "a.mp4 0\nb.avi 0\nx.y.webm 1\n"
    assert found(make(root, text, classes=["1"])) == {"x.y": "1"}
    one = make(root, text, per_class=1, manifest=tmp_path / "m.csv")
    assert sorted(found(one).values()) == ["0", "1"]
    assert found(make(root, text, per_class=1, manifest=tmp_path / "m.csv")) == found(one)


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("path,label,start,end\nv.avi,0,0.4,0.8\n", [44, 52, 60, 68]),  # 25 a second: 10 to 19
        ("path,label,start_time\nv.avi,0,0.96\n", [112, 120, 128, 136]),  # 24 to 39
        ("path,label,start_frame,stop_frame\nv.avi,0,10,17\n", [40, 48, 56, 64]),
        ("path,label,end\nv.avi,0,7\n", [0, 8, 16, 24]),
        ("v.avi 7 0\n", [0, 8, 16, 24]),
        ("v.avi 30 7 0\n", [120, 128, 136, 144]),
        ("v.avi 0\n", [64, 72, 80, 88]),
    ],
)
def test_part_of_a_video(tmp_path, write_video, text, frames):
    """Frame i is grey 4·i; the window spans 7 frames and lies in the middle of the part."""
    write_video(tmp_path / "root/v.avi", 40)
    dataset = make(tmp_path / "root", text, interval=2, times="frames" if "end\nv.avi,0,7" in text else "seconds")
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.frames[:, 8, 8, 0].tolist() == frames
    assert clip.source["start"] == frames[0] // 4
    (same,) = dataset.load_views(dataset.entries[0], SPEC, Views())
    assert same.frames.tolist() == clip.frames.tolist()


def test_parts_of_one_video(tmp_path, write_video):
    write_video(tmp_path / "root/v.avi", 40)
    dataset = make(tmp_path / "root", "path,label,start,end\nv.avi,0,0,10\nv.avi,1,20,30\nv.avi,1,,\n", times="frames")
    assert [(e.id, e.group) for e in dataset.entries] == [("v/0-10", "v"), ("v/20-30", "v"), ("v", None)]
    assert len({dataset.fingerprint(e) for e in dataset.entries}) == 3
    clips = list(dataset.load_views(dataset.entries[1], SPEC, Views(clips=2)))
    assert [clip.source["start"] for clip in clips] == [20, 26]
    everything = list(dataset.load_views(dataset.entries[1], SPEC, Views(clips="all")))
    assert [clip.frames[:, 8, 8, 0].tolist() for clip in everything] == [
        [80, 84, 88, 92],
        [96, 100, 104, 108],
        [112, 116, 112, 116],
    ]


def test_part_that_the_video_does_not_have(tmp_path, write_video):
    write_video(tmp_path / "root/v.avi", 40)
    dataset = make(tmp_path / "root", "v.avi 41 0\nv.avi 30 3 0\n")
    with pytest.raises(VideoError, match=r"v\.avi: has 40 frames; the list asks for frames 0 to 40"):
        dataset.load(dataset.entries[0], SPEC)
    seconds = make(tmp_path / "root", "path,start,end\nv.avi,1.2,2.5\nv.avi,1.2,2.72\n", interval=3)
    assert seconds.load(seconds.entries[0], SPEC).source["start"] == 30, "frames 30 to 39: rounded up"
    with pytest.raises(VideoError, match="has 40 frames; the list asks for frames 30 to 67"):
        seconds.load(seconds.entries[1], SPEC)
    with pytest.raises(VideoError, match=r"v\.avi: frames 30 to 32: has 3 frames, the window needs 4"):
        dataset.load(dataset.entries[1], SPEC)


def test_part_of_a_folder_of_images(tmp_path):
    folder = tmp_path / "root/clip"
    folder.mkdir(parents=True)
    for i in range(12):
        cv2.imwrite(str(folder / f"img_{i + 1:05d}.png"), np.full((24, 24, 3), 20 * i, np.uint8))
        cv2.imwrite(str(folder / f"flow_x_{i + 1:05d}.png"), np.full((24, 24, 3), 255, np.uint8))
    dataset = make(tmp_path / "root", "clip 4 6 0\n", window="start", interval=1)
    assert dataset.load(dataset.entries[0], SPEC).frames[:, 8, 8, 0].tolist() == [80, 100, 120, 140]


def test_config(root):
    (root / "list.txt").write_text("a.mp4 0\nb.avi 1\n")
    config = compose("prepare", ["dataset=video_list", f"dataset.root={quoted(str(root))}"])
    assert found(build(config.dataset)) == {"a": "0", "b": "1"}


@pytest.mark.real
def test_official_list_of_ucf101(shared_data):
    """Its train lists are such lists, with labels from 1."""
    lists = shared_data / "ucf101/ucfTrainTestlist"
    dataset = VideoList(
        shared_data / "ucf101/UCF-101", lists / "trainlist01.txt", class_names=lists / "classInd.txt", labels="from_1"
    )
    assert len(dataset) + len(dataset.problems) == 9537
    assert {e.id.split("/")[0] for e in dataset.entries} == {e.class_name for e in dataset.entries}
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.source["path"] == f"{clip.id}.avi"
    with pytest.raises(ConfigError, match="go from 1 to 101"):
        VideoList(shared_data / "ucf101/UCF-101", lists / "trainlist01.txt", class_names=lists / "classInd.txt")
