"""Any folder of ``<class>/<video>``, or of videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from aosa.data.base import Entry, Problem
from aosa.data.class_map import check_classes
from aosa.data.files import FileDataset
from aosa.errors import MissingDataError
from aosa.fields import option

EXTENSIONS = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


def video_stem(name: str) -> str | None:
    """A file's name without the extension of a video, or the several of ``clip.mp4.mkv``; None for other files."""
    stem, extension = os.path.splitext(name)
    if extension.lower() not in EXTENSIONS or not stem:
        return None
    return video_stem(stem) or stem


@dataclass(kw_only=True)
class VideoFolder(FileDataset):
    """The videos of a folder: those in its sub-folders have the sub-folder's name as their class, those
    at its top have none. An id is ``<class>/<name without extension>``; where that would name two
    videos, both keep their extension.

    Hidden files are skipped, files of other extensions counted in ``ignored``. A folder inside a class is not read, and
    is listed in ``problems``.

    Raises:
        ConfigError: no such folder, no video in it, or a class that is none of its sub-folders.
    """

    title: ClassVar[str] = "Video folder"

    annotated = frozenset()

    name: str = option("video_folder", "in folders and tables")
    classes: Sequence[str] | None = option(None, "only these sub-folders, in this order; None = all, sorted")
    extensions: Sequence[str] = option(EXTENSIONS, "of files that are videos, in any case")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._suffixes = tuple("." + e.lower().lstrip(".") for e in self.extensions)
        self.ignored = 0
        folders = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        where = f"dataset.root={self.root}"
        self.class_names = folders if self.classes is None else check_classes(self.classes, folders, where)
        if self.classes is None:
            self._scan(self.root, None)
        for class_name in self.class_names:
            self._scan(self.root / class_name, class_name)
        if not self.entries:
            raise MissingDataError(
                f"{where}: no video in it or in its sub-folders "
                f"({self.ignored} files with extensions other than {' '.join(self._suffixes)})"
            )

    def _scan(self, folder: Path, class_name: str | None) -> None:
        prefix = "" if class_name is None else f"{class_name}/"
        videos: list[Path] = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if class_name is not None:
                    reason = "a folder inside a class is not read; videos must lie at <class>/<video>"
                    self.problems.append(Problem(prefix + path.name, "rejected", reason))
            elif path.suffix.lower() not in self._suffixes:
                self.ignored += 1
            elif reason := _unsafe(prefix + path.name):
                self.problems.append(Problem(_printable(prefix + path.name), "rejected", reason))
            else:
                videos.append(path)
        stems, names = Counter(p.stem for p in videos), {p.name for p in videos}
        for path in videos:
            ambiguous = stems[path.stem] > 1 or path.stem in names
            self.entries.append(Entry(prefix + (path.name if ambiguous else path.stem), class_name, path))


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _unsafe(name: str) -> str:
    """Why a name cannot be the id of a clip, which names files on other systems too; empty when it can."""
    if "\ufffd" in _printable(name):
        return "its name is not UTF-8; rename it"
    return "its name holds a backslash; rename it" if "\\" in name else ""
