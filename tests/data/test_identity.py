"""The identity of every data set, word for word: a digest that changes makes all its results anew."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aosa.data.base import VideoDataset
from aosa.data.epic_action import EpicAction
from aosa.data.epic_object import EpicObject
from aosa.data.etri_activity3d import EtriActivity3D
from aosa.data.kinetics400 import Kinetics400
from aosa.data.kinetics700 import Kinetics700
from aosa.data.moving_shapes import MovingShapes
from aosa.data.ucf101 import UCF101
from aosa.data.ucf101_24 import UCF10124
from aosa.data.video_folder import VideoFolder
from aosa.data.video_list import VideoList

VIDEO = "Surfing/v_Surfing_g01_c01"
FILES = {
    "folder/Surfing/a.mp4": "",
    "list.txt": "Surfing/a.mp4 Surfing\n",
    "kinetics/val.csv": "label,youtube_id,time_start,time_end,split\nsurfing,abcdefghijk,0,10,val\n",
    "kinetics/val/surfing/abcdefghijk_000000_000010.mp4": "",
    "etri/A001_P003_G001_C001.mp4": "",
    "etri/A001_P001_G001_C001.mp4": "",
    f"ucf101/UCF-101/{VIDEO}.avi": "",
    "ucf101/ucfTrainTestlist/classInd.txt": "1 Archery\n2 Surfing\n",
    "ucf101/ucfTrainTestlist/testlist01.txt": f"{VIDEO}.avi\n",
    f"ucf101/jpg/{VIDEO}/image_00001.jpg": "",
    "ucf101/ucf101_01.json": json.dumps(
        {
            "labels": ["Archery", "Surfing"],
            "database": {"v_Surfing_g01_c01": {"subset": "validation", "annotations": {"label": "Surfing"}}},
        }
    ),
    "epic/open-door-P01_01_0/000000001.jpg": "",
}
PLAIN = {"window": "centre", "index": None, "interval": None, "class_map": {}}
CHANGED = {
    "window": "index",
    "index": 2,
    "interval": 3,
    "short_videos": "loop",
    "class_map": {"b": "c", "Surfing": "a"},
}
SHAPES = {"name": "moving_shapes", "version": 1, "split": "test", "seed": 0, "distractors": [3, 3], "relevant": True}
# What only selects videos is in no identity.
CASES: list[tuple[type[VideoDataset], str, dict[str, Any], dict[str, Any]]] = [
    (VideoFolder, "folder", {}, {"dataset": "video_folder"}),
    (VideoFolder, "folder", {"classes": ["Surfing"], "extensions": ["MP4"]}, {"dataset": "video_folder"}),
    (VideoList, "folder", {"videos": "list.txt"}, {"dataset": "video_list"}),
    (
        VideoList,
        "folder",
        {"videos": "list.txt", "per_class": 1, "seed": 2, "class_names": ["Surfing"], "labels": "names"},
        {"dataset": "video_list"},
    ),
    (UCF101, "ucf101", {}, {"dataset": "ucf101", "layout": "video"}),
    (
        UCF101,
        "ucf101",
        {"layout": "frames", "classes": ["Surfing"], "limit_per_class": 1},
        {"dataset": "ucf101", "layout": "frames"},
    ),
    (UCF10124, "ucf101", {"annotations": "boxes.pkl"}, {"dataset": "ucf101_24", "layout": "video"}),
    (Kinetics400, "kinetics", {}, {"dataset": "kinetics400"}),
    (Kinetics700, "kinetics", {"per_class": 1, "folder": "val", "seed": 1}, {"dataset": "kinetics700"}),
    (EtriActivity3D, "etri", {}, {"dataset": "etri_activity3d"}),
    (EtriActivity3D, "etri", {"subset": "train", "per_class": 1}, {"dataset": "etri_activity3d"}),
    (EpicAction, "epic", {}, {"dataset": "epic_action", "background": True, "seed": 0}),
    (EpicAction, "epic", {"seed": 4, "top": 3}, {"dataset": "epic_action", "background": True, "seed": 4}),
    (
        EpicAction,
        "epic",
        {"seed": 4, "background": False},
        {"dataset": "epic_action", "background": False, "seed": None},
    ),
    (EpicObject, "epic", {"seed": 4, "per_class": 2, "min_frames": 3}, {"dataset": "epic_object", "reach": 3}),
    (EpicObject, "epic", {"reach": 0}, {"dataset": "epic_object", "reach": 0}),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    tube = {"label": 1, "sf": np.uint8(0), "ef": np.uint8(1), "boxes": np.array([[0, 0, 9, 9]], np.uint8)}
    boxes = {VIDEO: {"annotations": [tube], "numf": np.uint8(1), "label": 1}}
    (root / "boxes.pkl").write_bytes(pickle.dumps(boxes, protocol=3))
    return root


def make(root: Path, kind: type[VideoDataset], folder: str, options: dict[str, Any]) -> VideoDataset:
    files = {key: root / value for key, value in options.items() if value in ("list.txt", "boxes.pkl")}
    return kind(root=root / folder, **{**options, **files})


@pytest.mark.parametrize(("kind", "folder", "options", "expected"), CASES)
def test_defaults_and_options_of_its_own(root, kind, folder, options, expected):
    assert make(root, kind, folder, options).identity() == {**PLAIN, **expected}


@pytest.mark.parametrize(("kind", "folder", "options", "expected"), CASES)
def test_name_window_and_class_map(root, kind, folder, options, expected):
    changed = make(root, kind, folder, {**options, **CHANGED, "name": "mine"})
    assert changed.identity() == {**expected, **CHANGED, "dataset": "mine"}


@pytest.mark.parametrize("kind", sorted({case[0] for case in CASES}, key=lambda kind: kind.__name__))
def test_damaged_videos(root, kind):
    folder, options, expected = next(case[1:] for case in CASES if case[0] is kind)
    if kind in (EpicAction, EpicObject):  # images are all there
        with pytest.raises(TypeError, match="damaged_videos"):
            make(root, kind, folder, {**options, "damaged_videos": "use"})
    else:
        used = make(root, kind, folder, {**options, "damaged_videos": "use"})
        assert used.identity() == {**PLAIN, **expected, "damaged_videos": "use"}


def test_moving_shapes():
    assert MovingShapes(size=1).identity() == SHAPES
    changed = {"split": "val", "seed": 3, "relevant": False}
    assert MovingShapes(size=1, **changed).identity() == {**SHAPES, **changed}
    assert MovingShapes(size=1, distractors=[1, 4]).identity() == {**SHAPES, "distractors": [1, 4]}
    assert MovingShapes(size=1, distractors=0).identity() == {**SHAPES, "distractors": [0, 0]}
