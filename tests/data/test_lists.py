"""Every list that users bring, in every encoding and with every line end that their systems write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aosa.data.choose import Choice
from aosa.data.class_map import read_class_map
from aosa.data.class_names import read_class_list, read_class_names
from aosa.data.epic_lists import add_boxes, read_classes, read_segments
from aosa.data.etri_activity3d import EtriActivity3D
from aosa.data.kinetics_lists import read_annotation
from aosa.data.tables import read_json, read_lines, read_text
from aosa.data.ucf101 import UCF101
from aosa.data.video_list import VideoList
from aosa.errors import ConfigError

CAFE = "café – Kaffee"  # – is no Latin-1, and is Windows-1252

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8, mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16, little": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "UTF-16, big": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "Windows-1252": lambda text: text.encode("cp1252"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "blank lines": lambda text: text.replace("\n", "\n \n\n").encode(),
}
VIDEOS = [f"UCF-101/{CAFE}/v_{CAFE}_g01_c01.avi", "UCF-101/Archery/v_Archery_g01_c01.avi", "A001_P003_G001_C001.mp4"]


def ucf101(root: Path, write: Callable[[str, str], Path]) -> object:
    # Names with spaces are in no list of UCF101's.
    write("ucfTrainTestlist/classInd.txt", "1 Café\n2 Archery\n")
    write("ucfTrainTestlist/testlist01.txt", "Café/v_Café_g01_c01.avi\nArchery/v_Archery_g01_c01.avi\n")
    write("ucfTrainTestlist/trainlist01.txt", "Café/v_Café_g01_c01.avi 1\nArchery/v_Archery_g01_c01.avi 2\n")
    (root / "UCF-101/Café").mkdir(exist_ok=True)
    (root / "UCF-101/Café/v_Café_g01_c01.avi").touch()
    return [([e.id for e in d.entries], d.problems) for d in (UCF101(root, subset=s) for s in ("test", "train"))]


def ucf101_json(root: Path, write: Callable[[str, str], Path]) -> object:
    item = {"subset": "validation", "annotations": {"label": CAFE}}
    write("ucf101_01.json", json.dumps({"labels": [CAFE], "database": {"v_1": item}}, ensure_ascii=False, indent=1))
    (root / "jpg" / CAFE / "v_1").mkdir(parents=True, exist_ok=True)
    return [e.id for e in UCF101(root, layout="frames").entries]


def kinetics_csv(root: Path, write: Callable[[str, str], Path]) -> object:
    path = write("val.csv", f"label,youtube_id,time_start,time_end\n{CAFE},abcdefghijk,0,10\nx,bbcdefghijk,0,10\n")
    return read_annotation(path, "val")


def kinetics_json(root: Path, write: Callable[[str, str], Path]) -> object:
    item = {"annotations": {"label": CAFE, "segment": [0, 10]}, "subset": "validate"}
    return read_annotation(write("val.json", json.dumps({"abcdefghijk": item}, ensure_ascii=False, indent=1)), "val")


def epic(root: Path, write: Callable[[str, str], Path]) -> object:
    actions = write(
        "actions.csv", f"uid,video_id,verb,noun,start_frame,stop_frame\n1,P01_01,take,{CAFE},1,9\n2,P01_01,a,b,1,9\n"
    )
    objects = write("objects.csv", f'noun,video_id,frame,bounding_boxes\n{CAFE},P01_01,3,"[(1, 2, 3, 4)]"\n')
    (segment,) = add_boxes(read_segments(actions), objects)
    classes = write("nouns.csv", f"noun_id,class_key,nouns\n0,{CAFE},\"['{CAFE}', 'cup']\"\n1,b,\"['b']\"\n")
    return segment.words, segment.boxes[3].tolist(), read_classes(classes, "noun")


def etri(root: Path, write: Callable[[str, str], Path]) -> object:
    path = write("list.txt", f"{CAFE.replace(' ', '')}/A001_P003_G001_C001.mp4 0\nA001_P006_G001_C001.mp4 0\n")
    dataset = EtriActivity3D(root, subset="list", videos=path)
    return [e.id for e in dataset.entries], dataset.problems


def class_map(root: Path, write: Callable[[str, str], Path]) -> object:
    return read_class_map(write("map.yaml", f"Archery: archery\n{CAFE}: {CAFE} x\n"))


def class_names(root: Path, write: Callable[[str, str], Path]) -> object:
    return [
        read_class_list(write("names.txt", f"{CAFE}\narchery\n")),
        read_class_list(write("numbered.txt", f"0 {CAFE}\n1 archery\n")),
        read_class_list(write("names.json", json.dumps([CAFE, "archery"], ensure_ascii=False, indent=1))),
    ]


def manifest(root: Path, write: Callable[[str, str], Path]) -> object:
    path = write("chosen.csv", f"id,class\n{CAFE}/1,{CAFE}\n{CAFE}/3,{CAFE}\n")
    return Choice(manifest=path).choose({CAFE: [f"{CAFE}/{n}" for n in (1, 2, 3)]}, {f"{CAFE}/1", f"{CAFE}/2"})


def video_list(root: Path, write: Callable[[str, str], Path]) -> object:
    results = []
    for text in (f"{VIDEOS[0]}\t{CAFE}\n{VIDEOS[1]}\tx\n", f"path,label\n{VIDEOS[0]},{CAFE}\n{VIDEOS[1]},x\n"):
        dataset = VideoList(root, write("list.txt", text))
        results.append(([(e.id, e.class_name) for e in dataset.entries], dataset.problems))
    return results


READERS = (ucf101, ucf101_json, kinetics_csv, kinetics_json, epic, etri, class_map, class_names, manifest, video_list)


@pytest.mark.parametrize("encoding", list(ENCODINGS)[1:])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_every_list_in_every_encoding(tmp_path, reader, encoding):
    for video in VIDEOS:
        (tmp_path / video).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / video).touch()

    def write(kind: str) -> Callable[[str, str], Path]:
        def file(name: str, text: str) -> Path:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(ENCODINGS[kind](text))
            return tmp_path / name

        return file

    plain = reader(tmp_path, write("UTF-8"))
    assert "é" in repr(plain) or reader is etri, "its names are plain"
    assert "Problem" not in repr(plain) or reader is etri
    assert reader(tmp_path, write(encoding)) == plain


def test_bytes_that_windows_1252_does_not_have_are_latin_1(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\x81\n")
    assert read_lines(tmp_path / "a.txt") == [(1, "caf\xe9\x81")]


def test_lines_part_at_line_ends_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\x0bb\u2028c\x85d\r\n\r\n e \rf".encode())
    assert read_lines(tmp_path / "a.txt") == [(1, "a\x0bb\u2028c\x85d"), (3, "e"), (4, "f")]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", r"^dataset\.videos=[^ ]*a\.txt: not a file \(a folder or a pipe\)$"),
        ("folder", r"a\.txt: not a file"),
        ("nothing", r"a\.txt: no such file or directory"),
        ("binary", r"a\.txt: not a text file \(it holds zero bytes; UTF-16 needs a byte-order mark\)"),
        ("half", r"a\.txt: its byte-order mark says utf-16-le, and it is not"),
        ("giant", r"a\.txt: 1024 MiB are no list"),
    ],
)
def test_file_that_is_no_text(tmp_path, kind, message):
    path = tmp_path / "a.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "giant":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    elif kind != "nothing":
        path.write_bytes({"binary": b"a\0b", "half": b"\xff\xfea"}[kind])
    with pytest.raises(ConfigError, match=message):
        read_text(path, "dataset.videos")


def test_json_that_says_a_thing_twice(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1, "b": {"x": 1, "x": 2}}')
    with pytest.raises(ConfigError, match=r"a\.json: not JSON \('x' comes twice in one object\)"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.txt", "Surfing\nArchery\nYo Yo\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.txt", "0 Surfing\n1 Archery\n2 Yo Yo\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.txt", "3 Yo Yo\n1 Surfing\n2\tArchery\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.txt", "1,Surfing\n2, Archery\n3,Yo Yo\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.txt", "1. Surfing\n2. Archery\n3. Yo Yo\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.txt", "Surfing 0\nYo Yo 2\nArchery 1\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.csv", "Surfing,0\nYo Yo,2\nArchery,1\n", ["Surfing", "Archery", "Yo Yo"]),
        ("a.csv", 'id,name\n0,Surfing\n1,"Archery, Bow"\n2,Yo Yo\n', ["Surfing", "Archery, Bow", "Yo Yo"]),
        ("a.csv", "verb_id,class_key,verbs\n0,take,\"['take', 'grab']\"\n1,put,\"['put']\"\n", ["take", "put"]),
        ("a.txt", "level 0\nlevel 1\nlevel 2\n", ["level 0", "level 1", "level 2"]),
        ("a.txt", "Surfing\n3 point shot\nYo Yo\n", ["Surfing", "3 point shot", "Yo Yo"]),
        ("a.txt", "30\n10\n20\n", ["30", "10", "20"]),
        ("a.json", '["Surfing", "3 point shot", "Yo Yo"]', ["Surfing", "3 point shot", "Yo Yo"]),
        ("a.json", '{"0": "Surfing", "2": "Yo Yo", "1": "Archery"}', ["Surfing", "Archery", "Yo Yo"]),
        ("a.json", '{"\\"Yo Yo\\"": 2, "Surfing": 0, "Archery": 1}', ["Surfing", "Archery", "Yo Yo"]),
    ],
)
def test_forms_of_class_names(tmp_path, name, text, names):
    (tmp_path / name).write_text(text)
    assert read_class_list(tmp_path / name, "model.class_names") == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no class name in it"),
        ("a.txt", "Surfing\nArchery\nSurfing\n", "the class 'Surfing' is there twice"),
        ("a.txt", "88 Surfing\n89 Archery\n", "the numbers must count from 0 or 1 without a hole, and 0 is missing"),
        ("a.txt", "1 Surfing\n3 Archery\n", "and 2 is missing; where numbers are part of the names, give a JSON list"),
        ("a.txt", "1 Surfing\n1 Archery\n", "the number 1 is there twice"),
        ("a.txt", "Surfing,0\nArchery,2\n", "and 1 is missing"),
        ("a.txt", "0 Surfing\n1 Archery\nYo Yo\n", "line 3: 'Yo Yo' has no number, and most of the others have one"),
        ("a.csv", "id,name\n0,Surfing\nx,Archery\n", "'x,Archery' is no row of id,name"),
        ("a.json", '{"a": 0, "b": 2}', "and 1 is missing"),
        ("a.json", '{"a": "b"}', "expected a list of names, or an object number → name or name → number"),
        ("a.json", "[1, 2]", "expected a list of names"),
        ("a.json", "[", "not JSON"),
    ],
)
def test_class_names_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"^model\.class_names=[^ ]*{name}: .*{message}"):
        read_class_names(str(tmp_path / name), "model.class_names")


@pytest.mark.real
def test_published_class_lists(shared_data):
    """Plain, numbered, and CSV."""
    ucf = read_class_names("ucf101", "")
    assert read_class_list(shared_data / "labels/mmaction2_ucf101_label_map.txt") == ucf
    assert read_class_list(shared_data / "ucf101/ucfTrainTestlist/classInd.txt") == ucf
    assert read_class_list(shared_data / "labels/mmaction2_kinetics_label_map_k400.txt") == read_class_names(
        "kinetics400", ""
    )
    assert len(read_class_list(shared_data / "labels/mmaction2_kinetics_label_map_k700.txt")) == 700
    for word, number, name in (("verb", 125, "take"), ("noun", 352, "Nothing")):
        path = shared_data / f"epic_kitchens/EPIC_{word}_classes.csv"
        names = read_class_list(path)
        assert (len(names), names[0], names) == (number, name, read_classes(path, word)[0])
