"""EPIC-Kitchens: segments, boxes and their frames, the neighbourhood for T-PT, and every layout."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.config import build, compose, quoted
from aosa.data.epic_action import EpicAction
from aosa.data.epic_lists import read_classes, read_segments
from aosa.data.epic_object import EpicObject
from aosa.errors import ConfigError, VideoError

# 64×36 frames at 32×18: half of everything, nothing cut.
SPEC = InputSpec(frames=4, size=(18, 32), resize="squash")
ACTIONS = "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,"
ACTIONS += "noun,noun_class,all_nouns,all_noun_classes"
ROWS = [
    (0, "P01_01", 5, 20, "open", 2, "door", 8),
    (1, "P01_01", 31, 46, "open", 2, "fridge", 10),
    (2, "P01_01", 51, 58, "turn-on", 12, "tap", 1),
    (3, "P12_06", 1, 16, "take", 0, "door", 8),
    (4, "P30_06", 9, 24, "close", 3, "door", 8),
]
OBJECTS = "noun_class,noun,participant_id,video_id,frame,bounding_boxes"
BOXES = [
    "8,door,P01,P01_01,000007,\"[(270, 480, 540, 960)]\"",
    "8,door,P01,P01_01,13,\"[(0, 0, 108, 192), (540, 960, 540, 960)]\"",
    "8,door,P01,P01_01,21,\"[(0, 0, 1080, 1920)]\"",
    "10,fridge,P01,P01_01,31,[]",
    "1,tap,P01,P01_01,13,\"[(0, 0, 10, 10)]\"",
    "8,door,P12,P12_06,1,\"[(720, 960, 720, 960)]\"",
    "8,door,P30,P30_06,9,\"[(0, 0, 10, 10)]\"",
]  # fmt: skip


def action_row(row: tuple[object, ...]) -> str:
    uid, video, start, stop, verb, verb_class, noun, noun_class = row
    fields = [uid, str(video)[:3], video, f"{verb} {noun}", "00:00:00.14", "00:00:03.37", start, stop]
    return ",".join(map(str, [*fields, verb, verb_class, noun, noun_class, [], []]))


@pytest.fixture
def root(tmp_path):
    """Frame n of P01_01 and P12_06 is grey 2·n; P30_06 is missing."""
    for video, frames in (("P01/P01_01", 60), ("P12/P12_06", 32)):
        (tmp_path / video).mkdir(parents=True)
        for n in range(1, frames + 1):
            cv2.imwrite(str(tmp_path / video / f"frame_{n:010d}.jpg"), np.full((36, 64, 3), 2 * n, np.uint8))
    (tmp_path / "actions.csv").write_text("\n".join([ACTIONS, *map(action_row, ROWS)]))
    (tmp_path / "objects.csv").write_text("\n".join([OBJECTS, *BOXES]))
    return tmp_path


def objects(root, **options) -> EpicObject:
    options = {"annotations": root / "actions.csv", "objects": root / "objects.csv", **options}
    return EpicObject(root, **options)


def actions(root, **options) -> EpicAction:
    return EpicAction(root, **{"annotations": root / "actions.csv", **options})


def ids(dataset) -> list[str]:
    return [entry.id for entry in dataset.entries]


def test_segments_with_a_box_of_their_noun(root):
    """The fridge's list of boxes is empty, the tap's box lies outside its segment."""
    dataset = objects(root)
    assert [(e.id, e.class_name, e.group) for e in dataset.entries] == [
        ("P01_01/0", "door", "P01_01"),
        ("P12_06/3", "door", "P12_06"),
    ]
    assert [(p.id, p.kind) for p in dataset.problems] == [("P30_06/4", "missing")]
    assert dataset.problems[0].reason == "no folder P30/P30_06, and none of segment 4 alone"


def test_clip_shows_the_frames_of_its_segment(root):
    dataset = objects(root, window="segments")
    clip = dataset.load(dataset.entries[0], SPEC)
    # Frames 5 to 20 in four parts.
    assert (clip.frames[:, 9, 16, 0].numpy() / 2).round().tolist() == [5, 9, 13, 17]
    assert clip.source["frames_in_video"] == 16
    assert clip.source["path"] == "P01/P01_01/frame_0000000005.jpg-20"
    assert clip.class_name == "door"


def test_boxes_of_annotated_frames_alone(root):
    """Top, left, height, width in 1920×1080 pixels; frames 5, 9, 13, 17 are shown."""
    dataset = objects(root, window="segments", reach=0)
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [len(b) for b in clip.boxes] == [0, 0, 2, 0]
    assert clip.boxes[2] == pytest.approx(np.array([[0, 0, 3.2, 1.8], [16, 9, 32, 18]]))


def test_boxes_of_frames_near_to_annotated_ones(root):
    dataset = objects(root, window="segments", reach=2)
    clip = dataset.load(dataset.entries[0], SPEC)
    # 5 and 9 are two frames from 7, 17 is four from 13 and from 21, which lies outside the segment.
    assert [len(b) for b in clip.boxes] == [1, 1, 2, 0]
    assert clip.boxes[0].tolist() == clip.boxes[1].tolist() == [[8, 4.5, 24, 13.5]]


def test_boxes_of_a_video_that_is_not_1920_by_1080(root):
    """P12_06 is 1920×1440."""
    dataset = objects(root, window="start")
    clip = dataset.load(dataset.entries[1], SPEC)
    assert clip.boxes[0].tolist() == [[16, 9, 32, 18]]


def test_fingerprint_is_of_the_frames_shown_and_the_boxes(root):
    def of() -> str:
        dataset = objects(root)
        return dataset.fingerprint(dataset.entries[0])

    before = of()
    cv2.imwrite(str(root / "P01/P01_01/frame_0000000021.jpg"), np.zeros((36, 64, 3), np.uint8))
    assert of() == before
    cv2.imwrite(str(root / "P01/P01_01/frame_0000000020.jpg"), np.zeros((36, 64, 3), np.uint8))
    after = of()
    assert after != before
    (root / "objects.csv").write_text("\n".join([OBJECTS, *BOXES]).replace("270", "271"))
    assert of() != after


def test_frames_that_are_missing(root):
    (root / "P01/P01_01/frame_0000000020.jpg").unlink()
    dataset = objects(root)
    assert ids(dataset) == ["P12_06/3"]
    assert dataset.problems[0].reason == "P01/P01_01 lacks frame_0000000020.jpg"
    (root / "P12/P12_06/frame_0000000007.jpg").unlink()
    with pytest.raises(VideoError, match=r"images are missing between frame_0000000006\.jpg and frame_0000000008\.jpg"):
        dataset.load(dataset.entries[0], SPEC)


@pytest.mark.parametrize("place", ["P01/rgb_frames/P01_01", "P01_01"])
def test_other_places_of_the_frames(root, place):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / "P01/P01_01").rename(root / place)
    assert ids(objects(root)) == ["P01_01/0", "P12_06/3"]


@pytest.mark.parametrize("place", ["open-door-P01_01_0", "door-open-P01_01_0", "P01/P01_01/P01_01_0-open-door"])
def test_folder_of_a_segment_with_the_numbers_of_the_video(root, place):
    (root / "P01/P01_01").rename(root / "all")
    (root / place).mkdir(parents=True)
    for n in range(5, 21):
        (root / "all" / f"frame_{n:010d}.jpg").rename(root / place / f"frame_{n:010d}.jpg")
    dataset = objects(root, window="segments", reach=0)
    assert dataset.entries[0].path == root / place
    assert [len(b) for b in dataset.load(dataset.entries[0], SPEC).boxes] == [0, 0, 2, 0]


def test_folder_of_a_segment_with_other_numbers_has_no_boxes(root):
    (root / "P01/P01_01").rename(root / "all")
    (root / "open-door-P01_01_0").mkdir()
    for n in range(4):
        (root / "all" / f"frame_{5 + 4 * n:010d}.jpg").rename(root / "open-door-P01_01_0" / f"{n + 1:09d}.png")
    dataset = objects(root)
    assert dataset.load(dataset.entries[0], SPEC).boxes is None


def test_classes_with_the_most_segments(root):
    dataset = actions(root, background=False, top=1)
    assert dataset.class_names == ["open"]
    assert ids(dataset) == ["P01_01/0", "P01_01/1"]
    assert actions(root).class_names == ["open", "close", "take", "turn-on"]
    assert actions(root, classes=["take"], background=False).class_names == ["take"]


def test_test_and_train_stay_apart(root):
    for options in ({}, {"background": False}, {"classes": ["open"]}):
        parts = [ids(actions(root, per_class=1, subset=s, **options)) for s in ("test", "train")]
        assert not set(parts[0]) & set(parts[1])
        assert {"P01_01/0", "P01_01/1"} <= {*parts[0], *parts[1]}
    assert len(actions(root, background=False, per_class=1, subset="all")) == 4


def test_short_segments_are_left_out(root):
    assert "P01_01/2" not in ids(actions(root, background=False, min_frames=9))
    assert "P01_01/2" in ids(actions(root, background=False, min_frames=8))


def test_action_alone_fills_its_clip(root):
    dataset = actions(root, background=False, window="segments")
    clip = dataset.load(dataset.entries[0], SPEC)
    assert (clip.class_name, clip.segment, clip.boxes) == ("open", (0, 4), None)


def test_part_of_the_action_with_its_neighbourhood(root):
    """As many frames as the action has, from a quarter to three quarters of them the action's, at one end."""
    shares = []
    for seed in range(12):
        dataset = actions(root, seed=seed, window="start")
        piece = next(e for e in dataset.entries if e.id == "P01_01/1").extra["segment"]
        assert piece.stop - piece.start == 46 - 31
        first, last = piece.action
        assert (first, last) in ((piece.start, 46), (31, piece.stop))
        assert 4 <= last - first <= 12
        shares.append((first == 31, last - first))
    assert {side for side, _ in shares} == {True, False}
    assert len({share for _, share in shares}) > 3
    again = actions(root, seed=11, window="start")
    assert next(e for e in again.entries if e.id == "P01_01/1").extra["segment"] == piece


