"""The annotations of EPIC-Kitchens-55: segments, boxes and class lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from aosa.data.tables import Row, read_rows, whole
from aosa.errors import ConfigError

Boxes = Mapping[int, np.ndarray]  # frame → N×4 (x0, y0, x1, y1)

# Without their spaces.
_BOX = r"\(\d+,\d+,\d+,\d+\)"
_BOXES = rf"(?:\[\]|\[{_BOX}(?:,{_BOX})*\]|{_BOX})"
_BY_FRAME = rf"(\d+):({_BOXES})"
# Videos that are not 1920×1080 (EPIC_video_info.csv); their boxes are in their own pixels.
_SIZES = {
    **dict.fromkeys(("P12_01", "P12_02", "P12_03", "P12_04"), (1280, 720)),
    **dict.fromkeys(("P12_05", "P12_06"), (1920, 1440)),
}


@dataclass(frozen=True)
class Segment:
    """A piece of a video; frames are numbered from 1, at 60 a second, as those that are distributed.

    Args:
        uid: of the annotation.
        video: ``P01_01``.
        words: ``{"verb": "take", "noun": "plate"}``, as narrated.
        start, stop: first and last frame; None where the annotation is not at hand.
        action: first and last frame of the action, where the piece is longer than the action.
        boxes: of the noun's object, in pixels of the video of `size`.
        class_ids: numbers of the words' classes, where the annotation gives them.
    """

    uid: str
    video: str
    words: Mapping[str, str]
    start: int | None = None
    stop: int | None = None
    action: tuple[int, int] | None = None
    boxes: Boxes = field(default_factory=dict)
    class_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.video}/{self.uid}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video that was annotated."""
        return _SIZES.get(self.video, (1920, 1080))


def read_segments(path: Path) -> list[Segment]:
    """The segments of a CSV, in its order.

    Args:
        path: ``EPIC_train_action_labels.csv``; or a list of the STEP authors (columns ``seg_id, video_id, noun, verb,
            start_frame, stop_frame`` with ``bounding_boxes``, or with ``middle_frame, ground``: which half is not the
            action).

    Raises:
        ConfigError: no such file, columns missing, a value that is none, an id that comes twice.
    """
    segments: dict[str, Segment] = {}
    for place, row in read_rows(path, ("video_id", "start_frame", "stop_frame", "verb", "noun"), "dataset.annotations"):
        segment = _segment(row, f"{path}: {place}")
        if segment.id in segments:
            raise ConfigError(f"{path}: {place}: segment {segment.uid} of {segment.video} comes a second time")
        segments[segment.id] = segment
    if not segments:
        raise ConfigError(f"dataset.annotations={path}: no segment in it")
    return list(segments.values())


def _segment(row: Row, place: str) -> Segment:
    uid, video = row.get("uid", row.get("seg_id", "")), _video(row["video_id"], place)
    if not uid.isdecimal():
        raise ConfigError(f"{place}: uid (or seg_id) {uid!r} is not a number")
    cut = "middle_frame" in row
    # Neighbourhoods in the authors' list may begin before their video does.
    before = cut and re.fullmatch(r"0|-\d+", row["start_frame"])
    start = 1 if before else whole(row["start_frame"], place, "start_frame")
    stop = whole(row["stop_frame"], place, "stop_frame")
    if not 1 <= start <= stop:
        raise ConfigError(f"{place}: start_frame={start}, stop_frame={stop}: frames are numbered from 1, and in order")
    action = None
    if cut:
        middle = whole(row["middle_frame"], place, "middle_frame")
        sides = {"left": (middle, stop), "right": (start, middle)}
        if row.get("ground") not in sides or not start <= middle <= stop:
            raise ConfigError(f"{place}: middle_frame={middle}, ground={row.get('ground')!r}: give left or right")
        action = sides[row["ground"]]
    boxes = _by_frame(row["bounding_boxes"], place) if "bounding_boxes" in row else {}
    ids = {word: row[f"{word}_class"] for word in ("verb", "noun") if f"{word}_class" in row}
    return Segment(uid, video, {w: row[w] for w in ("verb", "noun")}, start, stop, action, boxes, ids)


