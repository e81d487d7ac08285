"""Videos of a plain list: ``path label``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from aosa.clip import Clip, InputSpec
from aosa.data.base import Entry, Problem, View, Views, first_of
from aosa.data.choose import Choice
from aosa.data.class_map import check_classes
from aosa.data.class_names import read_class_names
from aosa.data.files import FileDataset, read_clip, read_views
from aosa.data.part_window import PartWindow
from aosa.data.path_lists import DELIMITERS, Reading, Row, read_list
from aosa.data.tables import safe_name
from aosa.data.video_folder import video_stem
from aosa.data.window import Window
from aosa.errors import ConfigError, MissingDataError, VideoError
from aosa.fields import option
from aosa.video.decode import frame_rate

_NUMBER = re.compile(r"(-?[0-9]+)(?:\.0+)?")


@dataclass(frozen=True)
class Part:
    """The part of a video that its windows are taken from.

    Args:
        start: frame (from 0) or second that it begins with.
        end: frame after its last, or second that it ends with; None = the video's end. Seconds are often rounded up,
            so less than one beyond the video's end is this end.
        unit: ``frames`` or ``seconds``.
    """

    start: float
    end: float | None
    unit: str

    def window(self, window: Window, path: Path) -> PartWindow:
        """The window in this part of a video.

        Raises:
            VideoError: seconds, and the container does not say how many frames one has.
        """
        rate = 1.0 if self.unit == "frames" else frame_rate(path)
        if rate is None:
            raise VideoError(f"{path}: its frame rate is not known; give start and end in frames")
        first, stop = round(self.start * rate), None if self.end is None else round(self.end * rate)
        return PartWindow.of(window, first=first, stop=stop, slack=0 if self.unit == "frames" else round(rate))


@dataclass
class VideoList(Choice, FileDataset):
    """The videos of a list as training code of the field has it, mmaction2 and VideoMAE for two: ``path label``.

    An entry's id is its path below the root without the extension, and where the list gives a start or an end, these
    after it: ``day1/a/2.5-10``; then its group is the path. A path may be a folder of images. Where it is not there, a
    video of another extension will do, if one alone is there. Each folder is listed once, no file is opened.

    Absolute paths must lead below the root, too. The `class_names` given become those of the data set.

    Videos that are not there are ``problems``, not errors; so are those of a class that `class_names` lack, without a
    label where others have one, with a start that is not before the end, of a path that leads out of the root, or
    listed a second time.

    Raises:
        ConfigError: no such folder or file, a list that is none, an option out of range, labels that could be read in
            two ways, an unknown class, or not one of the listed videos is there.
    """

    title: ClassVar[str] = "Video list"

    videos: str | Path = option(meaning="the list, see `aosa.data.path_lists.read_list`")
    _: KW_ONLY
    name: str = option("video_list", "in folders and tables")
    delimiter: str = option("auto", "of the list, see there", choices=("auto", *DELIMITERS))
    class_names: str | Path | Sequence[str] | None = option(  # type: ignore[assignment]
        None,
        "see `aosa.data.class_names.read_class_names`; None = the labels themselves, in the order of the alphabet or "
        "of their numbers",
    )
    labels: str = option(
        "auto",
        "what the list has; from_0, from_1 = numbers; auto = numbers from 0 if all of them are numbers, else names",
        choices=("auto", "names", "from_0", "from_1"),
    )
    times: str = option(
        "seconds",
        "unit of columns called start and end; frames = from 0, the end is left out",
        choices=("seconds", "frames"),
    )
    classes: Sequence[str] | None = option(None, "only these; None = all")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folders: dict[str, dict[str, list[str]]] = {}
        listed = [self._find(row) for row in read_list(Path(self.videos).expanduser(), self.delimiter)]
        known = None if self.class_names is None else read_class_names(self.class_names, "dataset.class_names")
        names, of_label = _classes({r.label for _, r, _ in listed if r.label is not None}, known, self.labels)
        self.class_names = names if self.classes is None else check_classes(self.classes, names, self.name)
        self._choose(listed, of_label, len(names))

    def _choose(
        self,
        listed: Sequence[tuple[int, Reading, Path | str]],
        of_label: Mapping[str, str],
        known: int,
    ) -> None:
        labelled = any(reading.label is not None for _, reading, _ in listed)
        entries: dict[str, Entry] = {}
        first: dict[str, int] = {}
        gone: dict[str, str] = {}
        by_class: dict[str, list[str]] = {}
        wrong: list[Problem] = []
        for number, reading, found in listed:
            class_name = None if reading.label is None else of_label.get(reading.label)
            try:
                stem = self._stem(reading.path)
                part = _part(reading, self.times)
                id = stem if part is None else f"{stem}/{reading.start or 0}-{reading.end}"
                if part is not None and part.unit == "seconds" and isinstance(found, Path) and found.is_dir():
                    raise ConfigError("images have no seconds; give start and end in frames")
                if reading.label is None and labelled:
                    raise ConfigError("it has no label, and others have one")
                if class_name is None and labelled:
                    raise ConfigError(f"its label {reading.label!r} is none of the {known} classes")
                if id in first:
                    raise ConfigError(f"it is listed a second time, first in line {first[id]}")
            except ConfigError as error:
                wrong.append(Problem(_printable(reading.path), "rejected", f"line {number}: {error}"))
                continue
            first[id] = number
            by_class.setdefault(class_name or "", []).append(id)
            if isinstance(found, str):
                gone[id] = f"line {number}: {found}"
            else:
                extra = {} if part is None else {"part": part}
                entries[id] = Entry(id, class_name, found, None if part is None else stem, extra)
        # Of all classes, whichever are kept: a manifest serves every run.
        chosen, absent = self.choose(by_class, entries)
        wanted = by_class if self.classes is None else self.classes
        kept = {id for class_name, ids in by_class.items() if class_name in wanted for id in ids}
        self.entries = [entries[id] for id in chosen if id in kept]
        self.problems += wrong if self.classes is None else []
        self.problems += [Problem(id, "missing", gone[id]) for id in absent if id in kept]
        if not self.entries:
            raise MissingDataError(
                f"dataset.root={self.root}: none of the {len(listed)} listed videos ({self.name}) is there"
                f"{first_of(self.problems)}"
            )

    def _find(self, row: Row) -> tuple[int, Reading, Path | str]:
        """The number of a line, what it says, and the file or folder; or why there is none."""
        found = []
        for reading in row.readings:
            try:
                path = self._below(reading.path)
            except ConfigError:
                continue
            there = self._content(path.parent.as_posix())
            names = there.get(path.name) or there.get(video_stem(path.name) or path.name, [])
            if path.name in names or len(names) == 1:
                name = path.name if path.name in names else names[0]
                found.append((row.number, reading, self.root / path.parent / name))
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(repr(reading.path) for _, reading, _ in found[:2])
            return row.number, found[0][1], f"{both} are both there; give a delimiter, or quote the path"
        return row.number, row.likely, self._why_missing(row.likely.path)

    def _why_missing(self, text: str) -> str:
        try:
            path = self._below(text)
        except ConfigError as error:
            return str(error)
        there = self._content(path.parent.as_posix())
        several = there.get(video_stem(path.name) or path.name, [])
        if several:
            return f"{path} is not there, and several could be it: {', '.join(several)}"
        case = [names[0] for stem, names in there.items() if stem.casefold() == path.name.casefold()]
        return f"{path} is not there" + (f"; {case[0]} differs only in case" if case else "")

    def _content(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder below the root, by themselves and by the name without a video's extension."""
        if folder not in self._folders:
            content: dict[str, list[str]] = {}
            try:
                names = sorted(os.listdir(self.root / folder))
            except OSError:
                names = []
            for name in names:
                for key in {name, video_stem(name) or name}:
                    content.setdefault(key, []).append(name)
            self._folders[folder] = content
        return self._folders[folder]

    def _below(self, text: str) -> PurePosixPath:
        """A path of the list, below the root.

        Raises:
            ConfigError: it leads out of it, or is no path of a file.
        """
        path = text.replace("\\", "/")
        if path.startswith("/"):
            roots = {os.path.abspath(self.root), os.path.realpath(self.root)}
            under = [root for root in roots if os.path.normpath(path).startswith(root.rstrip("/") + "/")]
            if not under:
                raise ConfigError(f"{text} does not lead below dataset.root; give paths below it")
            path = os.path.relpath(os.path.normpath(path), under[0])
        path = os.path.normpath(path)
        for part in path.split("/"):
            safe_name(part, text, "path")
        return PurePosixPath(path)

    def _stem(self, text: str) -> str:
        path = self._below(text)
        return (path.parent / (video_stem(path.name) or path.name)).as_posix()

    def load(self, entry: Entry, spec: InputSpec, view: View | None = None) -> Clip:
        path, name = self._file(entry)
        return self._told(entry, *read_clip(path, spec, self._window(entry), view=view, id=entry.id, name=name))

    def load_views(self, entry: Entry, spec: InputSpec, views: Views) -> Iterator[Clip]:
        path, name = self._file(entry)
        for clip, indices, geometry in read_views(path, spec, self._window(entry), views, id=entry.id, name=name):
            yield self._told(entry, clip, indices, geometry)

    def _window(self, entry: Entry) -> Window:
        part = entry.extra.get("part")
        if not isinstance(part, Part):
            return self.sampling
        assert isinstance(entry.path, Path)
        return part.window(self.sampling, entry.path)

    def fingerprint(self, entry: Entry) -> str:
        """Of the file's bytes, and of the part of it that is listed."""
        content, part = super().fingerprint(entry), entry.extra.get("part")
        return content if part is None else hashlib.sha256(f"{content} {part}".encode()).hexdigest()