def test_segment_of_the_clip_is_where_the_action_is(root):
    spec = InputSpec(frames=16, size=(18, 32), resize="squash")
    for seed in range(4):
        dataset = actions(root, seed=seed, window="start", classes=["open"])
        entry = next(e for e in dataset.entries if e.id == "P01_01/1")
        clip = dataset.load(entry, spec)
        shown = (clip.frames[:, 9, 16, 0].numpy() / 2).round().astype(int)
        start, stop = clip.segment
        assert [31 <= n <= 46 for n in shown] == [start <= i < stop for i in range(16)]


def test_at_the_beginning_of_a_video_the_neighbourhood_comes_after(root):
    """Of P12_06 the action is the first 16 frames."""
    for seed in range(6):
        (entry,) = actions(root, seed=seed, classes=["take"]).entries
        piece = entry.extra["segment"]
        assert (piece.start, piece.stop) == (piece.action[0], piece.action[0] + 15)
        assert piece.start > 1
        assert piece.action[1] == 16


def test_no_frames_before_and_after_the_action(root):
    for n in range(17, 33):
        (root / f"P12/P12_06/frame_{n:010d}.jpg").unlink()
    dataset = actions(root)
    assert ("P12_06/3", "P12/P12_06 lacks frames before and after the action") in [
        (p.id, p.reason) for p in dataset.problems
    ]
    assert "P12_06/3" in ids(actions(root, background=False))


