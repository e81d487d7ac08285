"""EPIC-Kitchens-55: what `EpicObject` and `EpicAction` share."""

from __future__ import annotations

import hashlib
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from aosa.clip import Clip
from aosa.data.base import Entry, Problem, first_of
from aosa.data.choose import Choice
from aosa.data.class_map import check_classes
from aosa.data.epic_lists import Segment, read_classes
from aosa.data.files import FileDataset
from aosa.data.preprocess import Geometry
from aosa.errors import MissingDataError
from aosa.fields import fixed, option
from aosa.video.image_range import ImageRange
from aosa.video.images import find_series

_IMAGE = "frame_{:010d}.jpg"
_FOLDER = re.compile(r"(?:(?P<before>.+)-)?(?P<video>P\d{2,3}_\d{2,3})_(?P<uid>\d+)(?:-(?P<after>.+))?")


@dataclass(kw_only=True)
class EpicKitchens(Choice, FileDataset):
    """Segments of EPIC-Kitchens-55 videos (Damen et al., 2018) with one of two labels: the verb or the noun.

    An entry's id is ``P01_01/<uid>``, its group the video. Frames are those that are distributed, 60 a second and
    numbered from 1, in ``<root>/P01/P01_01/frame_0000000001.jpg`` (or ``P01/rgb_frames/P01_01``, or ``P01_01``). Or a
    folder of images per segment, ``<verb>-<noun>-P01_01_<uid>`` or ``P01_01_<uid>-<verb>-<noun>``, in the root or in
    ``P01/P01_01``: what the STEP authors cut. All that is in it is then the clip's video; where its images are not
    numbered as the segment's frames are, nobody can say which these are, and the clip has no boxes and no segment.

    The choice (`per_class`, `seed`, `manifest`) says which segments of each class are ``subset="test"``; ``train`` is
    all others. Class names are in the order of their number of segments; with a class list and without `top`, in its
    order.

    Raises:
        ConfigError: no such folder or file, an annotation that is none (the message names the line), an option out
            of range, an unknown class, or not one of the listed segments is there.
    """

    flip_keeps_class = True  # no verb or noun tells left from right
    word: ClassVar[str]  # "verb" or "noun": which is the label

    damaged_videos: str = fixed("refuse")  # images are all there

    annotations: str | Path | None = option(
        None, "see `aosa.data.epic_lists.read_segments`; None = the segments that folders are named after"
    )
    subset: str = option("test", "train = all but those of test", choices=("test", "train", "all"))
    top: int | None = option(None, "only the so many classes with the most segments; None = all", low=1)
    classes: Sequence[str] | None = option(None, "only these; None = all")
    min_frames: int = option(1, "shorter segments are left out", low=1)
    class_list: str | Path | None = option(
        None,
        "``EPIC_verb_classes.csv`` or ``EPIC_noun_classes.csv``: classes are its own, each of several words; None = "
        "every word as narrated is a class",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._places: dict[str, list[Path]] = {}
        self._lists = None if self.class_list is None else read_classes(Path(self.class_list).expanduser(), self.word)
        long = [
            s for s in self.listed() if s.start is None or s.stop is None or s.stop - s.start + 1 >= self.min_frames
        ]
        of = {s.id: class_name for s in long if (class_name := self._class(s)) is not None}
        if self._lists is not None and self.classes is None:
            self.problems += [Problem(s.id, "rejected", self._why_no_class(s)) for s in long if s.id not in of]
        long = [s for s in long if s.id in of]
        ranked = sorted(Counter(of.values()).items(), key=lambda item: (-item[1], item[0]))
        best = [class_name for class_name, _ in ranked[: self.top]]
        self.class_names = best
        if self._lists is not None and self.top is None:
            self.class_names = self._lists[0]
        if self.classes is not None:
            self.class_names = check_classes(self.classes, self.class_names, self.name)
        self._find(long, of, best)

    @abstractmethod
    def listed(self) -> list[Segment]:
        """The segments of the annotation."""

    def pieces(self, segment: Segment) -> list[Segment]:
        """What may be shown of a segment, best first; the segment itself by default."""
        return [segment]

    def _class(self, segment: Segment) -> str | None:
        """The class of a segment; None where the class list has none for it."""
        word = segment.words[self.word]
        if self._lists is None:
            return word
        _, numbers, words = self._lists
        return numbers.get(segment.class_ids.get(self.word, "")) or words.get(word)

    def _why_no_class(self, segment: Segment) -> str:
        number = segment.class_ids.get(self.word)
        of_number = f" (class {number})" if number else ""
        return (
            f"its {self.word} {segment.words[self.word]!r}{of_number} is in none of the classes of dataset.class_list"
        )

    def _find(self, segments: list[Segment], of: dict[str, str], classes: list[str]) -> None:
        by_class: dict[str, list[str]] = {class_name: [] for class_name in classes}
        for segment in segments:
            if of[segment.id] in by_class:
                by_class[of[segment.id]].append(segment.id)
        known = {segment.id: segment for segment in segments}
        there = {id for ids in by_class.values() for id in ids if self._path(known[id])}
        # Of all classes, whichever are kept, and of segments as listed, whatever is shown of them: so test and train
        # stay apart in every run.
        test, missing = self.choose(by_class, there)
        ids = [*test, *missing]
        if self.subset != "test":
            apart = set(ids) if self.subset == "train" else set()
            ids = [id for own in by_class.values() for id in own if id not in apart]
        for id in ids:
            if of[id] not in self.class_names:
                continue
            found = ((piece, self._path(piece)) for piece in self.pieces(known[id])) if id in there else ()
            piece, path = next((f for f in found if f[1]), (known[id], None))
            if path is None:
                self.problems.append(Problem(id, "missing", self._why_missing(known[id])))
            else:
                self.entries.append(Entry(id, of[id], path, piece.video, {"segment": piece}))
        if not self.entries:
            raise MissingDataError(
                f"dataset.root={self.root}: none of the {len(ids)} listed segments ({self.name}, "
                f"{self.subset}) is there{first_of(self.problems)}"
            )

    def _path(self, segment: Segment) -> Path | ImageRange | None:
        """The ends are looked for and not what lies between: listing a video's folder takes longer."""
        if segment.start is not None and segment.stop is not None:
            for folder in self._folders_of(segment.video):
                images = ImageRange(folder, _IMAGE, segment.start, segment.stop)
                if images.image(segment.start).exists() and images.image(segment.stop).exists():
                    return images
        return self.folders.get(segment.id)

    def _folders_of(self, video: str) -> list[Path]:
        """Those of the places of a video's frames that are there."""
        if video not in self._places:
            person = self.root / video.split("_")[0]
            places = (person / video, person / "rgb_frames" / video, self.root / video)
            self._places[video] = [place for place in places if place.is_dir()]
        return self._places[video]

    @cached_property
    def folders(self) -> dict[str, Path]:
        """The folders of a segment each, by its id."""
        found = {}
        videos = [p for person in _folders(self.root) if re.fullmatch(r"P\d+", person.name) for p in _folders(person)]
        for folder in [*_folders(self.root), *(s for v in videos if _is_no_video(v) for s in _folders(v))]:
            match = _FOLDER.fullmatch(folder.name)
            if match:
                found[f"{match['video']}/{match['uid']}"] = folder
        return found

    def named(self) -> list[Segment]:
        """The segments that folders are named after; without any annotation these are all that is known."""
        segments = []
        for id, folder in sorted(self.folders.items()):
            match = _FOLDER.fullmatch(folder.name)
            assert match is not None
            words = (match["before"] or match["after"] or "").split("-")
            # Verbs have hyphens (turn-on), nouns have none.
            noun_first = self.word == "noun" and match["before"] is not None
            verb, noun = (words[1:], words[0]) if noun_first else (words[:-1], words[-1])
            if verb and noun:
                video, uid = id.split("/")
                segments.append(Segment(uid, video, {"verb": "-".join(verb), "noun": noun}))
        return segments

    def _why_missing(self, segment: Segment) -> str:
        video, places = segment.video, self._folders_of(segment.video)
        if segment.start is None or segment.stop is None or not places:
            return f"no folder {video[: video.index('_')]}/{video}, and none of segment {segment.uid} alone"
        ends = [_IMAGE.format(n) for n in (segment.start, segment.stop) if not (places[0] / _IMAGE.format(n)).exists()]
        place = places[0].relative_to(self.root).as_posix()
        return f"{place} lacks {' and '.join(ends) or 'frames before and after the action'}"

    def frame_numbers(self, entry: Entry, indices: Sequence[int]) -> list[int] | None:
        """The numbers, in the video, of the frames at `indices` of an entry; None where nobody can say."""
        segment, path = entry.extra["segment"], entry.path
        assert isinstance(segment, Segment)
        if isinstance(path, ImageRange):
            return [path.first + i for i in indices]
        assert path is not None
        numbers = find_series(path)[0].numbers
        known = (numbers[0], numbers[-1]) == (segment.start, segment.stop)
        return [numbers[i] for i in indices] if known else None

    def annotate(self, clip: Clip, entry: Entry, indices: Sequence[int], geometry: Geometry) -> None:
        numbers, segment = self.frame_numbers(entry, indices), entry.extra["segment"]
        assert isinstance(segment, Segment)
        if numbers is not None:
            self.mark(clip, segment, numbers, geometry)

    @abstractmethod
    def mark(self, clip: Clip, segment: Segment, numbers: Sequence[int], geometry: Geometry) -> None:
        """Add what the annotation says of the frames of these numbers."""

    def fingerprint(self, entry: Entry) -> str:
        """Of the images' bytes and of what is annotated."""
        segment = entry.extra["segment"]
        assert isinstance(segment, Segment)
        h = hashlib.sha256(super().fingerprint(entry).encode())
        h.update(repr((segment.start, segment.stop, segment.action)).encode())
        for frame, boxes in sorted(segment.boxes.items()):
            h.update(f"{frame}{boxes.shape}".encode() + np.ascontiguousarray(boxes).tobytes())
        return h.hexdigest()


def annotation_path(path: str | Path) -> Path:
    """A file of annotations as a config names it: ``..`` leads beside the root, even where that is a link."""
    return Path(os.path.normpath(Path(path).expanduser()))


def _folders(place: Path) -> list[Path]:
    with os.scandir(place) as content:
        return sorted(place / entry.name for entry in content if entry.is_dir())


def _is_no_video(folder: Path) -> bool:
    """Whether a folder may hold folders of segments: one of frames is not listed."""
    return not (folder / _IMAGE.format(1)).exists()