def add_boxes(segments: list[Segment], path: Path) -> list[Segment]:
    """Those segments in which their noun's object has a box, with their boxes.

    Args:
        path: ``EPIC_train_object_labels.csv``: objects belong to a segment when video and noun are the same and the
            frame lies in it (as the STEP authors join them).

    Raises:
        ConfigError: see `read_segments`.
    """
    objects: dict[tuple[str, str], dict[int, list[np.ndarray]]] = {}
    for place, row in read_rows(path, ("noun", "video_id", "frame", "bounding_boxes"), "dataset.objects"):
        boxes = _boxes(row["bounding_boxes"], f"{path}: {place}")
        if len(boxes):
            frames = objects.setdefault((_video(row["video_id"], f"{path}: {place}"), row["noun"]), {})
            frames.setdefault(whole(row["frame"], f"{path}: {place}", "frame"), []).append(boxes)
    out = []
    for segment in segments:
        assert segment.start is not None
        assert segment.stop is not None
        frames = objects.get((segment.video, segment.words["noun"]), {})
        own = {f: np.concatenate(b) for f, b in frames.items() if segment.start <= f <= segment.stop}
        if own:
            out.append(replace(segment, boxes=own))
    return out


def read_classes(path: Path, word: str) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """``EPIC_verb_classes.csv`` or ``EPIC_noun_classes.csv``: the class names in the order of their numbers, number →
    name, and word → name.

    Args:
        word: ``verb`` or ``noun``.

    Raises:
        ConfigError: see `read_segments`; or a number that is none or there twice.
    """
    numbers: dict[str, str] = {}
    words: dict[str, str] = {}
    columns = (f"{word}_id", "class_key", f"{word}s")
    for place, row in read_rows(path, columns, "dataset.class_list"):
        number = str(whole(row[f"{word}_id"], f"{path}: {place}", f"{word}_id"))
        if number in numbers:
            raise ConfigError(f"dataset.class_list={path}: {place}: the number {number} is there twice")
        numbers[number] = row["class_key"]
        for narrated in re.findall(r"'([^']*)'", row[f"{word}s"]):
            words.setdefault(narrated, row["class_key"])
        words[row["class_key"]] = row["class_key"]
    return [numbers[number] for number in sorted(numbers, key=int)], numbers, words


def _video(text: str, place: str) -> str:
    if not re.fullmatch(r"P\d{2,3}_\d{2,3}", text, re.ASCII):
        raise ConfigError(f"{place}: video_id={text!r} is not of the form P01_01")
    return text


def _by_frame(text: str, place: str) -> Boxes:
    """``{frame: [(top, left, height, width), …], …}``."""
    text = re.sub(r"\s", "", text)
    found = re.findall(_BY_FRAME, text)
    if ",".join(f"{frame}:{boxes}" for frame, boxes in found) != text.removeprefix("{").removesuffix("}"):
        raise ConfigError(f"{place}: bounding_boxes={text[:60]!r} are not {{frame: [(top, left, height, width)]}}")
    frames = {int(frame): _boxes(boxes, place) for frame, boxes in found}
    return {frame: boxes for frame, boxes in frames.items() if len(boxes)}


def _boxes(text: str, place: str) -> np.ndarray:
    """``[(top, left, height, width), …]`` → float64 N×4 (x0, y0, x1, y1)."""
    text = re.sub(r"\s", "", text)
    if not re.fullmatch(_BOXES, text):
        raise ConfigError(f"{place}: bounding_boxes={text[:60]!r} are not [(top, left, height, width), …]")
    top, left, height, width = np.array(re.findall(r"\d+", text), np.float64).reshape(-1, 4).T
    return np.stack([left, top, left + width, top + height], axis=1)
