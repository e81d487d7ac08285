"""Kinetics: every form of its annotation, every layout of its clips, and what is missing by name."""

from __future__ import annotations

import builtins
import io
import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.data.kinetics400 import Kinetics400
from aosa.data.kinetics700 import Kinetics700
from aosa.errors import ConfigError

SPEC = InputSpec(frames=4, size=(16, 16))
HEADER = "label,youtube_id,time_start,time_end,split"
KNOT, HEAD = "tying knot (not on a tie)", "massaging person's head"
ROWS = [f"{KNOT},-nocCq4v1mM,417,427,val", f'"{HEAD}",abcdefghij0,0,10,val', f"{KNOT},abcdefghij1,7,17,val"]
IDS = [f"{KNOT}/-nocCq4v1mM_000417_000427", f"{HEAD}/abcdefghij0_000000_000010", f"{KNOT}/abcdefghij1_000007_000017"]


def ids(dataset: Kinetics400) -> list[str]:
    return [entry.id for entry in dataset.entries]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def root(tmp_path) -> Path:
    """Three clips in two classes."""
    (tmp_path / "val.csv").write_text("\n".join([HEADER, *ROWS]))
    return touch(tmp_path, *(f"val/{id}.mp4" for id in IDS))


def test_ids_classes_and_groups(root):
    dataset = Kinetics400(root)
    assert dataset.class_names == [HEAD, KNOT]
    assert [(e.id, e.class_name, e.group) for e in dataset.entries] == [
        (IDS[0], KNOT, "-nocCq4v1mM"),
        (IDS[2], KNOT, "abcdefghij1"),
        (IDS[1], HEAD, "abcdefghij0"),
    ]
    assert dataset.problems == []


@pytest.mark.parametrize(
    "place",
    [
        "val/tying_knot_(not_on_a_tie)/-nocCq4v1mM_000417_000427.mkv",
        "val/tying knot not on a tie/-nocCq4v1mM_000417_000427.WEBM",
        "val/-nocCq4v1mM_000417_000427.mp4",
        f"val/{KNOT}/-nocCq4v1mM.avi",
        f"val/{IDS[0]}/image_00001.jpg",
        "val/-nocCq4v1mM_000417_000427/image_00001.jpg",
    ],
)
def test_layouts(root, place):
    (root / f"val/{IDS[0]}.mp4").unlink()
    dataset = Kinetics400(touch(root, place))
    assert ids(dataset) == [IDS[0], IDS[2], IDS[1]]
    path = dataset.entries[0].path
    assert path == root / (place if path.is_file() else Path(place).parent)


@pytest.mark.parametrize(
    ("subset", "folder"),
    [("val", "videos_val"), ("val", "val_256"), ("val", "validate"), ("val", "jpg"), ("train", "rawframes_train")],
)
def test_folders_under_published_names(root, subset, folder):
    (root / "train.csv").write_text("\n".join([HEADER, *ROWS]).replace(",val", ",train"))
    (root / "val").rename(root / folder)
    assert len(Kinetics400(root, subset=subset)) == 3


def test_folder_and_annotation_by_name(root, tmp_path):
    (root / "val").rename(root / "clips")
    (root / "val.csv").rename(root / "my list.csv")
    assert len(Kinetics400(root, annotations=root / "my list.csv", folder="clips")) == 3


