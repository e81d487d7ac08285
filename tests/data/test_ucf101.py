"""UCF101 in both layouts: the lists decide, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.data.ucf101 import UCF101
from aosa.errors import ConfigError

SPEC = InputSpec(frames=4, size=(16, 16))
HANDSTAND = "HandstandPushups/v_HandStandPushups_g01_c01"


@pytest.fixture
def root(tmp_path) -> Path:
    """Three classes, split 1; the lists end their lines as the official ones do."""
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_bytes(b"1 Archery\r\n2 HandstandPushups\r\n3 YoYo\r\n")
    test = ["Archery/v_Archery_g01_c01", "Archery/v_Archery_g01_c02", "Archery/v_Archery_g02_c01", HANDSTAND]
    (lists / "testlist01.txt").write_bytes("".join(f"{v}.avi\r\n" for v in test).encode())
    (lists / "trainlist01.txt").write_bytes(b"YoYo/v_YoYo_g08_c01.avi 3\r\n")
    for video in [*test, "YoYo/v_YoYo_g08_c01"]:
        path = tmp_path / "UCF-101" / f"{video}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def ids(dataset: UCF101) -> list[str]:
    return [entry.id for entry in dataset.entries]


def test_test_list_gives_ids_classes_and_groups(root):
    dataset = UCF101(root)
    assert dataset.class_names == ["Archery", "HandstandPushups", "YoYo"]
    assert [(e.id, e.class_name, e.group) for e in dataset.entries] == [
        ("Archery/v_Archery_g01_c01", "Archery", "Archery/g01"),
        ("Archery/v_Archery_g01_c02", "Archery", "Archery/g01"),
        ("Archery/v_Archery_g02_c01", "Archery", "Archery/g02"),
        (HANDSTAND, "HandstandPushups", "HandstandPushups/g01"),
    ]
    assert dataset.problems == []


def test_train_list_carries_labels_that_are_no_part_of_the_name(root):
    assert ids(UCF101(root, subset="train")) == ["YoYo/v_YoYo_g08_c01"]


def test_missing_videos_are_problems_by_name(root):
    (root / "UCF-101/Archery/v_Archery_g01_c02.avi").unlink()
    dataset = UCF101(root)
    assert len(dataset) == 3
    assert [(p.id, p.kind) for p in dataset.problems] == [("Archery/v_Archery_g01_c02", "missing")]
    assert dataset.problems[0].reason == "UCF-101/Archery/v_Archery_g01_c02.avi is not there"


def test_missing_video_whose_case_alone_differs(root):
    (root / f"UCF-101/{HANDSTAND}.avi").rename(root / "UCF-101/HandstandPushups/v_HandstandPushups_g01_c01.avi")
    assert UCF101(root).problems[0].reason.endswith("; v_HandstandPushups_g01_c01.avi differs only in case")


@pytest.mark.parametrize("name", ["mp4", "AVI", "MKV", "webm", "avi.mp4"])
def test_video_of_another_extension_than_listed(root, name):
    path = root / "UCF-101/Archery" / f"v_Archery_g01_c02.{name}"
    (root / "UCF-101/Archery/v_Archery_g01_c02.avi").rename(path)
    dataset = UCF101(root)
    assert (len(dataset), dataset.problems) == (4, [])
    assert (dataset.entries[1].id, dataset.entries[1].path) == ("Archery/v_Archery_g01_c02", path)


def test_videos_of_several_other_extensions(root):
    path = root / "UCF-101/Archery/v_Archery_g01_c02.avi"
    path.rename(path.with_suffix(".mp4"))
    path.with_suffix(".mkv").touch()
    reason = (
        "UCF-101/Archery/v_Archery_g01_c02.avi is not there, and several could be it: v_Archery_g01_c02.mkv, "
        "v_Archery_g01_c02.mp4"
    )
    assert [(p.id, p.kind, p.reason) for p in UCF101(root).problems] == [
        ("Archery/v_Archery_g01_c02", "missing", reason)
    ]
    path.touch()
    assert UCF101(root).entries[1].path == path, "the listed one is taken"


def test_class_that_the_class_list_lacks_is_a_problem(root):
    (root / "ucfTrainTestlist/classInd.txt").write_text("1 Archery\n2 YoYo\n")
    dataset = UCF101(root)
    assert len(dataset) == 3
    reason = "its class 'HandstandPushups' is none of the 2 of the class list"
    assert [(p.id, p.kind, p.reason) for p in dataset.problems] == [(HANDSTAND, "rejected", reason)]
    assert UCF101(root, classes=["Archery"]).problems == []


def test_number_of_another_class_and_a_video_that_is_listed_twice(root):
    path = root / "ucfTrainTestlist/trainlist01.txt"
    path.write_text("YoYo/v_YoYo_g08_c01.avi 3\n" * 2 + "YoYo/v_YoYo_g08_c02.avi 2\n")
    dataset = UCF101(root, subset="train")
    assert ids(dataset) == ["YoYo/v_YoYo_g08_c01"]
    assert [(p.id, p.reason) for p in dataset.problems] == [
        ("YoYo/v_YoYo_g08_c01", "it is listed a second time"),
        ("YoYo/v_YoYo_g08_c02", "trainlist01.txt gives it the number 2, and its class has 3"),
    ]


def test_class_list_whose_numbers_have_a_hole(root):
    (root / "ucfTrainTestlist/classInd.txt").write_text("1 Archery\n3 YoYo\n")
    with pytest.raises(ConfigError, match=r"classInd\.txt: the numbers must count .*, and 2 is missing"):
        UCF101(root)


def test_missing_folder_whose_case_alone_differs(root):
    (root / "UCF-101/HandstandPushups").rename(root / "UCF-101/HandStandPushups")
    reason = UCF101(root).problems[0].reason
    assert reason == "no folder UCF-101/HandstandPushups; HandStandPushups differs only in case"


def test_none_of_the_videos_is_there(root):
    (root / "UCF-101").rename(root / "UCF101")
    with pytest.raises(ConfigError, match=r"none of the 4 listed videos .* looked for as UCF-101/"):
        UCF101(root)


def test_classes_and_limit(root):
    assert ids(UCF101(root, classes=["HandstandPushups"])) == [HANDSTAND]
    assert ids(UCF101(root, limit_per_class=1)) == ["Archery/v_Archery_g01_c01", HANDSTAND]


def test_limit_counts_the_videos_that_are_there(root):
    (root / "UCF-101/Archery/v_Archery_g01_c01.avi").unlink()
    assert ids(UCF101(root, limit_per_class=1))[0] == "Archery/v_Archery_g01_c02"


def test_class_that_differs_only_in_case(root):
    with pytest.raises(ConfigError, match=r"'HandStandPushups' .* differs only in case from 'HandstandPushups'"):
        UCF101(root, classes=["HandStandPushups"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": 4}, r"dataset\.split=4: choose one of 1, 2, 3"),
        ({"subset": "val"}, r"dataset\.subset=val: choose one of test, train"),
        ({"layout": "rar"}, r"dataset\.layout=rar: choose one of video, frames"),
        ({"limit_per_class": 0}, r"dataset\.limit_per_class=0"),
        ({"split": 2}, r"ucfTrainTestlist/testlist02\.txt is not there"),
        ({"layout": "frames"}, r"ucf101_01\.json is not there"),
    ],
)
def test_options_out_of_range_and_lists_that_are_not_there(root, options, message):
    with pytest.raises(ConfigError, match=message):
        UCF101(root, **options)


def test_identity_knows_the_window_and_not_the_selection_or_the_place(root):
    assert UCF101(root).identity() != UCF101(root, window="start").identity()
    assert UCF101(root).identity() == UCF101(root, limit_per_class=1, classes=["Archery"]).identity()
    assert str(root) not in repr(UCF101(root).identity())


@pytest.mark.parametrize("line", ["../../secret/v.avi", "../v.avi", "v_Archery_g01_c01.avi", "a/..", "Archery/"])
def test_list_that_leads_out_of_the_folder_is_refused(root, line):
    (root / "ucfTrainTestlist/testlist01.txt").write_text(f"Archery/v_Archery_g01_c01.avi\n\n{line}\n")
    with pytest.raises(ConfigError, match=r"^[^ ]*testlist01\.txt: line 3 holds '.*', which is no <Class>/<video>"):
        UCF101(root)


def test_all_of_the_listed_videos_are_found_among_thousands(root):
    videos = [f"C{c}/v_C{c}_g{g:02d}_c{k:02d}.avi" for c in range(20) for g in range(1, 8) for k in range(1, 8)]
    (root / "ucfTrainTestlist/classInd.txt").write_text("".join(f"{c + 1} C{c}\n" for c in range(20)))
    (root / "ucfTrainTestlist/testlist01.txt").write_text("\n".join(videos))
    for c in range(10):
        (root / f"UCF-101/C{c}").mkdir()
    for video in videos[: len(videos) // 2 : 2]:
        (root / "UCF-101" / video).touch()
    dataset = UCF101(root)
    assert ids(dataset) == [v.removesuffix(".avi") for v in videos[: len(videos) // 2 : 2]]
    assert len(dataset.problems) == len(videos) - len(dataset)


@pytest.fixture
def frames_root(tmp_path) -> Path:
    """One video of six images, image i grey 40·i; a second one is listed and missing."""
    folder = tmp_path / "jpg/CliffDiving/v_CliffDiving_g01_c01"
    folder.mkdir(parents=True)
    for i in range(1, 7):
        cv2.imwrite(str(folder / f"image_{i:05d}.jpg"), np.full((32, 48, 3), 40 * i, np.uint8))
    item = {"subset": "validation", "annotations": {"label": "CliffDiving", "segment": [1, 7]}}
    database = {"v_CliffDiving_g01_c01": item, "v_CliffDiving_g01_c02": item}
    database["v_CliffDiving_g08_c01"] = {**item, "subset": "training"}
    (tmp_path / "ucf101_01.json").write_text(json.dumps({"labels": ["CliffDiving"], "database": database}))
    return tmp_path


def test_frames_layout(frames_root):
    dataset = UCF101(frames_root, layout="frames", window="start", interval=1)
    assert ids(dataset) == ["CliffDiving/v_CliffDiving_g01_c01"]
    assert [p.id for p in dataset.problems] == ["CliffDiving/v_CliffDiving_g01_c02"]
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.frames[:, 8, 8, 0].tolist() == [40, 80, 120, 160]
    assert (clip.class_name, clip.group) == ("CliffDiving", "CliffDiving/g01")
    assert clip.source["path"] == "jpg/CliffDiving/v_CliffDiving_g01_c01"


def test_frames_layout_fingerprint_changes_with_one_image(frames_root):
    dataset = UCF101(frames_root, layout="frames")
    before = dataset.fingerprint(dataset.entries[0])
    cv2.imwrite(str(dataset.entries[0].path / "image_00003.jpg"), np.zeros((32, 48, 3), np.uint8))
    assert dataset.fingerprint(dataset.entries[0]) != before


@pytest.mark.parametrize("text", ['{"videos": []}', '{"labels": [], "database": {"v": {}}}', "[]", "no json"])
def test_json_of_something_else(frames_root, text):
    (frames_root / "ucf101_01.json").write_text(text)
    with pytest.raises(ConfigError, match=r"ucf101_01\.json: not (an annotation of 3D-ResNets-PyTorch|JSON)"):
        UCF101(frames_root, layout="frames")


@pytest.mark.real
def test_official_lists(shared_data):
    """Split 1: 3783 test and 9537 train videos; those that are not there are named."""
    for subset, listed in (("test", 3783), ("train", 9537)):
        dataset = UCF101(shared_data / "ucf101", subset=subset)
        assert len(dataset.class_names) == 101
        assert len(dataset) + len(dataset.problems) == listed
        assert {p.kind for p in dataset.problems} == {"missing"}
    assert "HandstandPushups/v_HandStandPushups_g08_c01" in {p.id for p in dataset.problems}


@pytest.mark.real
def test_real_frames_layout(shared_data):
    dataset = UCF101(shared_data / "ucf101", layout="frames", classes=["CliffDiving"])
    clip = dataset.load(dataset.entries[0], InputSpec())
    assert clip.id == "CliffDiving/v_CliffDiving_g01_c01"
    assert (clip.source["frames_in_video"], clip.source["start"]) == (90, 37)
    image = cv2.imread(str(dataset.entries[0].path / "image_00038.jpg"))[..., ::-1]
    # The mean colour of what the crop shows survives the resize.
    assert np.abs(clip.frames[0].numpy().mean((0, 1)) - image[:, 39:279].mean((0, 1))).max() < 1
