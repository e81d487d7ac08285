"""UCF101 as its users have it: the videos with the official split lists, or extracted frames with a JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from aosa.data.base import Entry, Problem, first_of
from aosa.data.class_map import check_classes
from aosa.data.class_names import read_class_list
from aosa.data.files import FileDataset
from aosa.data.tables import read_json, read_lines
from aosa.data.video_folder import video_stem
from aosa.errors import ConfigError, MissingDataError
from aosa.fields import option
from aosa.subsample import subsample

_JSON_SUBSETS = {"train": "training", "test": "validation"}


@dataclass(kw_only=True)
class UCF101(FileDataset):
    """UCF101 (Soomro et al., 2012).

    An entry's id is ``<Class>/<video>``; its group, ``<Class>/gXX``, is the recording that the clip was
    cut from. The class is the folder's name as the lists have it: real files of ``HandstandPushups`` are
    called ``v_HandStandPushups_…``.

    The root holds ``UCF-101/<Class>/*.avi`` (or ``.mp4``, or any other extension of a video) and ``ucfTrainTestlist/``
    (layout ``video``), or ``jpg/<Class>/<video>/image_00001.jpg`` and ``ucf101_0<split>.json`` (layout ``frames``, as
    3D-ResNets-PyTorch prepares it).

    Listed videos that are not there are ``problems``, not errors; so are those of a class that the class list lacks,
    and those with the number of another class.

    Raises:
        ConfigError: no such folder or list, an unknown class, an option out of range, or not one of the
            listed videos is there.
    """

    title: ClassVar[str] = "UCF101"

    annotated = frozenset()
    flip_keeps_class = True  # no class tells left from right

    name: str = option("ucf101", "in folders and tables")
    layout: str = option("video", "the videos, or their frames", choices=("video", "frames"))
    split: int = option(1, "of the official three", choices=(1, 2, 3))
    subset: str = option("test", "of the split", choices=("test", "train"))
    classes: Sequence[str] | None = option(None, "only these; None = all")
    limit_per_class: int | None = option(
        None,
        "at most so many videos of a class, evenly spaced among those that are there (neighbours in the list are often "
        "cut from one recording)",
        low=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.class_names = known = self.all_classes()
        if self.classes is not None:
            self.class_names = check_classes(self.classes, known, self.name)
        # Where classes are chosen, videos of none of them are not asked for.
        self._find(None if self.classes is not None else known)

    def all_classes(self) -> list[str]:
        """The data set's classes in the order of its labels."""
        if self.layout == "frames":
            return list(self._json["labels"])
        return self._numbered

    def listed(self) -> Iterator[tuple[str, Path]]:
        """Class and path below the root of every video of the split."""
        if self.layout == "frames":
            for video, item in self._json["database"].items():
                if item["subset"] == _JSON_SUBSETS[self.subset]:
                    class_name = item["annotations"]["label"]
                    place = f"{self._json_file}: database"
                    yield class_name, Path("jpg") / _safe(f"{class_name}/{video}", place)
            return
        file = self.root / "ucfTrainTestlist" / f"{self.subset}list{self.split:02d}.txt"
        for number, line in read_lines(self._there(file)):
            # Train lists carry the class's number after the name.
            name, *label = line.split()
            path = _safe(name, f"{file}: line {number}")
            if label and (path.parent.name not in self._numbered or label[0] == self._number(path.parent.name)):
                label = []
            if label:
                reason = (
                    f"{file.name} gives it the number {label[0]}, and its class has {self._number(path.parent.name)}"
                )
                self.problems.append(Problem(_id(path), "rejected", reason))
            else:
                yield path.parent.name, "UCF-101" / path

    def identity(self) -> dict[str, object]:
        """Also the layout: both have the same ids. The split only selects."""
        return {**super().identity(), "layout": self.layout}

    def _find(self, known: Sequence[str] | None) -> None:
        kept, number, seen = set(self.class_names), 0, set()
        found: dict[str, list[Entry]] = {}
        there: dict[Path, dict[str, list[str]]] = {}
        for class_name, path in self.listed():
            if class_name not in kept:
                if known is not None:
                    reason = f"its class {class_name!r} is none of the {len(known)} of the class list"
                    self.problems.append(Problem(_id(path), "rejected", reason))
                continue
            if _id(path) in seen:
                self.problems.append(Problem(_id(path), "rejected", "it is listed a second time"))
                continue
            seen.add(_id(path))
            number += 1
            # One look at each class's folder instead of one per video.
            if path.parent not in there:
                there[path.parent] = self._content(path.parent)
            files = there[path.parent].get(_stem(path), [])
            file = path.name if path.name in files else files[0] if len(files) == 1 else None
            if file is None:
                self.problems.append(Problem(_id(path), "missing", self._why_missing(path, there[path.parent])))
            else:
                entry = Entry(_id(path), class_name, self.root / path.parent / file, _group(class_name, _stem(path)))
                found.setdefault(class_name, []).append(entry)
        for entries in found.values():
            self.entries += subsample(entries, self.limit_per_class or len(entries))
        if not self.entries:
            first = f"; the first is looked for as {path}" if number else first_of(self.problems)
            raise MissingDataError(
                f"dataset.root={self.root}: none of the {number} listed videos "
                f"({self.name}, layout {self.layout}, split {self.split}, {self.subset}) is there{first}"
            )

    def _content(self, folder: Path) -> dict[str, list[str]]:
        """The names in a class's folder, by what the list calls their videos without an extension."""
        content: dict[str, list[str]] = {}
        for name in sorted(os.listdir(self.root / folder)) if (self.root / folder).is_dir() else []:
            stem = name if self.layout == "frames" else video_stem(name)
            if stem is not None:
                content.setdefault(stem, []).append(name)
        return content

    def _why_missing(self, path: Path, there: Mapping[str, Sequence[str]]) -> str:
        if there:
            several = there.get(_stem(path))
            if several:
                return f"{path} is not there, and several could be it: {', '.join(several)}"
            case = [names[0] for stem, names in there.items() if stem.casefold() == _stem(path).casefold()]
            return f"{path} is not there" + (f"; {case[0]} differs only in case" if case else "")
        parent = self.root / path.parent.parent
        folders = [p.name for p in parent.iterdir()] if parent.is_dir() else []
        case = [f for f in folders if f.casefold() == path.parent.name.casefold() and f != path.parent.name]
        return f"no folder {path.parent}" + (f"; {case[0]} differs only in case" if case else "")

    @cached_property
    def _numbered(self) -> list[str]:
        return read_class_list(self._there(self.root / "ucfTrainTestlist" / "classInd.txt"))

    def _number(self, class_name: str) -> str:
        return str(self._numbered.index(class_name) + 1)

    @property
    def _json_file(self) -> Path:
        return self.root / f"ucf101_{self.split:02d}.json"

    @cached_property
    def _json(self) -> dict[str, dict]:
        path = self._there(self._json_file)
        data = read_json(path)
        try:
            # All that `listed` reads.
            _ = data["labels"], [(item["subset"], item["annotations"]["label"]) for item in data["database"].values()]
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: not an annotation of 3D-ResNets-PyTorch ({type(error).__name__}: {error})"
            ) from None
        return data

    def _there(self, path: Path) -> Path:
        """A list that the layout needs, if it is there."""
        if not path.exists():
            raise MissingDataError(
                f"dataset.root={self.root}: {path.relative_to(self.root)} is not there; layout {self.layout} needs it"
            )
        return path


def _safe(name: str, place: str) -> Path:
    """``<Class>/<video>`` as a path that cannot leave its folder."""
    parts = name.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ConfigError(f"{place} holds {name!r}, which is no <Class>/<video>")
    return Path(*parts)


def _stem(path: Path) -> str:
    return video_stem(path.name) or path.name


def _id(path: Path) -> str:
    return f"{path.parent.name}/{_stem(path)}"


def _group(class_name: str, video: str) -> str | None:
    match = re.search(r"_(g\d+)_c\d+$", video)
    return f"{class_name}/{match[1]}" if match else None
