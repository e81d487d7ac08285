"""Boxes of UCF101-24: at the right frame and place, and out of a pickle that can do no harm."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.data.pyannot import read_pyannot
from aosa.data.ucf101_24 import UCF10124
from aosa.errors import AosaError, ConfigError

VIDEO = "Surfing/v_Surfing_g01_c01"


def tube(start: int, boxes: list[list[int]], dtype: type = np.uint8) -> dict[str, object]:
    """As the published file has it: x, y, width, height in as few bits as will do."""
    return {"label": 1, "sf": dtype(start), "ef": np.uint16(start + len(boxes)), "boxes": np.array(boxes, dtype)}


@pytest.fixture
def make(tmp_path, write_video):
    """A data set of one video of 20 frames with the given tubes; a second video has no boxes."""

    def data_set(*tubes: dict[str, object], size: tuple[int, int] = (240, 320), **options: object) -> UCF10124:
        lists = tmp_path / "ucfTrainTestlist"
        lists.mkdir()
        (lists / "classInd.txt").write_text("1 Archery\n2 Surfing\n")
        (lists / "testlist01.txt").write_text(f"Archery/v_Archery_g01_c01.avi\n{VIDEO}.avi\n")
        for video in ("Archery/v_Archery_g01_c01", VIDEO):
            write_video(tmp_path / "UCF-101" / f"{video}.avi", np.zeros((20, *size, 3), np.uint8))
        annotations = {VIDEO: {"annotations": list(tubes), "numf": np.uint8(20), "label": 1}}
        (tmp_path / "pyannot.pkl").write_bytes(pickle.dumps(annotations, protocol=3))
        return UCF10124(tmp_path, tmp_path / "pyannot.pkl", **options)

    return data_set


# 320×240 at the model's size 120×120: half of everything, 20 columns cut on the left.
SPEC = InputSpec(frames=4, size=(120, 120))


def test_only_annotated_videos_and_classes(make):
    dataset = make(tube(0, [[0, 0, 10, 10]]))
    assert [e.id for e in dataset.entries] == [VIDEO]
    assert dataset.class_names == ["Surfing"]


def test_boxes_are_offset_by_the_start_of_their_tube(make):
    """Frames 8 to 11 are shown; the tube begins at 9, two frames long."""
    dataset = make(tube(9, [[100, 40, 60, 80], [104, 40, 60, 80]]))
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [b.tolist() for b in clip.boxes] == [[], [[30, 20, 60, 60]], [[32, 20, 62, 60]], []]
    assert clip.segment == (1, 3)


def test_boxes_in_eight_bits_do_not_overflow(make):
    """200 + 80 is 24 in eight bits."""
    dataset = make(tube(0, [[200, 120, 80, 110]] * 20))
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.boxes[0].tolist() == [[80, 60, 120, 115]]


def test_start_in_eight_bits_does_not_overflow(make):
    dataset = make(tube(250, [[0, 0, 1, 1]] * 20))
    assert dataset.tubes[VIDEO][0].end == 270


def test_tubes_that_overlap_give_several_boxes(make):
    dataset = make(tube(8, [[40, 0, 20, 20]] * 3), tube(10, [[240, 0, 20, 20]] * 5))
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [len(b) for b in clip.boxes] == [1, 1, 2, 1]
    assert clip.boxes[2].tolist() == [[0, 0, 10, 10], [100, 0, 110, 10]]


def test_tube_may_run_past_the_video(make):
    dataset = make(tube(18, [[100, 40, 60, 80]] * 9), window="index", index=4)
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [len(b) for b in clip.boxes] == [0, 0, 1, 1]
    assert clip.segment == (2, 4)


def test_interval_picks_the_boxes_of_its_frames(make):
    dataset = make(tube(0, [[40 + 2 * i, 0, 20, 20] for i in range(20)]), window="start", interval=5)
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [b[0, 0] for b in clip.boxes] == [0, 5, 10, 15]


def test_no_box_in_the_window(make):
    dataset = make(tube(0, [[0, 0, 10, 10]]))
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [len(b) for b in clip.boxes] == [0] * 4
    assert clip.segment is None


def test_boxes_follow_another_source_size(make):
    """The same video at half the size: the same boxes in the model's input."""
    dataset = make(tube(0, [[100, 40, 60, 80]] * 20), size=(120, 160))
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.boxes[0].tolist() == [[30, 20, 60, 60]]


def test_fingerprint_changes_with_the_boxes(make):
    dataset = make(tube(0, [[100, 40, 60, 80]] * 20))
    before = dataset.fingerprint(dataset.entries[0])
    dataset.tubes[VIDEO][0].boxes[3, 0] += 1
    assert dataset.fingerprint(dataset.entries[0]) != before


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    path, mark = tmp_path / "pyannot.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps({VIDEO: Malicious(mark)}))
    with pytest.raises(AosaError, match=r"pyannot\.pkl: refused: this pickle asks for (posix|nt)\.system"):
        read_pyannot(path)
    assert not mark.exists()


@pytest.mark.parametrize("function", ["eval", "getattr", "__import__"])
def test_builtin_functions_are_refused_too(tmp_path, function):
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(b"cbuiltins\n" + function.encode() + b"\n.")
    with pytest.raises(AosaError, match=f"asks for builtins.{function}"):
        read_pyannot(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a readable pickle"), (b"\x80\x02junk", "not a readable pickle"), (pickle.dumps([1]), "UCF101-24")],
)
def test_file_that_is_no_annotation(tmp_path, content, message):
    (tmp_path / "pyannot.pkl").write_bytes(content)
    with pytest.raises(AosaError, match=message):
        read_pyannot(tmp_path / "pyannot.pkl")


def test_no_annotation_file(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.annotations=.*pyannot\.pkl: no such file"):
        read_pyannot(tmp_path / "pyannot.pkl")


@pytest.mark.real
def test_boxes_of_a_real_clip_land_where_the_annotation_says(shared_data):
    """v_BasketballDunk_g01_c01 has one tube: frame 32 (its first) and frame 37 are given here by x, y, w, h."""
    annotations = shared_data / "ucf101_24" / "pyannot.pkl"
    dataset = UCF10124(shared_data / "ucf101", annotations, classes=["BasketballDunk"])
    assert (len(dataset), dataset.problems) == (37, [])
    entry = next(e for e in dataset.entries if e.id == "BasketballDunk/v_BasketballDunk_g01_c01")
    clip = dataset.load(entry, InputSpec())
    start = clip.source["start"]
    assert clip.segment == (32 - start, 16)
    for frame, (x, y, w, h) in {32: (197, 96, 39, 60), 37: (195, 69, 39, 84)}.items():
        expected = np.array([x * 149 / 320 - 18, y * 112 / 240, (x + w) * 149 / 320 - 18, (y + h) * 112 / 240])
        assert np.abs(clip.boxes[frame - start][0] - expected).max() < 1e-4