def _part(reading: Reading, times: str) -> Part | None:
    """Raises:
    ConfigError: a start or an end that is none."""
    if not reading.start and not reading.end:
        return None
    unit = reading.unit or times
    values = []
    for key, text in (("start", reading.start or "0"), ("end", reading.end)):
        number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)
        if text and (number is None or (unit == "frames" and float(text) % 1)):
            raise ConfigError(f"{key}={text!r} is no number of {unit}")
        values.append(float(text) if text else None)
    start, end = values
    assert start is not None
    if end is not None and end <= start:
        raise ConfigError(f"start={reading.start or 0} is not before end={reading.end}")
    return None if (start, end) == (0, None) else Part(start, end, unit)


def _classes(labels: set[str], known: list[str] | None, kind: str) -> tuple[list[str], dict[str, str]]:
    """The class names, and the class of each label that has one.

    Raises:
        ConfigError: labels that could be read in two ways.
    """
    numbers = {label: int(m[1]) for label in labels if (m := _NUMBER.fullmatch(label))}
    if kind == "names" or (kind == "auto" and len(numbers) < len(labels)):
        names = sorted(labels) if known is None else known
        return names, {label: label for label in labels.intersection(names)}
    first = 1 if kind == "from_1" else 0
    if known is None:
        names = [str(n) for n in sorted({n for n in numbers.values() if n >= first})]
        return names, {label: str(n) for label, n in numbers.items() if n >= first}
    if kind == "auto" and numbers:
        if min(numbers.values()) >= 1 and max(numbers.values()) == len(known):
            raise ConfigError(
                f"dataset.labels=auto: the labels go from {min(numbers.values())} to {len(known)}, and there are "
                f"{len(known)} class names: give dataset.labels=from_1"
            )
        named = [n for label, n in numbers.items() if label in known and known.index(label) != n]
        if named:
            raise ConfigError(
                f"dataset.labels=auto: label {named[0]} is the number of one class and the name of another: give "
                "dataset.labels=from_0, from_1 or names"
            )
    of_label = {label: known[n - first] for label, n in numbers.items() if 0 <= n - first < len(known)}
    return known, of_label


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name)
