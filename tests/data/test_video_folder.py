"""Any folder of videos: what is listed, what is refused, and what is said about it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.data.video_folder import VideoFolder
from aosa.errors import ConfigError, VideoError

SPEC = InputSpec(frames=4, size=(16, 16))


def ids(dataset: VideoFolder) -> list[str]:
    return [entry.id for entry in dataset.entries]


@pytest.fixture
def touch(tmp_path):
    """Makes empty files: listing opens none."""

    def make(*names: str):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def test_class_is_the_folder(touch):
    dataset = VideoFolder(touch("b/2.mp4", "b/1.AVI", "a/1.mkv"))
    assert dataset.class_names == ["a", "b"]
    assert [(e.id, e.class_name) for e in dataset.entries] == [("a/1", "a"), ("b/1", "b"), ("b/2", "b")]


def test_flat_folder_has_no_classes(touch):
    dataset = VideoFolder(touch("1.mp4", "2.mp4"))
    assert [(e.id, e.class_name) for e in dataset.entries] == [("1", None), ("2", None)]


def test_hidden_files_are_skipped_and_others_counted(touch):
    dataset = VideoFolder(touch("a/1.mp4", "a/.2.mp4", ".b/3.mp4", "a/notes.txt", "README.md"))
    assert ids(dataset) == ["a/1"]
    assert dataset.ignored == 2


def test_two_videos_of_one_name_keep_their_extensions(touch):
    dataset = VideoFolder(touch("a/x.mp4", "a/x.avi", "a/y.mp4", "b/x.mp4", "a/x.mp4.mkv"))
    assert ids(dataset) == ["a/x.avi", "a/x.mp4", "a/x.mp4.mkv", "a/y", "b/x"]


def test_name_that_is_not_utf8_is_a_problem(touch):
    root = touch("a/1.mp4")
    (root / "a" / os.fsdecode(b"caf\xe9.mp4")).touch()
    dataset = VideoFolder(root)
    assert ids(dataset) == ["a/1"]
    assert [(p.id, p.kind) for p in dataset.problems] == [("a/caf\ufffd.mp4", "rejected")]


def test_nested_folder_is_a_problem(touch):
    dataset = VideoFolder(touch("a/1.mp4", "a/deeper/2.mp4"))
    assert ids(dataset) == ["a/1"]
    assert [(p.id, p.kind) for p in dataset.problems] == [("a/deeper", "rejected")]


def test_only_the_classes_asked_for_in_that_order(touch):
    dataset = VideoFolder(touch("a/1.mp4", "b/1.mp4", "c/1.mp4", "0.mp4"), classes=["c", "a"])
    assert dataset.class_names == ["c", "a"]
    assert ids(dataset) == ["c/1", "a/1"]


def test_class_that_differs_only_in_case(touch):
    root = touch("HandstandPushups/v_HandStandPushups_g01_c01.avi")
    with pytest.raises(ConfigError, match=r"'HandStandPushups' .* differs only in case from 'HandstandPushups'"):
        VideoFolder(root, classes=["HandStandPushups"])


def test_class_that_is_no_folder_gets_close_matches(touch):
    with pytest.raises(ConfigError, match=r"'Archry' is not one of the 2 classes .* close: Archery"):
        VideoFolder(touch("Archery/1.avi", "Surfing/1.avi"), classes=["Archry"])


def test_no_such_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.root=.*gone: no such folder"):
        VideoFolder(tmp_path / "gone")


def test_folder_without_videos(touch):
    with pytest.raises(ConfigError, match=r"dataset\.root=.*: no video in it .*\(1 files"):
        VideoFolder(touch("a/notes.txt"))


def test_zero_byte_file_is_told_when_it_is_loaded(touch):
    dataset = VideoFolder(touch("a/1.mp4"))
    with pytest.raises(VideoError, match=r"1\.mp4: the file is empty"):
        dataset.load(dataset.entries[0], SPEC)


def test_fewer_frames_than_the_model_takes(tmp_path, write_video):
    write_video(tmp_path / "a" / "1.avi", 3)
    dataset = VideoFolder(tmp_path)
    with pytest.raises(VideoError, match=r"1\.avi: has 3 frames, the window needs 4"):
        dataset.load(dataset.entries[0], SPEC)


def test_truncated_file_is_used_as_far_as_it_decodes(tmp_path, write_video):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a" / "1.avi", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    dataset = VideoFolder(tmp_path, window="start")
    assert dataset.load(dataset.entries[0], SPEC).size == (4, 16, 16)
    with pytest.raises(VideoError, match=r"1\.avi: has \d+ frames \(its container lists 20: truncated\?\)"):
        dataset.load(dataset.entries[0], InputSpec(frames=16, size=(16, 16)))


def test_clip_holds_the_window_and_says_so(tmp_path, write_video):
    """Frame i of the file is grey 4·i."""
    write_video(tmp_path / "a" / "1.avi", 20)
    dataset = VideoFolder(tmp_path, window="index", index=1, interval=2)
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.frames[:, 8, 8, 0].tolist() == [28, 36, 44, 52]
    assert (clip.id, clip.class_name, clip.label, clip.boxes) == ("a/1", "a", None, None)
    assert clip.source == {"path": "a/1.avi", "start": 7, "interval": 2, "frames_in_video": 20, "size": [32, 48]}


def test_fingerprint_is_of_the_bytes(tmp_path, write_video):
    one = write_video(tmp_path / "a" / "1.avi", 5)
    two = write_video(tmp_path / "a" / "2.avi", 6)
    dataset = VideoFolder(tmp_path)
    first, second = dataset.entries
    assert dataset.fingerprint(first) != dataset.fingerprint(second)
    two.write_bytes(one.read_bytes())
    assert dataset.fingerprint(first) == dataset.fingerprint(second)


def test_fingerprint_of_a_video_that_has_gone(touch):
    dataset = VideoFolder(touch("a/1.mp4"))
    dataset.entries[0].path.unlink()
    with pytest.raises(VideoError, match=r"1\.mp4: no such video"):
        dataset.fingerprint(dataset.entries[0])


def test_identity_knows_the_window_and_not_the_place(touch):
    root = touch("a/1.mp4")
    assert VideoFolder(root).identity() != VideoFolder(root, window="start").identity()
    assert VideoFolder(root).identity() != VideoFolder(root, class_map={"a": "b"}).identity()
    assert str(root) not in repr(VideoFolder(root).identity())
    assert VideoFolder(root).identity() == VideoFolder(root, classes=["a"]).identity()


def test_a_name_with_a_backslash_is_listed_and_the_others_read(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("good.mp4", "back\\slash.mp4"):
        (folder / name).write_bytes(b"x")
    dataset = VideoFolder(tmp_path)
    assert [e.id for e in dataset.entries] == ["a/good"]
    assert [(p.kind, p.reason) for p in dataset.problems] == [("rejected", "its name holds a backslash; rename it")]
