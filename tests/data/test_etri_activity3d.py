"""ETRI-Activity3D: what a file's name says, persons apart, and lists as mmaction2 has them."""

from __future__ import annotations

import pytest

from aosa.clip import InputSpec
from aosa.data.etri_activity3d import EtriActivity3D
from aosa.errors import ConfigError

FORK, DOWN = "eating food with a fork", "lying down"


@pytest.fixture
def root(tmp_path):
    for name in (
        "P001-P010/P001/A001_P001_G001_C001.mp4",
        "P001-P010/P003/A001_P003_G001_C008.mp4",
        "P001-P010/P003/A055_P003_G002_C001.mp4",
        "P001-P010/P006/A001_P006_G001_C001.mp4",
        "P001-P010/P006/A056_P006_G001_C001.mp4",
        "P091-P100/P100/A002_P100_G001_C001.MP4",
        "readme.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def ids(dataset: EtriActivity3D) -> list[str]:
    return [entry.id for entry in dataset.entries]


def test_every_third_person_is_test(root):
    dataset = EtriActivity3D(root)
    assert [(e.id, e.class_name, e.group) for e in dataset.entries] == [
        ("A001/A001_P003_G001_C008", FORK, "P003"),
        ("A001/A001_P006_G001_C001", FORK, "P006"),
        ("A055/A055_P003_G002_C001", DOWN, "P003"),
    ]
    assert dataset.ignored == 1
    assert [(p.id, p.kind, p.reason) for p in dataset.problems] == [
        ("A056/A056_P006_G001_C001", "rejected", "its action 56 is none of the 55")
    ]
    assert ids(EtriActivity3D(root, subset="train")) == ["A001/A001_P001_G001_C001", "A002/A002_P100_G001_C001"]
    assert len(EtriActivity3D(root, subset="all")) == 5


def test_protocol_has_67_and_33_persons(tmp_path):
    for person in range(1, 101):
        (tmp_path / f"A007_P{person:03d}_G001_C001.mp4").touch()
    assert (len(EtriActivity3D(tmp_path, subset="train")), len(EtriActivity3D(tmp_path))) == (67, 33)


def test_55_classes(root):
    names = EtriActivity3D(root).class_names
    assert (len(names), len(set(names)), names[0], names[2], names[54]) == (55, 55, FORK, "taking medicine", DOWN)


def test_classes_and_number_a_class(root):
    assert ids(EtriActivity3D(root, classes=[DOWN])) == ["A055/A055_P003_G002_C001"]
    one = EtriActivity3D(root, per_class=1)
    assert [e.class_name for e in one.entries] == [FORK, DOWN]
    with pytest.raises(ConfigError, match="'lying' is not one of the 55 classes"):
        EtriActivity3D(root, classes=["lying"])


def test_list_of_mmaction2(root, tmp_path):
    path = root / "test_k1.txt"
    path.write_bytes(
        b"videos/A055_P003_G002_C001.mp4 54\r\nA001_P001_G001_C001.mp4 0\r\n\r\nA009_P001_G001_C001.mp4 8\r\n"
        b"A001_P003_G001_C008.mp4 1\r\nA056_P006_G001_C001.mp4 55\r\n"
    )
    dataset = EtriActivity3D(root, subset="list", videos=path)
    assert ids(dataset) == ["A055/A055_P003_G002_C001", "A001/A001_P001_G001_C001"]
    assert [(p.id, p.reason) for p in dataset.problems] == [
        ("A001/A001_P003_G001_C008", "line 5 gives it the label 1, and its action has 0"),
        ("A056/A056_P006_G001_C001", "its action 56 is none of the 55"),
        ("A009/A009_P001_G001_C001", "no video of this name anywhere in the data set's folder"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../etc/passwd 3", r"line 1: '\.\./\.\./etc/passwd 3' does not begin with a name such as"),
        ("A001_P001_G001_C001.mp4 1", "none of its videos .*; A001/A001_P001_G001_C001: line 1 gives it the label 1"),
    ],
)
def test_list_with_a_bad_line(root, line, message):
    (root / "list.txt").write_text(line)
    with pytest.raises(ConfigError, match=message):
        EtriActivity3D(root, subset="list", videos=root / "list.txt")


def test_list_belongs_to_subset_list(root):
    with pytest.raises(ConfigError, match=r"dataset\.videos=null with dataset\.subset=list"):
        EtriActivity3D(root, subset="list")
    with pytest.raises(ConfigError, match=r"dataset\.videos=x\.txt with dataset\.subset=test"):
        EtriActivity3D(root, videos="x.txt")
    with pytest.raises(ConfigError, match=r"dataset\.videos=x\.txt: no such file"):
        EtriActivity3D(root, subset="list", videos="x.txt")


def test_second_file_of_a_video_is_a_problem(root):
    (root / "A055_P003_G002_C001.avi").touch()
    dataset = EtriActivity3D(root, subset="train")
    assert len(dataset) == 2
    assert [(p.id, p.kind) for p in dataset.problems] == [("P001-P010/P003/A055_P003_G002_C001.mp4", "rejected")]


def test_link_that_leads_round_in_a_circle(root):
    (root / "P001-P010" / "again").symlink_to(root)
    assert len(EtriActivity3D(root)) == 3


def test_no_video_of_the_subset(tmp_path):
    (tmp_path / "A001_P001_G001_C001.mp4").touch()
    with pytest.raises(ConfigError, match=r"none of its videos is of subset test .*\(1 files named as"):
        EtriActivity3D(tmp_path)


def test_clip(tmp_path, write_video):
    write_video(tmp_path / "A003_P009_G001_C001.avi", 8)
    dataset = EtriActivity3D(tmp_path, window="start")
    clip = dataset.load(dataset.entries[0], InputSpec(frames=4, size=(16, 16)))
    assert clip.frames[:, 8, 8, 0].tolist() == [0, 4, 8, 12]
    assert (clip.class_name, clip.group) == ("taking medicine", "P009")