@pytest.mark.parametrize(
    "name", ["validate.csv", "annotations/val.csv", "kinetics-700_val.csv", "kinetics_val.csv", "kinetics700_val.csv"]
)
def test_annotations_under_published_names(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    (root / "val.csv").rename(root / name)
    touch(root, "train.csv", "notes.csv", "my_val.csv")
    assert len(Kinetics700(root)) == 3


def test_several_annotations(root):
    touch(root, "annotations/val.csv")
    with pytest.raises(ConfigError, match=r"holds several: annotations/val\.csv, val\.csv; name one"):
        Kinetics400(root)


def official(subset: str = "validate") -> dict[str, object]:
    clips = [("-nocCq4v1mM", KNOT, [417.0, 427.0]), ("abcdefghij0", HEAD, [0, 10]), ("abcdefghij1", KNOT, [7, 17])]
    return {
        key: {"annotations": {"label": label, "segment": segment}, "duration": 10.0, "subset": subset, "url": "…"}
        for key, label, segment in clips
    }


def resnets() -> dict[str, object]:
    database = {
        id.split("/")[1]: {"subset": "validation", "annotations": {"label": id.split("/")[0], "segment": [1, 251]}}
        for id in IDS
    }
    database["abcdefghij2_000007_000017"] = {"subset": "training", "annotations": {"label": KNOT}}
    database["abcdefghij3_000007_000017"] = {"subset": "testing", "annotations": {}}
    return {"labels": [KNOT, HEAD], "database": database}


def activitynet() -> dict[str, object]:
    return {"database": {k: {**v, "annotations": [v["annotations"]]} for k, v in official("validation").items()}}


@pytest.mark.parametrize(
    ("content", "name", "classes"),
    [
        (official(), "validate.json", [HEAD, KNOT]),
        (resnets(), "kinetics700.json", [KNOT, HEAD]),
        (activitynet(), "kinetics.json", [HEAD, KNOT]),
    ],
)
def test_forms_of_json(root, content, name, classes):
    (root / "val.csv").unlink()
    (root / name).write_text(json.dumps(content))
    dataset = Kinetics400(root)
    assert ids(dataset) == [IDS[0], IDS[2], IDS[1]]
    assert dataset.class_names == classes


def test_split_column_decides(root):
    with (root / "val.csv").open("a") as file:
        file.write(f"\n{KNOT},abcdefghij4,0,10,train\n{KNOT},abcdefghij5,0,10,validate\n")
    assert [p.id for p in Kinetics400(root).problems] == [f"{KNOT}/abcdefghij5_000000_000010"]
    (root / "val").rename(root / "train")
    with pytest.raises(ConfigError, match=r"none of the 1 listed videos \(kinetics400\) is there; the first is looked"):
        Kinetics400(root, annotations=root / "val.csv", subset="train")
    with pytest.raises(ConfigError, match=r"val\.csv: no video of subset test in it"):
        Kinetics400(root, annotations=root / "val.csv", subset="test", folder="train")


def test_missing_videos_are_problems_by_name(root):
    (root / f"val/{IDS[2]}.mp4").unlink()
    (root / f"val/{IDS[1]}.mp4").rename(root / f"val/{KNOT}/abcdefghij0_000000_000010.mp4")
    problems = {p.id: (p.kind, p.reason) for p in Kinetics400(root).problems}
    assert problems == {
        IDS[2]: ("missing", f"val/{IDS[2]}.mp4 is not there, nor another form of it"),
        IDS[1]: (
            "missing",
            f"it is not in the folder of its class; val/{KNOT}/abcdefghij0_000000_000010.mp4 is there",
        ),
    }


def test_second_file_of_a_video_is_a_problem(root):
    dataset = Kinetics400(touch(root, f"val/{IDS[0]}.mkv"))
    assert len(dataset) == 3
    assert [(p.id, p.kind) for p in dataset.problems] == [(f"val/{IDS[0]}.mp4", "rejected")]


def test_bare_youtube_id_needs_one_clip_of_that_video(root):
    """Which of two clips of one video the file is, nobody knows."""
    (root / f"val/{IDS[0]}.mp4").unlink()
    with (root / "val.csv").open("a") as file:
        file.write(f"\n{KNOT},-nocCq4v1mM,17,27,val\n")
    dataset = Kinetics400(touch(root, f"val/{KNOT}/-nocCq4v1mM.mp4"))
    assert len(dataset) == 2
    assert len(dataset.problems) == 2


@pytest.mark.parametrize(
    "name",
    ["-nocCq4v1mM_417_427.mp4", "-nocCq4v1mM_000417_000427.mp4.MKV", "-nocCq4v1mM_0417_427.0.webm"],
)
@pytest.mark.parametrize("folder", [KNOT, "."])
def test_file_named_as_crawlers_name_it(root, folder, name):
    """Times of other digits than the annotation's, and an extension more than the file has need of."""
    (root / f"val/{IDS[0]}.mp4").rename(root / "val" / folder / name)
    dataset = Kinetics400(root)
    assert (ids(dataset), dataset.problems) == ([IDS[0], IDS[2], IDS[1]], [])
    assert dataset.entries[0].path == root / "val" / folder / name


def test_files_that_could_both_be_a_video(root):
    (root / f"val/{IDS[0]}.mp4").unlink()
    dataset = Kinetics400(touch(root, "val/-nocCq4v1mM_417_427.mp4", "val/-nocCq4v1mM_0417_0427.mp4"))
    assert [(p.id, p.reason) for p in dataset.problems] == [
        (
            IDS[0],
            "-nocCq4v1mM_000417_000427 is not there, and several could be it: -nocCq4v1mM_0417_0427, "
            "-nocCq4v1mM_417_427",
        )
    ]


def test_name_of_another_video_is_not_taken_for_other_times(root):
    """A YouTube id may end as times do."""
    with (root / "val.csv").open("a") as file:
        file.write(f"\n{KNOT},ab,1,23456,val\n{KNOT},ab_1_23456,0,10,val\n")
    dataset = Kinetics400(touch(root, f"val/{KNOT}/ab_1_23456.mp4"))
    assert [p.id for p in dataset.problems] == [f"{KNOT}/ab_000001_023456"]
    assert ids(dataset)[2] == f"{KNOT}/ab_1_23456_000000_000010"


def test_class_that_the_labels_lack_is_a_problem(root):
    content = resnets()
    content["labels"] = [KNOT]
    (root / "val.csv").unlink()
    (root / "kinetics700.json").write_text(json.dumps(content))
    dataset = Kinetics400(root)
    assert ids(dataset) == [IDS[0], IDS[2]]
    reason = f"its class {HEAD!r} is none of the 1 labels of kinetics700.json"
    assert [(p.id, p.kind, p.reason) for p in dataset.problems] == [(IDS[1], "rejected", reason)]
    assert Kinetics400(root, classes=[KNOT]).problems == []


def test_classes(root):
    dataset = Kinetics400(root, classes=[HEAD])
    assert (ids(dataset), dataset.class_names) == ([IDS[1]], [HEAD])
    with pytest.raises(ConfigError, match=r"'tying knot' is not one of the 2 classes of kinetics400; close:"):
        Kinetics400(root, classes=["tying knot"])


def test_manifest_does_not_depend_on_the_classes_asked_for(root, tmp_path):
    one = Kinetics400(root, classes=[HEAD], per_class=1, manifest=tmp_path / "m.csv")
    both = Kinetics400(root, per_class=1, manifest=tmp_path / "m.csv")
    assert (len(one), len(both)) == (1, 2)
    assert ids(both) == ids(Kinetics400(root, per_class=1))


def test_identity_knows_the_window_and_neither_selection_nor_place(root):
    assert Kinetics400(root).identity() == Kinetics400(root, per_class=1, seed=3, classes=[KNOT]).identity()
    assert Kinetics400(root).identity() != Kinetics400(root, window="start").identity()
    assert Kinetics400(root).identity() != Kinetics700(root).identity()
    assert str(root) not in repr(Kinetics400(root).identity())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../x,abcdefghij9,0,10,val", r"^[^ ]*val\.csv: line 5: label='\.\./x' cannot be the name"),
        ("x,../../etc/passwd,0,10,val", r"^[^ ]*val\.csv: line 5: youtube_id='\.\./\.\./etc/passwd' cannot be"),
        ("x,/etc/passwd,0,10,val", r"youtube_id='/etc/passwd' cannot be"),
        (",abcdefghij9,0,10,val", r"^[^ ]*val\.csv: line 5: label='' cannot be"),
        ("x,abcdefghij9,soon,10,val", r"^[^ ]*val\.csv: line 5: time_start='soon' is not a number"),
        ("x,abcdefghij9,0", r"^[^ ]*val\.csv: line 5 has 3 fields, the header has 5"),
        ("x,abcdefghij0,0,10,val", r"^[^ ]*val\.csv: line 3 and line 5 give abcdefghij0_000000_000010 two labels"),
    ],
)
def test_bad_rows_are_named_by_their_line(root, row, message):
    with (root / "val.csv").open("a") as file:
        file.write("\n" + row)
    with pytest.raises(ConfigError, match=message):
        Kinetics400(root)


