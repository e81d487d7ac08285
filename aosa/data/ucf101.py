"""UCF101 as its users have it: the videos with the official split lists, or extracted frames with a JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from aosa.data.base import Entry, Problem
from aosa.data.class_map import check_classes
from aosa.data.files import FileDataset
from aosa.errors import ConfigError
from aosa.evenly import evenly
from aosa.options import check_choice, check_whole

_JSON_SUBSETS = {"train": "training", "test": "validation"}


class UCF101(FileDataset):
    """UCF101 (Soomro et al., 2012).

    An entry's id is ``<Class>/<video>``; its group, ``<Class>/gXX``, is the recording that the clip was
    cut from. The class is the folder's name as the lists have it: real files of ``HandstandPushups`` are
    called ``v_HandStandPushups_…``.

    Args:
        root: holds ``UCF-101/<Class>/*.avi`` and ``ucfTrainTestlist/`` (layout ``video``), or
            ``jpg/<Class>/<video>/image_00001.jpg`` and ``ucf101_0<split>.json`` (layout ``frames``, as
            3D-ResNets-PyTorch prepares it).
        layout: ``video`` or ``frames``.
        split: 1, 2 or 3.
        subset: ``test`` or ``train``.
        classes: only these; None = all.
        limit_per_class: at most so many videos of a class, evenly spaced among those that are there (neighbours in
            the list are often cut from one recording).
        name, window, index, interval, class_map, short_videos: see `aosa.data.files.FileDataset`.

    Listed videos that are not there are ``problems``, not errors.

    Raises:
        ConfigError: no such folder or list, an unknown class, an option out of range, or not one of the
            listed videos is there.
    """

    annotated = frozenset()
    flip_keeps_class = True  # no class tells left from right

    def __init__(
        self,
        root: str | Path,
        name: str = "ucf101",
        layout: str = "video",
        split: int = 1,
        subset: str = "test",
        classes: Sequence[str] | None = None,
        limit_per_class: int | None = None,
        window: str = "centre",
        index: int | None = None,
        interval: int | None = None,
        class_map: str | Path | Mapping[str, str] | None = None,
        short_videos: str = "refuse",
    ) -> None:
        super().__init__(root, name, window, index, interval, class_map, short_videos)
        check_choice("dataset", layout=(layout, ("video", "frames")), split=(split, (1, 2, 3)))
        check_choice("dataset", subset=(subset, ("test", "train")))
        check_whole("dataset", limit_per_class=(limit_per_class, 1))
        self.layout, self.split, self.subset = layout, split, subset
        self.class_names = self.all_classes()
        if classes is not None:
            self.class_names = check_classes(classes, self.class_names, name)
        self._find(limit_per_class)

    def all_classes(self) -> list[str]:
        """The data set's classes in the order of its labels."""
        if self.layout == "frames":
            return list(self._json["labels"])
        return [line.split()[-1] for _, line in self._lines(self.root / "ucfTrainTestlist" / "classInd.txt")]

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
        for number, line in self._lines(file):
            # Train lists carry the label after the name.
            path = _safe(line.split()[0], f"{file}: line {number}")
            yield path.parent.name, "UCF-101" / path

    def identity(self) -> dict[str, object]:
        """Also the layout: both have the same ids. The split only selects."""
        return {**super().identity(), "layout": self.layout}

    def _find(self, limit_per_class: int | None) -> None:
        kept, number = set(self.class_names), 0
        found: dict[str, list[Entry]] = {}
        there: dict[Path, set[str]] = {}
        for class_name, path in self.listed():
            if class_name not in kept:
                continue
            number += 1
            # One look at each class's folder instead of one per video.
            folder = self.root / path.parent
            if folder not in there:
                there[folder] = set(os.listdir(folder)) if folder.is_dir() else set()
            video = path.name.removesuffix(".avi")
            id = f"{class_name}/{video}"
            if path.name not in there[folder]:
                self.problems.append(Problem(id, "missing", self._why_missing(path, there[folder])))
            else:
                entry = Entry(id, class_name, self.root / path, _group(class_name, video))
                found.setdefault(class_name, []).append(entry)
        for entries in found.values():
            self.entries += evenly(entries, limit_per_class or len(entries))
        if not self.entries:
            first = f"; the first is looked for as {path}" if number else ""
            raise ConfigError(
                f"dataset.root={self.root}: none of the {number} listed videos "
                f"({self.name}, layout {self.layout}, split {self.split}, {self.subset}) is there{first}"
            )

    def _why_missing(self, path: Path, there: set[str]) -> str:
        if there:
            case = [name for name in there if name.casefold() == path.name.casefold()]
            return f"{path} is not there" + (f"; {case[0]} differs only in case" if case else "")
        parent = self.root / path.parent.parent
        folders = [p.name for p in parent.iterdir()] if parent.is_dir() else []
        case = [f for f in folders if f.casefold() == path.parent.name.casefold() and f != path.parent.name]
        return f"no folder {path.parent}" + (f"; {case[0]} differs only in case" if case else "")

    @property
    def _json_file(self) -> Path:
        return self.root / f"ucf101_{self.split:02d}.json"

    @cached_property
    def _json(self) -> dict[str, dict]:
        path = self._json_file
        try:
            data = json.loads("\n".join(line for _, line in self._lines(path)))
            # All that `listed` reads.
            _ = data["labels"], [(item["subset"], item["annotations"]["label"]) for item in data["database"].values()]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}: not an annotation of 3D-ResNets-PyTorch ({type(error).__name__}: {error})"
            ) from None
        return data

    def _lines(self, path: Path) -> list[tuple[int, str]]:
        """The lines that are not blank, with their numbers."""
        try:
            return [(n, line) for n, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
        except OSError:
            raise ConfigError(
                f"dataset.root={self.root}: {path.relative_to(self.root)} is not there; layout {self.layout} needs it"
            ) from None


def _safe(name: str, place: str) -> Path:
    """``<Class>/<video>`` as a path that cannot leave its folder."""
    parts = name.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ConfigError(f"{place} holds {name!r}, which is no <Class>/<video>")
    return Path(*parts)


def _group(class_name: str, video: str) -> str | None:
    match = re.search(r"_(g\d+)_c\d+$", video)
    return f"{class_name}/{match[1]}" if match else None
