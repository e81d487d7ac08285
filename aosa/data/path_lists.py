"""Lists of videos with their labels, a line each, as training code of the field has them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aosa.data.tables import read_lines, read_rows
from aosa.data.video_folder import video_stem
from aosa.errors import ConfigError

DELIMITERS = {"space": " ", "comma": ",", "tab": "\t", "semicolon": ";"}

# Columns, whatever their case; where there are several of a kind, the first of these counts.
_PATH = ("path", "video_path", "file_path", "filepath", "filename", "file_name", "file", "video", "video_name")
_LABEL = ("label", "class", "class_name", "label_name", "category", "action", "label_id", "class_id")
_START = ("start", "start_frame", "start_time", "time_start")
_END = ("end", "end_frame", "stop_frame", "end_time", "time_end", "stop")
_INTEGER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Reading:
    """What a line says.

    Args:
        path: as written.
        label: None where there is none.
        start, end: as written; empty where there is none.
        unit: of these: ``frames``, ``seconds``, or empty where the list does not say.
    """

    path: str
    label: str | None = None
    start: str = ""
    end: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the list, and what it may say: paths may have spaces in them, so only the files tell."""

    number: int
    readings: tuple[Reading, ...]

    @property
    def likely(self) -> Reading:
        """What it says where none of the files is there."""
        return next((r for r in self.readings if video_stem(Path(r.path).name)), self.readings[-1])


def read_list(path: Path, delimiter: str = "auto") -> list[Row]:
    """The lines of a list.

    Args:
        path: a file with a header that names a column ``path`` (or ``video``, ``file`` …), and perhaps ``label`` (or
            ``class`` …), ``start`` and ``end`` (``start_frame``, ``end_time`` …, which say their unit); or without a
            header, lines ``path``, ``path label``, ``path frames label`` or ``path first frames label``, the last two
            with whole numbers: the frames to be taken, from the beginning or from ``first`` on, which counts from 0.
        delimiter: a key of `DELIMITERS`; ``auto``: the header's; without one tab, comma or semicolon, the first of
            these that more than half of the lines have, else space.

    Raises:
        ConfigError: see `aosa.data.tables.read_text`; no line, or one of other fields than these.
    """
    key = "dataset.videos"
    lines = read_lines(path, key)
    if not lines:
        raise ConfigError(f"{key}={path}: no line in it")
    if delimiter == "auto":
        delimiter = _delimiter([line for _, line in lines])
    mark = DELIMITERS[delimiter]
    header = _fields(lines[0][1], mark)
    columns = [_column(header, names) for names in (_PATH, _LABEL, _START, _END)]
    if columns[0] is not None:
        return list(_table(path, key, header, columns, mark))
    if delimiter == "space":
        return [Row(number, tuple(_readings(line))) for number, line in lines]
    return [Row(number, (_reading(line, mark, f"{key}={path}: line {number}"),)) for number, line in lines]


def _fields(line: str, mark: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=mark, skipinitialspace=True))]


def _delimiter(lines: Sequence[str]) -> str:
    for name, mark in DELIMITERS.items():
        if len(header := _fields(lines[0], mark)) > 1 and _column(header, _PATH):
            return name
    for name in ("tab", "comma", "semicolon"):
        if 2 * sum(DELIMITERS[name] in line for line in lines) > len(lines):
            return name
    return "space"


def _column(header: Sequence[str], names: Sequence[str]) -> str | None:
    folded = {column.casefold(): column for column in header}
    return next((folded[name] for name in names if name in folded), None)


def _table(path: Path, key: str, header: list[str], columns: Sequence[str | None], mark: str) -> Iterator[Row]:
    where, label, start, end = columns
    units = {
        "frames" if "frame" in c.casefold() else "seconds" if "time" in c.casefold() else "" for c in (start, end) if c
    }
    if len(units) > 1:
        raise ConfigError(f"{key}={path}: columns {start} and {end} are not of one unit")
    unit = units.pop() if units else ""
    for place, row in read_rows(path, header, key, mark):
        text = {column: row[column] if column is not None else "" for column in (where, label, start, end)}
        reading = Reading(text[where], text[label] or None, text[start], text[end], unit)
        yield Row(int(place.removeprefix("line ")), (reading,))


def _reading(line: str, mark: str, place: str) -> Reading:
    """Of a line whose delimiter is in no path."""
    fields = _fields(line, mark)
    reading = _of_fields(fields[0], fields[1:])
    if reading is None:
        raise ConfigError(
            f"{place} has {len(fields)} fields; expected path, label; path, frames, label; path, first, frames, label; "
            "or a header such as path,label,start,end"
        )
    return reading


def _readings(line: str) -> Iterator[Reading]:
    """Of a line with spaces, in its paths perhaps, too: the longest path first."""
    quoted = re.fullmatch(r'"([^"]+)"\s*(.*)', line)
    if quoted:
        yield _of_fields(quoted[1], quoted[2].split()) or Reading(quoted[1], quoted[2])
        return
    ends = [match.start() for match in re.finditer(r"\s+", line)]
    for end in [len(line), *reversed(ends)]:
        path, rest = line[:end], line[end:].split()
        reading = _of_fields(path, rest)
        if reading is not None:
            yield reading
        elif video_stem(path.replace("\\", "/").rsplit("/", 1)[-1]):
            yield Reading(path, line[end:].strip())  # a name of several words


def _of_fields(path: str, rest: Sequence[str]) -> Reading | None:
    if len(rest) < 2:
        return Reading(path, rest[0] or None if rest else None)
    if len(rest) > 3 or not all(map(_INTEGER.fullmatch, rest)):
        return None
    first, frames = (0, int(rest[0])) if len(rest) == 2 else (int(rest[0]), int(rest[1]))
    # Some lists have 0 or -1 frames where all are meant.
    return Reading(path, rest[-1], str(first), str(first + frames) if frames > 0 else "", "frames")
