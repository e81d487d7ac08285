"""The annotations of Kinetics: what is listed, in each of the forms that are in use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aosa.data.base import Problem
from aosa.data.tables import read_json, read_rows, safe_name, whole
from aosa.errors import ConfigError, MissingDataError

# What publishers call a subset, in annotations and as names of files and folders.
SUBSETS = {"val": ("val", "validate", "validation"), "train": ("train", "training"), "test": ("test", "testing")}

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_TIMES = re.compile(r"_\d{6}_\d{6}$")


@dataclass(frozen=True)
class Listed:
    """A clip of the annotation; `stem` is its file's name without the extension: ``<youtube id>_000417_000427``."""

    class_name: str
    youtube_id: str
    stem: str

    @property
    def times(self) -> tuple[int, int]:
        """Start and end in seconds."""
        start, end = self.stem.rsplit("_", 2)[1:]
        return int(start), int(end)

    @property
    def id(self) -> str:
        return f"{self.class_name}/{self.stem}"


def find_annotation(root: Path, subset: str) -> Path:
    """The annotation in `root` or its ``annotations/`` by its published name: CSV before JSON, that of the subset
    (``val.csv``, ``kinetics-700_val.csv``, ``validate.json`` …) before one of all (``kinetics700.json``).

    Raises:
        ConfigError: there is none, or several of one kind.
    """
    names = "|".join(SUBSETS[subset])
    kinetics = r"kinetics[-_]?(?:[4-7]00)?(?:_2020)?"
    folders = [f for f in (root / "annotations", root) if f.is_dir()]
    there = [folder / name for folder in folders for name in sorted(os.listdir(folder))]
    for pattern in (
        rf"(?:{kinetics}[-_])?(?:{names})\.csv",
        rf"(?:{kinetics}[-_])?(?:{names})\.json",
        rf"{kinetics}\.json",
    ):
        found = [path for path in there if re.fullmatch(pattern, path.name, re.IGNORECASE)]
        if len(found) > 1:
            files = ", ".join(path.relative_to(root).as_posix() for path in found)
            raise ConfigError(f"dataset.annotations=null: {root} holds several: {files}; name one")
        if found:
            return found[0]
    raise MissingDataError(
        f"dataset.root={root}: no annotation of subset {subset} in it or in its annotations/, such as "
        f"{SUBSETS[subset][0]}.csv; or set dataset.annotations"
    )


def read_annotation(path: Path, subset: str) -> tuple[list[str], list[Listed], list[Problem]]:
    """The class names and the clips of a subset, each once, in the order of the file; and those clips whose label is
    none of the ``labels``.

    Args:
        path: a CSV (``label,youtube_id,time_start,time_end[,split]``), the official JSON
            (``{"<youtube id>": {"annotations": {"label", "segment"}, "subset"}}``), or that of 3D-ResNets-PyTorch
            (``{"labels", "database": {"<youtube id>_000417_000427": …}}``).
        subset: a key of `SUBSETS`; clips of others are left out.

    Returns:
        names in the order of the JSON's ``labels``; where there are none, in that of the alphabet, which is the order
        of the published label maps.

    Raises:
        ConfigError: a file that is none of these, a value that is none, two labels for one clip (the message names
            the line, or the JSON's key), or no clip of the subset and of the labels.
    """
    labels: list[str] = []
    if path.suffix.lower() == ".json":
        labels, rows = _read_json(path, subset)
    else:
        rows = list(_read_csv(path, subset))
    clips: dict[str, tuple[str, Listed]] = {}
    strange: list[Problem] = []
    known = set(labels)
    for place, clip in rows:
        if labels and clip.class_name not in known:
            reason = f"its class {clip.class_name!r} is none of the {len(labels)} labels of {path.name}"
            strange.append(Problem(clip.id, "rejected", reason))
            continue
        first, before = clips.setdefault(clip.stem, (place, clip))
        if before != clip:
            raise ConfigError(
                f"{path}: {first} and {place} give {clip.stem} two labels, {before.class_name!r} and "
                f"{clip.class_name!r}"
            )
    if not clips:
        of_labels = f" whose class is one of its {len(labels)} labels; {strange[0].reason}" if strange else ""
        raise ConfigError(f"dataset.annotations={path}: no video of subset {subset} in it{of_labels}")
    listed = [clip for _, clip in clips.values()]
    return labels or sorted({clip.class_name for clip in listed}), listed, strange


def _read_csv(path: Path, subset: str) -> Iterator[tuple[str, Listed]]:
    for place, row in read_rows(path, _COLUMNS, "dataset.annotations"):
        if row.get("split", subset).lower() in SUBSETS[subset]:
            span = (row["time_start"], row["time_end"])
            yield place, _clip(row["label"], row["youtube_id"], span, f"{path}: {place}")


def _read_json(path: Path, subset: str) -> tuple[list[str], list[tuple[str, Listed]]]:
    data = read_json(path, "dataset.annotations")
    try:
        labels = [str(label) for label in data.get("labels", [])]
        items = [(str(key), item, str(item["subset"]).lower()) for key, item in data.get("database", data).items()]
        rows = []
        for key, item, part in items:
            if part in SUBSETS[subset]:
                about = item["annotations"]
                about = about[0] if isinstance(about, list) else about  # of ActivityNet's form
                span = None if _TIMES.search(key) else about["segment"]
                rows.append((f"video {key!r}", _clip(about["label"], key, span, f"{path}: video {key!r}")))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"dataset.annotations={path}: neither the official JSON of Kinetics nor that of 3D-ResNets-PyTorch "
            f"({type(error).__name__}: {error})"
        ) from None
    return labels, rows


def _clip(label: object, key: str, span: tuple[object, object] | None, place: str) -> Listed:
    """`span` is None where the key has the times in it."""
    stem = safe_name(key, place, "youtube_id")
    if span is not None:
        start, end = span
        stem = f"{key}_{whole(start, place, 'time_start'):06d}_{whole(end, place, 'time_end'):06d}"
    return Listed(safe_name(label, place, "label"), _TIMES.sub("", stem), stem)
