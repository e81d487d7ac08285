"""A part of a data set's videos: so many of each class, chosen by a seed and written down; or so many of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from aosa.data.base import Entry
from aosa.data.tables import read_rows
from aosa.errors import ConfigError
from aosa.fields import Checked, option
from aosa.files import write_csv
from aosa.rng import key_seed

HEADER = ("id", "class", "per_class", "seed")


def limited(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """So many of the entries, in their order; None = all.

    They are those that come first in an order that depends on their ids alone, as lists are often sorted by class.
    What a smaller limit takes is part of what a larger one takes.
    """
    if limit is None:
        return list(entries)
    kept = {e.id for e in sorted(entries, key=lambda e: key_seed("limit", e.id))[:limit]}
    return [e for e in entries if e.id in kept]


@dataclass(kw_only=True)
class Choice(Checked):
    """Which of the listed videos a data set consists of.

    Each class's videos stand in an order that depends on their ids and the seed alone; the first `per_class` of those
    that are there are taken. Those passed over because they are not there are named, so what is chosen from a data
    set with holes differs from what is chosen from a whole one in these videos only.

    A manifest is a CSV file with columns id, class, per_class, seed; the last two may be absent. Where it is there, its
    videos are *the* videos, and those of them that are missing have no replacement; where it is not, the choice is
    written to it.

    Raises:
        ConfigError: an option out of range.
    """

    owner: ClassVar[str] = "dataset"

    per_class: int | None = option(
        None, "so many of each class, or fewer where fewer are there; None = all, in the order of the list", low=1
    )
    seed: int = option(0, "of the order of which they are the first", low=0)
    manifest: str | Path | None = option(None, "file of the choice: read where it is there, else written")

    def choose(self, listed: Mapping[str, Sequence[str]], there: Collection[str]) -> tuple[list[str], list[str]]:
        """The ids chosen and there, and those chosen or passed over that are not there.

        Args:
            listed: class → ids, in the order of the list.
            there: the ids whose video is there.

        Raises:
            ConfigError: a manifest that is none, was made with other options, names a video that is not listed, or
                cannot be written.
        """
        manifest = None if self.manifest is None else Path(self.manifest).expanduser()
        if manifest is not None and manifest.exists():
            wanted = self._recorded(manifest, {id: name for name, ids in listed.items() for id in ids})
            return [id for id in wanted if id in there], [id for id in wanted if id not in there]
        chosen: list[str] = []
        missing: list[str] = []
        for ids in listed.values():
            taken = 0
            for id in ids if self.per_class is None else sorted(ids, key=lambda id: key_seed(self.seed, "choose", id)):
                if taken == self.per_class:
                    break
                taken += id in there
                (chosen if id in there else missing).append(id)
        if manifest is not None and chosen:
            of = {id: name for name, ids in listed.items() for id in ids}
            try:
                write_csv(manifest, HEADER, ({"id": id, "class": of[id], **self._made()} for id in chosen))
            except OSError as error:
                reason = (error.strerror or "unknown reason").lower()
                raise ConfigError(f"dataset.manifest={manifest}: cannot be written ({reason})") from None
        return chosen, missing

    def _recorded(self, manifest: Path, classes: Mapping[str, str]) -> list[str]:
        ids: dict[str, None] = {}
        for place, row in read_rows(manifest, ("id", "class"), "dataset.manifest"):
            if classes.get(row["id"]) != row["class"]:
                raise ConfigError(
                    f"dataset.manifest={manifest}: {place}: {row['id']!r} of class {row['class']!r} is not listed "
                    "by the annotation"
                )
            made = {key: row[key] for key in HEADER[2:] if key in row}
            if any(self._made()[key] != value for key, value in made.items()):
                raise ConfigError(
                    f"dataset.manifest={manifest}: {place} was chosen with {_told(made)}, this run asks for "
                    f"{_told(self._made())}; give the same, or another file"
                )
            ids[row["id"]] = None
        if not ids:
            raise ConfigError(f"dataset.manifest={manifest}: no video in it; delete it, and it is made anew")
        return list(ids)

    def _made(self) -> dict[str, str]:
        """As the manifest has them: empty for null; without `per_class` no seed was used."""
        return dict.fromkeys(HEADER[2:], "") if self.per_class is None else {
            "per_class": str(self.per_class), "seed": str(self.seed)
        }  # fmt: skip


def _told(values: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value or 'null'}" for key, value in values.items())
