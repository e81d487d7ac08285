"""Fetch published weights and data sets, by the table in ``aosa/assets/downloads.yaml``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from omegaconf import DictConfig

from aosa.config import build, did_you_mean, quoted
from aosa.downloads.fetch import Gone, Here, fetch, readable
from aosa.downloads.table import File, Table, Weights, read_table
from aosa.downloads.unpack import unpack
from aosa.errors import AosaError, ConfigError
from aosa.stages.keys import check_common


def run(cfg: DictConfig) -> int:
    """Fetch ``weights=<name>`` to ``<data_root>/weights``, ``dataset=<name>`` to where its config has it, or print
    the table. ``dry_run`` says what would be fetched, from where and to where.

    Returns:
        0.

    Raises:
        ConfigError: a name that is not in the table, or an entry that is wrong.
        AosaError: it cannot be fetched; see `aosa.downloads.fetch.fetch` and `aosa.downloads.unpack.unpack`.
    """
    check_common(cfg)
    table = read_table(cfg.table)
    dataset = cfg.get("dataset")
    if cfg.list or (cfg.weights is None and dataset is None):
        print(listing(table, _folder(cfg)))
        return 0
    if cfg.weights is not None:
        _weights(cfg, table, str(cfg.weights))
    if dataset is not None:
        _dataset(cfg, table, str(dataset.name))
    return 0


def listing(table: Table, folder: Path) -> str:
    """The table for a reader: a line for each checkpoint and each file of a data set."""
    rows = [("weights", "model", "size", "licence", "")]
    for name, entry in table.weights.items():
        by_hand = "" if entry.address else "by hand" if entry.page else "unpublished"
        rows.append((name, entry.model, *_facts(entry), "is there" if (folder / entry.file).is_file() else by_hand))
    rows += [("", "", "", "", ""), ("dataset", "file", "size", "licence", "")]
    rows += [(name, entry.file, *_facts(entry), "") for name, entries in table.datasets.items() for entry in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _facts(entry: File) -> tuple[str, str]:
    return readable(entry.size) if entry.size else "unpublished", entry.licence or "not stated"


def _folder(cfg: DictConfig) -> Path:
    return Path(cfg.data_root).expanduser() / "weights"


def _weights(cfg: DictConfig, table: Table, name: str) -> None:
    entry = table.weights.get(name)
    if entry is None:
        same = [n for n, w in table.weights.items() if w.model == name]
        hint = f"; for model {name}: {', '.join(same)}" if same else did_you_mean(name, list(table.weights))
        raise ConfigError(f"there is no weights={name}{hint}\n  choices: {', '.join(table.weights)}")
    path = _folder(cfg) / entry.file
    if entry.address is not None:
        _fetch(entry, path, dry=cfg.dry_run)
    elif path.is_file():
        print(f"{path} is there")
    else:
        how = entry.instructions or ""
        if entry.page:
            how = f"{how} Open {entry.page} and put the file at {path}.".strip()
        raise AosaError(f"weights={name} has no address of its own. {how} Weights of your own: checkpoint=<file>")
    print(f"licence: {entry.licence or 'not stated'}; to use them:\n  {use(entry, path, cfg.data_root)}")


def use(entry: Weights, path: Path, data_root: str) -> str:
    """The command that uses a checkpoint."""
    given = {"dataset": entry.dataset, "model": entry.model, "checkpoint": str(path)}
    return _command("explain", [f"{k}={_value(v)}" for k, v in given.items()] + entry.options, data_root)


def _dataset(cfg: DictConfig, table: Table, name: str) -> None:
    entries = table.datasets.get(name)
    if entries is None:
        choices = ", ".join(table.datasets)
        raise ConfigError(f"dataset={name} has no download; docs/datasets.md says how to get it\n  choices: {choices}")
    root = Path(cfg.dataset.root).expanduser()
    if any(entry.unpack for entry in entries) and _complete(cfg.dataset):
        print(f"{name} is complete in {root}")
    else:
        for entry in entries:
            path = Path(cfg.dataset[entry.key]).expanduser() if entry.key else root / entry.file
            _fetch(entry, path, room=(entry.size or 0) if entry.unpack else 0, dry=cfg.dry_run)
            if entry.unpack and not cfg.dry_run:
                print(f"{path.name}: {unpack(path, root)} new files; the archive itself is no longer needed")
    print(f"to verify it:\n  {_command('prepare', [f'dataset={name}'], cfg.data_root)}")


def _complete(dataset: DictConfig) -> bool:
    """Whether every listed video is there already."""
    try:
        parts = [build(dataset, subset=subset) for subset in ("train", "test")]
    except ConfigError:
        return False
    return not any(p.kind == "missing" for part in parts for p in part.problems)


def _fetch(entry: File, path: Path, room: int = 0, dry: bool = False) -> None:
    if entry.address is None:
        raise AosaError(f"{entry.file} has no address; put it at {path}")
    if dry:
        there = "; a file is there already" if path.exists() else ""
        print(f"would fetch {entry.address} ({_facts(entry)[0]}) to {path}{there}")
        return
    try:
        new = fetch(entry.address, path, size=entry.size, sha256=entry.sha256, room=room)
    except Here:
        raise
    except AosaError as error:
        elsewhere = entry.page or (None if isinstance(error, Gone) else entry.address)
        hint = f". By hand: open {elsewhere} and put the file at {path}" if elsewhere else ""
        raise AosaError(f"{error}{hint}") from None
    checked = [what for what, value in (("size", entry.size), ("sha256", entry.sha256)) if value is not None]
    said = f"{' and '.join(checked)} as published" if checked else "its publishers state neither size nor sha256"
    print(f"{path} {'is fetched' if new else 'is there already'}: {readable(path.stat().st_size)}, {said}")


def _command(stage: str, overrides: list[str], data_root: str) -> str:
    if data_root != "data":
        overrides = [*overrides, f"data_root={_value(data_root)}"]
    return shlex.join(["python", f"scripts/{stage}.py", *overrides])


def _value(text: str) -> str:
    return text if re.fullmatch(r"[\w./+-]+", text, re.ASCII) else quoted(text)
