"""Kinetics as its users have it: clips cut from YouTube videos, in any of the layouts that are in use."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aosa.data.base import Entry, Problem
from aosa.data.choose import Choice
from aosa.data.class_map import check_classes
from aosa.data.files import FileDataset
from aosa.data.kinetics_lists import SUBSETS, Listed, find_annotation, read_annotation
from aosa.data.video_folder import video_stem
from aosa.errors import ConfigError, MissingDataError
from aosa.fields import option


@dataclass(kw_only=True)
class Kinetics(Choice, FileDataset):
    """What `Kinetics400` and `Kinetics700` share.

    An entry's id is ``<class>/<youtube id>_<start>_<end>`` with six digits each, its group the YouTube video. A clip
    is looked for as ``<folder>/<class>/<youtube id>_<start>_<end>`` or without the class folder; as ``<youtube id>``
    alone where the annotation has that video once; with any extension of `aosa.data.video_folder`, or two of them
    (``.mp4.mkv``), or as a folder of numbered images. Where there is no such file, times of fewer or more digits will
    do, if one file alone has them. A class folder may have underscores for spaces and other letters' case, and lack
    quotes and brackets. No file is opened and none is asked for its state: each folder is listed once.

    Published names of the folder of clips: ``val``, ``videos_val``, ``val_256``, ``rawframes_val`` (also ``validate``,
    ``validation``; as the subset is called), ``jpg``. The AOSA paper takes ten validation videos a class.

    Listed videos that are not there are ``problems``, not errors; so are second files of one video, which are not
    read, and videos of a class that the annotation's ``labels`` lack.

    Raises:
        ConfigError: no such folder or file, an annotation or a manifest that is none, an option out of range, an
            unknown class, or not one of the listed videos is there.
    """

    annotated = frozenset()
    flip_keeps_class = True  # no class tells left from right

    annotations: str | Path | None = option(
        None, "see `aosa.data.kinetics_lists.read_annotation`; None = see `find_annotation` there"
    )
    folder: str | None = option(None, "of the clips, below the root; None = the first there is of the published names")
    subset: str = option("val", "of the data set", choices=tuple(SUBSETS))
    classes: Sequence[str] | None = option(None, "only these; None = all")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.annotations
        path = find_annotation(self.root, self.subset) if given is None else Path(given).expanduser()
        self.class_names, listed, strange = read_annotation(path, self.subset)
        if self.classes is None:
            self.problems += strange
        else:
            self.class_names = check_classes(self.classes, self.class_names, self.name)
        self.clips = self._folder()
        self._find(listed)

    def _folder(self) -> Path:
        folder, subset = self.folder, self.subset
        if folder is not None and (Path(folder).is_absolute() or ".." in Path(folder).parts):
            raise ConfigError(f"dataset.folder={folder}: give a folder below dataset.root={self.root}")
        own = [form.format(name) for name in SUBSETS[subset] for form in ("{}", "videos_{}", "{}_256", "rawframes_{}")]
        for name in [*own, "jpg"] if folder is None else [folder]:
            if (self.root / name).is_dir():
                return self.root / name
        what = f"dataset.folder={folder}: no such folder" if folder else f"no folder of clips, such as {subset},"
        raise ConfigError(f"{what} in dataset.root={self.root}; set dataset.folder")

    def _find(self, listed: list[Listed]) -> None:
        kept = set(self.class_names)
        by_class: dict[str, list[str]] = {}
        for clip in listed:
            by_class.setdefault(clip.class_name, []).append(clip.id)
        files = self._scan({_plain(name) for name in by_class})
        once = Counter(clip.youtube_id for clip in listed)
        other = _other_times(files, listed)
        paths = {clip.id: _path(clip, files, other, once[clip.youtube_id] == 1) for clip in listed}
        # Of all classes, whichever are kept: a manifest serves every run.
        chosen, missing = self.choose(by_class, {id for id, path in paths.items() if path})
        clips = {clip.id: clip for clip in listed if clip.class_name in kept}
        for id in chosen:
            if id in clips:
                self.entries.append(Entry(id, clips[id].class_name, paths[id], clips[id].youtube_id))
        for id in missing:
            if id in clips:
                self.problems.append(Problem(id, "missing", self._why_missing(clips[id], files, other)))
        if not self.entries:
            first = next(iter(clips.values()), listed[0])
            raise MissingDataError(
                f"dataset.root={self.root}: none of the {len(clips)} listed videos ({self.name}) is there; the first "
                f"is looked for as {self._below(self.clips / first.id)}.mp4"
            )

    def _scan(self, classes: set[str]) -> dict[str, dict[str, Path]]:
        """Stem → plain name of the class folder (empty: in none) → video file or folder of images."""
        files: dict[str, dict[str, Path]] = {}
        todo = [("", self.clips)]
        for class_name, folder in todo:
            with os.scandir(folder) as content:
                there = sorted(content, key=lambda entry: entry.name)
            for entry in there:
                stem = video_stem(entry.name)
                if entry.is_dir():
                    if folder is self.clips and _plain(entry.name) in classes:
                        todo.append((_plain(entry.name), folder / entry.name))
                        continue
                    stem = entry.name
                elif stem is None:
                    continue
                path = folder / entry.name
                used = files.setdefault(stem, {}).setdefault(class_name, path)
                if used != path:
                    reason = f"the same video as {self._below(used)}, which is used"
                    self.problems.append(Problem(self._below(path), "rejected", reason))
        return files

    def _why_missing(
        self, clip: Listed, files: Mapping[str, Mapping[str, Path]], other: Mapping[tuple[str, int, int], list[str]]
    ) -> str:
        stems = other.get((clip.youtube_id, *clip.times), [])
        if len(stems) > 1:
            return f"{clip.stem} is not there, and several could be it: {', '.join(stems)}"
        elsewhere = list(files.get(clip.stem, {}).values())
        if elsewhere:
            return f"it is not in the folder of its class; {self._below(elsewhere[0])} is there"
        return f"{self._below(self.clips / clip.id)}.mp4 is not there, nor another form of it"

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _other_times(files: Mapping[str, object], listed: Sequence[Listed]) -> dict[tuple[str, int, int], list[str]]:
    """The stems of files with times that are not written as the list has them (``_7_17``, ``_7.0_17.0``), by YouTube
    id, start and end; none that is the name of another listed video."""
    names = {name for clip in listed for name in (clip.stem, clip.youtube_id)}
    stems = defaultdict(list)
    for stem in files:
        match = re.fullmatch(r"(.+)_([0-9]+)(?:\.[0-9]+)?_([0-9]+)(?:\.[0-9]+)?", stem)
        if match and stem not in names:
            stems[match[1], int(match[2]), int(match[3])].append(stem)
    return dict(stems)


def _path(
    clip: Listed,
    files: Mapping[str, Mapping[str, Path]],
    other: Mapping[tuple[str, int, int], list[str]],
    alone: bool,
) -> Path | None:
    stems = other.get((clip.youtube_id, *clip.times), [])
    for stem in (clip.stem, *(stems if len(stems) == 1 else ()), *((clip.youtube_id,) if alone else ())):
        there = files.get(stem, {})
        path = there.get(_plain(clip.class_name)) or there.get("")
        if path is not None:
            return path
    return None


def _plain(name: str) -> str:
    """A class's name with nothing but letters, digits and single spaces; no two classes of Kinetics share it."""
    return " ".join(re.sub(r"[^a-z0-9]+", " ", re.sub("['\"’]", "", name.casefold())).split())