def test_row_that_comes_twice_is_one_video(root):
    (root / "val.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, *ROWS, ROWS[0]]).encode())
    assert len(Kinetics400(root)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "neither the official JSON of Kinetics nor that of 3D-ResNets"),
        ("no json", r"other\.json: not JSON"),
        ("[" * 100_000, r"other\.json: not JSON"),
        ('{"x": {}, "x": {}}', r"other\.json: not JSON \('x' comes twice in one object\)"),
        ('{"x": {"subset": "val"}}', r"KeyError: 'annotations'"),
        ('{"x": {"subset": "val", "annotations": {"label": "a"}}}', r"KeyError: 'segment'"),
        ('{"x": {"subset": "val", "annotations": {"label": "a", "segment": [1]}}}', r"neither the official"),
        ('{"../x": {"subset": "val", "annotations": {"label": "a", "segment": [1, 2]}}}', r"youtube_id='\.\./x'"),
        (
            '{"labels": ["b"], "database": {"x": {"subset": "val", "annotations": {"label": "a", "segment": [1, 2]}}}}',
            r"no video of subset val in it whose class is one of its 1 labels; its class 'a' is none of the 1 labels",
        ),
        ("{}", "no video of subset val in it"),
    ],
)
def test_json_of_something_else(root, text, message):
    (root / "other.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Kinetics400(root, annotations=root / "other.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "dev"}, r"dataset\.subset=dev: choose one of val, train, test"),
        (
            {"subset": "train"},
            r"no annotation of subset train in it .* such as train\.csv; or set dataset\.annotations",
        ),
        ({"folder": "clips"}, r"dataset\.folder=clips: no such folder in dataset\.root="),
        ({"folder": "../clips"}, r"dataset\.folder=\.\./clips: give a folder below dataset\.root="),
        ({"folder": "/clips"}, r"dataset\.folder=/clips: give a folder below dataset\.root="),
        ({"annotations": "/gone.csv"}, r"dataset\.annotations=/gone\.csv: no such file"),
        ({"per_class": 0}, r"dataset\.per_class=0"),
        ({"window": "middle"}, r"dataset\.window=middle"),
    ],
)
def test_options_out_of_range_and_files_that_are_not_there(root, options, message):
    with pytest.raises(ConfigError, match=message):
        Kinetics400(root, **options)


