"""The table of what can be downloaded: ``aosa/assets/downloads.yaml``, and the user's own in the same form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aosa.downloads.fetch import check_address
from aosa.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{8,64}")
_SAMPLING, _AVERAGE = re.compile("uniform|dense"), re.compile("probability|score")
_VIEWS = re.compile(r"[1-9]\d*x[1-9]\d*")


@dataclass
class Published:
    """An accuracy in percent as its publishers state it; ``views`` is ``<clips>x<crops>``. `sampling` and `average`: as
    of `aosa.engine.accuracy.Accuracy`; None = not known."""

    dataset: str
    top1: float
    source: str
    top5: float | None = None
    views: str | None = None
    sampling: str | None = None
    average: str | None = None
    protocol: str | None = None


@dataclass(kw_only=True)
class File:
    """One file to fetch. None: not stated by its publishers; see the head of ``downloads.yaml``."""

    file: str
    address: str | None = None
    page: str | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str | None = None
    unpack: bool = False
    key: str | None = None


@dataclass(kw_only=True)
class Weights(File):
    """A checkpoint, and what it is for."""

    model: str
    dataset: str
    num_classes: int
    options: list[str] = field(default_factory=list)
    instructions: str | None = None
    published: Published | None = None


@dataclass
class Table:
    """Checkpoints by name, and the files of each data set."""

    weights: dict[str, Weights]
    datasets: dict[str, list[File]]


def read_table(own: str | Path | None = None) -> Table:
    """The packaged table, with the user's entries added; one of the same name takes the packaged one's place.

    Args:
        own: a YAML file of the form of ``aosa/assets/downloads.yaml``, or a part of it.

    Raises:
        ConfigError: no such file, or an entry that is wrong, named with its key.
    """
    packaged = _read(Path(str(files("aosa") / "assets" / "downloads.yaml")), "downloads.yaml")
    if own is None:
        return packaged
    added = _read(Path(own).expanduser(), f"table={own}")
    return Table({**packaged.weights, **added.weights}, {**packaged.datasets, **added.datasets})


def published_weights(checkpoint: str | Path) -> Weights | None:
    """The packaged entry of a checkpoint, known by the name of its file."""
    name = Path(checkpoint).name
    return next((w for w in read_table().weights.values() if w.file == name), None)


def _read(path: Path, where: str) -> Table:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: not YAML ({str(error).splitlines()[0]})") from None
    weights = content.get("weights", {}) if isinstance(content, dict) else None
    datasets = content.get("datasets", {}) if isinstance(content, dict) else None
    if not (
        isinstance(weights, dict) and isinstance(datasets, dict) and all(isinstance(d, list) for d in datasets.values())
    ):
        raise ConfigError(
            f"{where}: should map weights: and datasets: to names, and those of datasets to lists of files"
        )
    return Table(
        {str(k): _entry(Weights, v, f"{where}: weights.{k}") for k, v in weights.items()},
        {str(k): [_entry(File, e, f"{where}: datasets.{k}") for e in v] for k, v in datasets.items()},
    )


def _entry(kind: type[Any], content: Any, where: str) -> Any:
    try:
        entry: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), content))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from None
    published = getattr(entry, "published", None)
    for key, value, fits, right in (
        ("file", entry.file, _NAME, "the name of a file, without folders"),
        ("sha256", entry.sha256, _SHA256, "8 to 64 hexadecimal digits, or null"),
        ("views", getattr(published, "views", None), _VIEWS, "<clips>x<crops>, such as 10x3"),
        ("sampling", getattr(published, "sampling", None), _SAMPLING, "uniform or dense"),
        ("average", getattr(published, "average", None), _AVERAGE, "probability or score"),
    ):
        if value is not None and not fits.fullmatch(value):
            raise ConfigError(f"{where}: {key}={value}: give {right}")
    if entry.size is not None and entry.size < 1:
        raise ConfigError(f"{where}: size={entry.size}: give a number of bytes, or null")
    for key in ("address", "page"):
        if getattr(entry, key) is not None:
            check_address(getattr(entry, key), f"{where}: {key}")
    return entry