def test_lists_of_the_step_authors(root):
    text = "seg_id,video_id,noun,verb_label,verb,start_frame,stop_frame,middle_frame,ground\n"
    text += "0,P01_01,door,0,open,-2,16,5,left\n1,P01_01,fridge,0,open,40,55,46,right\n"
    (root / "cat.csv").write_text(text)
    dataset = actions(root, annotations=root / "cat.csv", window="segments", subset="all")
    assert [dataset.load(e, SPEC).segment for e in dataset.entries] == [(1, 4), (0, 2)]

    text = "seg_id,video_id,noun,noun_label,verb,start_frame,stop_frame,bounding_boxes\n"
    text += (
        '0,P01_01,door,6,open,5,20,"{7: (270, 480, 540, 960), 13: [(0, 0, 108, 192), (540, 960, 540, 960)], 14: []}"\n'
    )
    (root / "val.csv").write_text(text)
    dataset = objects(root, annotations=root / "val.csv", objects=None, window="segments", reach=2)
    clip = dataset.load(dataset.entries[0], SPEC)
    assert [len(b) for b in clip.boxes] == [1, 1, 2, 0]
    assert clip.boxes[0].tolist() == [[8, 4.5, 24, 13.5]]


@pytest.fixture
def verbs(tmp_path):
    path = tmp_path / "verbs.csv"
    path.write_text("verb_id,class_key,verbs\n0,take,\"['take', 'grab']\"\n2,open,['open']\n3,shut,['close']\n")
    return path


