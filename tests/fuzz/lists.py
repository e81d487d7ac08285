"""Lists and tables that users bring: in other encodings and line ends, with odd lines, damaged."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from aosa.data.class_map import read_class_map
from aosa.data.class_names import read_class_names
from aosa.data.epic_lists import add_boxes, read_classes, read_segments
from aosa.data.kinetics_lists import read_annotation
from aosa.data.ucf101 import UCF101
from tests.fuzz.generate import examples
from tests.fuzz.mutate import mutate

_VIDEOS = ("Archery/v_Archery_g01_c01", "Archery/v_Archery_g02_c01", "Surfing/v_Surfing_g01_c01")
_CLASSES = "1 Archery\n2 Surfing\n"
_LISTED = "".join(f"{video}.avi\n" for video in _VIDEOS)
_SEGMENTS = "uid,video_id,start_frame,stop_frame,verb,verb_class,noun,noun_class\n0,P01_01,5,20,open,2,door,8\n"
_SEGMENTS += "1,P01_01,31,46,open,2,fridge,10\n"


def _ucf(folder: Path) -> Any:
    for video in _VIDEOS:
        (folder / "UCF-101" / video).parent.mkdir(parents=True, exist_ok=True)
        (folder / "UCF-101" / f"{video}.avi").touch()
    dataset = UCF101(folder)
    return dataset.class_names, [(e.id, e.class_name, e.group) for e in dataset.entries], dataset.problems


def _frames(folder: Path) -> Any:
    for video in _VIDEOS:
        (folder / "jpg" / video).mkdir(parents=True, exist_ok=True)
    dataset = UCF101(folder, layout="frames")
    return dataset.class_names, [(e.id, e.class_name) for e in dataset.entries], dataset.problems


def _objects(folder: Path) -> Any:
    (folder / "segments.csv").write_text(_SEGMENTS)
    segments = add_boxes(read_segments(folder / "segments.csv"), folder / "list.csv")
    return [(s.id, {frame: boxes.tolist() for frame, boxes in s.boxes.items()}) for s in segments]


_DATABASE = {v.split("/")[1]: {"subset": "validation", "annotations": {"label": v.split("/")[0]}} for v in _VIDEOS}
_KINETICS = {"0Ab_-cdefgh": {"annotations": {"label": "surfing water", "segment": [3.0, 13.0]}, "subset": "validate"}}

# Where a list is, what it holds when it is good, and what reads it.
KINDS: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("ucfTrainTestlist/testlist01.txt", _LISTED, _ucf),
    ("ucfTrainTestlist/classInd.txt", _CLASSES, _ucf),
    ("ucf101_01.json", json.dumps({"labels": ["Archery", "Surfing"], "database": _DATABASE}), _frames),
    (
        "list.csv",
        "label,youtube_id,time_start,time_end,split\nsurfing water,0Ab_-cdefgh,3,13,val\ncafé,1Ab_-cdefgh,0,10,val\n",
        lambda folder: read_annotation(folder / "list.csv", "val"),
    ),
    ("list.json", json.dumps(_KINETICS), lambda folder: read_annotation(folder / "list.json", "val")),
    ("list.csv", _SEGMENTS, lambda folder: read_segments(folder / "list.csv")),
    ("list.csv", 'noun,video_id,frame,bounding_boxes\ndoor,P01_01,7,"[(1, 2, 3, 4)]"\n', _objects),
    (
        "list.csv",
        "verb_id,class_key,verbs\n0,take,\"['take', 'get']\"\n2,open,\"['open']\"\n",
        lambda folder: read_classes(folder / "list.csv", "verb"),
    ),
    ("map.yaml", "Surfing: surfing water\nBiking: Fahrrad für zwei\n", lambda f: read_class_map(f / "map.yaml")),
    (
        "names.txt",
        "Archery\nSurfing\nCafé\n",
        lambda f: read_class_names(str(f / "names.txt"), "key"),
    ),
]

_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252")
_DAMAGED, _SAME, _LINES = 0, 1, 2


def inputs(rng: random.Random) -> Iterator[bytes]:
    """Two bytes, which say what list it is and how it was made, and its content."""
    lines = examples(_lines(), rng)
    while True:
        kind, made = rng.randrange(len(KINDS)), rng.choice((_DAMAGED, _DAMAGED, _SAME, _LINES))
        _, good, _ = KINDS[kind]
        if made == _DAMAGED:
            content = mutate(rng, good.encode(), [text.encode() for _, text, _ in KINDS])
        elif made == _SAME:
            text = good.replace("\n", rng.choice(("\n", "\r\n")))
            content = (text + rng.choice(("", "\n", "\r\n\r\n"))).encode(rng.choice(_ENCODINGS))
        else:
            content = (good + next(lines)).encode("utf-8", "surrogatepass")
        yield bytes([kind, made]) + content


def check(content: bytes, folder: Path) -> None:
    kind, made = content[0] % len(KINDS), content[1]
    name, good, _ = KINDS[kind]
    expected = _read(folder / "good", kind, good.encode())
    found = _read(folder / "given", kind, content[2:])
    assert made != _SAME or found == expected, f"{name} is read as {found}, which is {expected}"
    if name.endswith("testlist01.txt") and made == _LINES and content.isascii() and b"\r" not in content:
        listed = {line.split()[0] for line in content[2:].decode().split("\n") if line.split()}
        _, entries, problems = found
        assert len(entries) + len(problems) >= len(listed), "listed videos are neither there nor named"


def _read(folder: Path, kind: int, content: bytes) -> Any:
    name, _, read = KINDS[kind]
    for other, text, _ in KINDS[:2]:
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_text(text)
    (folder / name).write_bytes(content)
    return read(folder)


def _lines() -> st.SearchStrategy[str]:
    """Lines as lists have them, and as they should not: of fields that are names, numbers, paths, texts."""
    field = st.one_of(
        st.sampled_from(
            ["Archery/v_Archery_g01_c01.avi", "Surfing", "../../etc/passwd", "/abs", "P01_01", "1e400", "nan"]
        ),
        st.integers().map(str),
        st.floats().map(str),
        st.text(max_size=12),
    )
    line = st.lists(field, max_size=9).flatmap(
        lambda fields: st.sampled_from([",", " ", "\t", ": ", ";"]).map(lambda sep: sep.join(fields))
    )
    return st.lists(line, max_size=6).flatmap(
        lambda lines: st.sampled_from(["\n", "\r\n", "\r", "\x85"]).map(lambda end: end.join(lines))
    )
