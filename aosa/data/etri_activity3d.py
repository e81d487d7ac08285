"""ETRI-Activity3D: 55 daily activities of 100 persons, seen by eight cameras."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from aosa.data.base import Entry, Problem, first_of
from aosa.data.choose import Choice
from aosa.data.class_map import check_classes
from aosa.data.files import FileDataset
from aosa.data.tables import read_lines
from aosa.data.video_folder import video_stem
from aosa.errors import ConfigError, MissingDataError
from aosa.fields import option
from aosa.options import as_text

_NAME = re.compile(r"A(\d{3})_P(\d{3})_G(\d{3})_C(\d{3})")
_DEPTH = 4  # folders below the root


@dataclass(kw_only=True)
class EtriActivity3D(Choice, FileDataset):
    """ETRI-Activity3D (Jang et al., 2020), RGB videos.

    A video is a file ``A<action>_P<person>_G<place>_C<camera>`` of three digits each, or a folder of that name with
    its images, anywhere below the root: as distributed (``P001-P010/P001/A001_P001_G001_C001.mp4``) or in one folder.
    Its id is ``A001/A001_P001_G001_C001``, its group the person.

    ``subset="test"``: the persons whose number is a multiple of three (33 of 100), ``train``: the 67 others, as in the
    data set's cross-subject protocol; ``list``: the videos of a text file with a video's file name on each line, and
    perhaps its label from 0, as mmaction2 has it. REVEX's authors publish their five folds in this form; these split
    videos, not persons.

    Class names are the data set's own, spelt as its page spells them. Videos of a list that are not there are
    ``problems``, and so are those whose action is none of the 55, or is another than their label in the list says;
    without a list none is known to be missing. Files of other names are counted in ``ignored``.

    Raises:
        ConfigError: no such folder or file, a list with a line that is none, an option out of range, an unknown
            class, or no video.
    """

    title: ClassVar[str] = "ETRI-Activity3D"

    annotated = frozenset()
    flip_keeps_class = True  # no class tells left from right

    name: str = option("etri_activity3d", "in folders and tables")
    subset: str = option("test", "persons, or the videos of a list", choices=("test", "train", "all", "list"))
    videos: str | Path | None = option(None, "with subset=list: that list")
    classes: Sequence[str] | None = option(None, "only these; None = all")

    def __post_init__(self) -> None:
        super().__post_init__()
        subset = self.subset
        if (subset == "list") != (self.videos is not None):
            raise ConfigError(
                f"dataset.videos={as_text(self.videos)} with dataset.subset={subset}: a list is needed with "
                "subset=list, and only there"
            )
        text = (files("aosa") / "assets" / "classes" / "etri_activity3d.txt").read_text(encoding="utf-8")
        names = text.splitlines()
        self.class_names = names if self.classes is None else check_classes(self.classes, names, self.name)
        self.ignored = 0
        there = self._scan()
        ids = self._read_list(Path(self.videos).expanduser()) if self.videos is not None else sorted(there)
        by_class: dict[str, list[str]] = {}
        for id in ids:
            if subset in ("test", "train") and (_person(id) % 3 == 0) != (subset == "test"):
                continue
            if 1 <= _action(id) <= len(names):
                by_class.setdefault(names[_action(id) - 1], []).append(id)
            elif self.classes is None:
                self.problems.append(Problem(id, "rejected", f"its action {_action(id)} is none of the {len(names)}"))
        # Of all classes, whichever are kept: a manifest serves every run.
        chosen, missing = self.choose(by_class, there)
        of = {id: class_name for class_name, own in by_class.items() for id in own if class_name in self.class_names}
        self.entries = [Entry(id, of[id], there[id], f"P{_person(id):03d}") for id in chosen if id in of]
        reason = "no video of this name anywhere in the data set's folder"
        self.problems += [Problem(id, "missing", reason) for id in missing if id in of]
        if not self.entries:
            raise MissingDataError(
                f"dataset.root={self.root}: none of its videos is of subset {subset} and of the classes asked for "
                f"({len(there)} files named as A001_P001_G001_C001.mp4, {self.ignored} others){first_of(self.problems)}"
            )

    def _scan(self) -> dict[str, Path]:
        """Id → video file or folder of images."""
        there: dict[str, Path] = {}
        todo = [(self.root, 0)]
        for folder, depth in todo:
            with os.scandir(folder) as content:
                found = sorted(content, key=lambda entry: entry.name)
            for entry in found:
                path = folder / entry.name
                if entry.is_dir():
                    id = _id(entry.name)
                    if id is None:
                        # A link may lead round in a circle.
                        todo += [(path, depth + 1)] if depth < _DEPTH else []
                        continue
                else:
                    id = _id(video_stem(entry.name) or "")
                    if id is None:
                        self.ignored += 1
                        continue
                used = there.setdefault(id, path)
                if used != path:
                    reason = f"the same video as {used.relative_to(self.root)}, which is used"
                    self.problems.append(Problem(path.relative_to(self.root).as_posix(), "rejected", reason))
        return there

    def _read_list(self, path: Path) -> list[str]:
        """The ids of a list, each once; a label that is not that of the video's action is a problem."""
        ids: dict[str, None] = {}
        for number, line in read_lines(path, "dataset.videos"):
            words = line.split()
            stem = os.path.splitext(words[0].replace("\\", "/").rsplit("/", 1)[-1])[0]
            id = _id(stem)
            if id is None:
                raise ConfigError(
                    f"dataset.videos={path}: line {number}: {line!r} does not begin with a name such as "
                    "A001_P001_G001_C001.mp4"
                )
            if len(words) > 1 and words[1] != str(_action(id) - 1):
                reason = f"line {number} gives it the label {words[1]}, and its action has {_action(id) - 1}"
                self.problems.append(Problem(id, "rejected", reason))
            else:
                ids[id] = None
        return list(ids)


def _id(stem: str) -> str | None:
    """``A001/A001_P001_G001_C001``; None for a file of another name."""
    match = _NAME.fullmatch(stem)
    return f"A{match[1]}/{stem}" if match else None


def _action(id: str) -> int:
    return int(id[1:4])


def _person(id: str) -> int:
    return int(id.split("_")[1][1:])