def test_class_list_joins_words(root, verbs):
    names, numbers, words = read_classes(verbs, "verb")
    assert (names, numbers["3"], words["grab"]) == (["take", "open", "shut"], "shut", "take")
    lines = (root / "actions.csv").read_text().replace("turn-on,12", "grab,0")
    (root / "actions.csv").write_text(lines)
    dataset = actions(root, class_list=verbs, background=False)
    assert dataset.class_names == ["take", "open", "shut"]
    assert {e.id: e.class_name for e in dataset.entries}["P01_01/2"] == "take"


def test_word_that_no_class_has(root, verbs):
    dataset = actions(root, class_list=verbs, background=False)
    assert "P01_01/2" not in {e.id for e in dataset.entries}
    problem = next(p for p in dataset.problems if p.id == "P01_01/2")
    reason = "its verb 'turn-on' (class 12) is in none of the classes of dataset.class_list"
    assert (problem.kind, problem.reason) == ("rejected", reason)


def test_class_list_in_another_order(verbs):
    header, *rows = verbs.read_text().splitlines()
    verbs.write_text("\n".join([header, *reversed(rows)]))
    assert read_classes(verbs, "verb")[0] == ["take", "open", "shut"]
    verbs.write_text("\n".join([header, rows[0], rows[0]]))
    with pytest.raises(ConfigError, match=r"verbs\.csv: line 3: the number 0 is there twice"):
        read_classes(verbs, "verb")


def test_folders_alone(tmp_path):
    """Verbs have hyphens, nouns have none."""
    for name in ("turn-on-tap-P03_05_7", "P03_05_8-put-lid", "notes"):
        (tmp_path / name).mkdir()
        for n in range(1, 5):
            cv2.imwrite(str(tmp_path / name / f"{n:09d}.png"), np.zeros((36, 64, 3), np.uint8))
    dataset = EpicAction(tmp_path)
    assert [(e.id, e.class_name, e.group) for e in dataset.entries] == [
        ("P03_05/8", "put", "P03_05"),
        ("P03_05/7", "turn-on", "P03_05"),
    ]
    clip = dataset.load(dataset.entries[0], SPEC)
    assert (clip.segment, clip.boxes) == (None, None)
    (tmp_path / "turn-on-tap-P03_05_7").rename(tmp_path / "tap-turn-on-P03_05_7")
    assert [(e.id, e.class_name) for e in EpicObject(tmp_path).entries] == [("P03_05/8", "lid"), ("P03_05/7", "tap")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("P01_01,turn", "../../x,turn", r"^[^ ]*actions\.csv: line 4: video_id='\.\./\.\./x' is not of the form"),
        ("\n2,", "\n../2,", r"^[^ ]*actions\.csv: line 4: uid \(or seg_id\) '\.\./2' is not a number"),
        (",51,58,", ",58,51,", r"line 4: start_frame=58, stop_frame=51: frames are numbered from 1, and in order"),
        (",51,58,", ",0,58,", r"line 4: start_frame=0"),
        (",51,58,", ",x,58,", r"line 4: start_frame='x' is not a number"),
        ("\n2,", "\n1,", r"line 4: segment 1 of P01_01 comes a second time"),
        ("start_frame", "start", r"line 1 lacks start_frame; expected a header with video_id,start_frame"),
    ],
)
def test_bad_rows_are_named_by_their_line(root, old, new, message):
    text = (root / "actions.csv").read_text()
    assert old in text
    (root / "actions.csv").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        actions(root)