def test_ten_thousand_videos_are_listed_and_none_is_touched(tmp_path, monkeypatch):
    """Of 10 000 listed videos in 400 classes half are there: each folder is listed once, no video's state is asked
    for, none is opened."""
    rows = [f"class {c},v{c:03d}_{k:07d},{k},{k + 10},val" for c in range(400) for k in range(25)]
    (tmp_path / "val.csv").write_text("\n".join([HEADER, *rows]))
    for c in range(400):
        folder = tmp_path / "val" / f"class_{c}"
        folder.mkdir(parents=True)
        for k in range(0, 25, 2):
            (folder / f"v{c:03d}_{k:07d}_{k:06d}_{k + 10:06d}.mp4").touch()
    calls: Counter[str] = Counter()

    def counted(name, function):
        def call(*args, **kwargs):
            calls[name] += 1
            calls[f"{name} of a video"] += str(args[0] if args else "").endswith(".mp4")
            return function(*args, **kwargs)

        return call

    for module, name in [(os, "scandir"), (os, "stat"), (os, "lstat"), (os, "open"), (io, "open"), (builtins, "open")]:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    dataset = Kinetics400(tmp_path)
    ten = Kinetics400(tmp_path, per_class=10)
    monkeypatch.undo()
    assert (len(dataset), len(dataset.problems)) == (400 * 13, 400 * 12)
    assert len(ten) == 400 * 10
    assert calls["scandir"] == 2 * 401
    assert calls["stat"] + calls["lstat"] + calls["open"] < 100
    assert not any(count for name, count in calls.items() if name.endswith("of a video"))


def test_frames_layout_of_3d_resnets(tmp_path):
    folder = tmp_path / "jpg" / KNOT / "-nocCq4v1mM_000417_000427"
    folder.mkdir(parents=True)
    for i in range(1, 7):
        cv2.imwrite(str(folder / f"image_{i:05d}.jpg"), np.full((32, 48, 3), 40 * i, np.uint8))
    (tmp_path / "kinetics700.json").write_text(json.dumps(resnets()))
    dataset = Kinetics700(tmp_path, window="start")
    clip = dataset.load(dataset.entries[0], SPEC)
    assert clip.frames[:, 8, 8, 0].tolist() == [40, 80, 120, 160]
    assert clip.source["path"] == f"jpg/{KNOT}/-nocCq4v1mM_000417_000427"
    assert (clip.class_name, clip.group) == (KNOT, "-nocCq4v1mM")


@pytest.mark.real
def test_real_clips(shared_data, tmp_path):
    rows = ["abseiling,abseiling_k400", "arm wrestling,arm_wrestling_demo", "flipping pancake,flipping_a_pancake"]
    rows += ["abseiling,gone0000000", "zumba,gone0000001"]
    (tmp_path / "val.csv").write_text("\n".join([HEADER, *(f"{row},0,10,val" for row in rows)]))
    dataset = Kinetics400(shared_data / "kinetics400", annotations=tmp_path / "val.csv", per_class=10)
    assert [e.class_name for e in dataset.entries] == ["abseiling", "arm wrestling", "flipping pancake"]
    assert {p.id for p in dataset.problems} == {
        "abseiling/gone0000000_000000_000010",
        "zumba/gone0000001_000000_000010",
    }
    for entry, frames, height in zip(dataset.entries, (250, 280, 310), (256, 256, 240), strict=True):
        clip = dataset.load(entry, InputSpec())
        assert (clip.source["frames_in_video"], clip.source["start"]) == (frames, (frames - 16) // 2)
        assert clip.source["size"][0] == height