@pytest.mark.parametrize("boxes", ["[(1, 2, 3)]", "[(1, 2, 3, x)]", "__import__('os')", "[(1, 2, 3, -4)]", ""])
def test_bad_boxes_are_named_by_their_line(root, boxes):
    (root / "objects.csv").write_text(f'{OBJECTS}\n8,door,P01,P01_01,7,"{boxes}"\n')
    with pytest.raises(ConfigError, match=r"^[^ ]*objects\.csv: line 2: bounding_boxes=.* are not \[\(top, left, hei"):
        objects(root)


@pytest.mark.parametrize("boxes", ["{7: (1, 2, 3)}", "[(1, 2, 3, 4)]", "{x: [(1, 2, 3, 4)]}", "{7: [] 8: []}"])
def test_bad_boxes_of_a_list_of_the_authors(tmp_path, boxes):
    header = "seg_id,video_id,noun,verb,start_frame,stop_frame,bounding_boxes"
    (tmp_path / "val.csv").write_text(f'{header}\n0,P01_01,door,open,5,20,"{boxes}"\n')
    with pytest.raises(ConfigError, match=r"^[^ ]*val\.csv: line 2: bounding_boxes="):
        read_segments(tmp_path / "val.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "val"}, r"dataset\.subset=val: choose one of test, train, all"),
        ({"top": 0}, r"dataset\.top=0"),
        ({"background": "yes"}, r"dataset\.background=yes: give true or false"),
        ({"annotations": "/gone.csv"}, r"dataset\.annotations=/gone\.csv: no such file"),
        ({"classes": ["opn"]}, r"'opn' is not one of the 4 classes of epic_action; close: open"),
    ],
)
def test_options_out_of_range(root, options, message):
    with pytest.raises(ConfigError, match=message):
        actions(root, **options)


@pytest.mark.parametrize("name", ["epic_object", "epic_action"])
def test_root_alone_says_where_all_is(root, tmp_path_factory, name):
    """The annotations lie beside the folder of the frames, here a link to another disk."""
    place = tmp_path_factory.mktemp("place")
    (place / "frames").symlink_to(root)
    (place / "annotations").mkdir()
    for file, published in (("actions", "action"), ("objects", "object")):
        (root / f"{file}.csv").rename(place / "annotations" / f"EPIC_train_{published}_labels.csv")
    config = compose("explain", [f"dataset={name}", f"dataset.root={quoted(str(place / 'frames'))}"])
    config.dataset.min_frames = 1
    assert build(config.dataset).entries


def test_nothing_there(root):
    (root / "P01/P01_01").rename(root / "P01/away")
    (root / "P12/P12_06").rename(root / "P12/away")
    with pytest.raises(
        ConfigError, match=r"none of the 5 listed segments \(epic_action, test\) is there; P01_01/0: no f"
    ):
        actions(root)


@pytest.mark.real
def test_real_samples(shared_data):
    root = shared_data / "epic_kitchens"
    dataset = EpicAction(root, class_list=root / "EPIC_verb_classes.csv")
    assert [(e.id, e.class_name) for e in dataset.entries] == [
        ("P03_05/6751", "mix"),
        ("P30_06/37623", "open"),
        ("P17_03/20421", "put"),
    ]
    assert len(dataset.class_names) == 125
    clip = dataset.load(dataset.entries[0], InputSpec())
    assert (clip.source["frames_in_video"], clip.source["size"]) == (16, [256, 344])
    assert [e.class_name for e in EpicAction(root).entries] == ["open", "put", "stir"]
