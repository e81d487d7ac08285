"""Lists of class names as tools write them: a name per line, with or without numbers, CSV, or JSON."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from aosa.data.tables import read_json, read_lines
from aosa.errors import ConfigError

_SEPARATOR = r"(?:\s*[,;:\t]\s*|[.)]\s+|\s+)"
_LEADING = re.compile(rf"([0-9]+){_SEPARATOR}(\S.*)")
_TRAILING = re.compile(rf"(.*\S){_SEPARATOR}([0-9]+)")
# Columns of a CSV file, whatever their case.
_NUMBERS = ("id", "index", "number", "class_id", "class_index", "label_id", "verb_id", "noun_id")
_NAMES = ("name", "class", "label", "class_name", "label_name", "class_key")


def read_class_names(source: str | Path | Sequence[str], key: str) -> list[str]:
    """Class names from a list, a packaged list's name (``kinetics400``), or a file as `read_class_list` has it.

    Args:
        key: the config key that holds `source`, for messages.

    Raises:
        ConfigError: neither a file nor a packaged list, or a file that is no list of names.
    """
    if not isinstance(source, str | Path):
        return [str(name) for name in source]
    lists = files("aosa") / "assets" / "classes"
    asset, path = lists / f"{source}.txt", Path(source).expanduser()
    if "/" not in str(source) and asset.is_file():
        return asset.read_text(encoding="utf-8").splitlines()
    if path.exists():
        return read_class_list(path, key)
    names = sorted(p.name.removesuffix(".txt") for p in lists.iterdir())
    raise ConfigError(f"{key}={source}: neither a file nor one of {', '.join(names)}")


def read_class_list(path: Path, key: str = "") -> list[str]:
    """The class names of a file, in the order of their numbers.

    Args:
        path: a text file with a name per line; or with a number on each line as well, before the name or after it
            (``88 Surfing``, ``88,Surfing``, ``Surfing 88``); a CSV file with a header (``id,name``); or JSON: a list
            of names, or an object number → name or name → number.
        key: the config key that names the file, for messages; empty where none does.

    Raises:
        ConfigError: see `aosa.data.tables.read_text`; no name, a name twice, or numbers that do not count from 0 or 1
            without a hole; the message names them. Where numbers are part of the names, a JSON list says so.
    """
    where = f"{key}={path}" if key else str(path)
    if path.suffix.lower() == ".json":
        names = _from_json(read_json(path, key), where)
    else:
        names = _from_lines(read_lines(path, key), where)
    if not names:
        raise ConfigError(f"{where}: no class name in it")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: the class {twice!r} is there twice")
    return names


def _from_json(content: object, where: str) -> list[str]:
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [name.strip() for name in content]
    if isinstance(content, dict) and content:
        items = [(_bare(str(name)), value) for name, value in content.items()]
        if all(isinstance(value, int) and not isinstance(value, bool) for _, value in items):
            return _in_order([(value, name) for name, value in items], where)
        if all(isinstance(value, str) and re.fullmatch("[0-9]+", name) for name, value in items):
            return _in_order([(int(name), _bare(value)) for name, value in items], where)
    raise ConfigError(f"{where}: expected a list of names, or an object number → name or name → number")


def _from_lines(lines: Sequence[tuple[int, str]], where: str) -> list[str]:
    table = _from_table([line for _, line in lines], where)
    if table is not None:
        return table
    for pattern, number, name in ((_LEADING, 1, 2), (_TRAILING, 2, 1)):
        found = [(int(m[number]), _bare(m[name])) for _, line in lines if (m := pattern.fullmatch(line))]
        # "level 1", "level 2": the number is all that tells such names apart, and belongs to them.
        if pattern is _TRAILING and len({bare for _, bare in found}) < len(found):
            continue
        if found and len(found) == len(lines):
            return _in_order(found, where)
        if 2 * len(found) > len(lines):
            at, line = next((at, line) for at, line in lines if not pattern.fullmatch(line))
            raise ConfigError(f"{where}: line {at}: {line!r} has no number, and most of the others have one; {_HINT}")
    return [line for _, line in lines]


def _from_table(lines: Sequence[str], where: str) -> list[str] | None:
    """Of CSV with a header that names both columns; None where there is none."""
    header, *rows = csv.reader(lines, skipinitialspace=True) if lines else [[]]
    columns = [name.strip().casefold() for name in header]
    number = next((columns.index(name) for name in _NUMBERS if name in columns), None)
    name = next((columns.index(name) for name in _NAMES if name in columns), None)
    if number is None or name is None:
        return None
    wrong = next(
        (row for row in rows if len(row) != len(header) or not re.fullmatch(r"\s*[0-9]+\s*", row[number])), None
    )
    if wrong is not None:
        raise ConfigError(f"{where}: {','.join(wrong)!r} is no row of {','.join(header)}")
    return _in_order([(int(row[number]), row[name].strip()) for row in rows], where)


_HINT = "where numbers are part of the names, give a JSON list of names"


def _in_order(numbered: Sequence[tuple[int, str]], where: str) -> list[str]:
    """The names by their numbers, which must count from 0 or 1."""
    numbers = sorted(number for number, _ in numbered)
    first = numbers[0] if numbers and numbers[0] in (0, 1) else 0
    for place, number in enumerate(numbers):
        if number < place + first:
            raise ConfigError(f"{where}: the number {number} is there twice; {_HINT}")
        if number > place + first:
            raise ConfigError(
                f"{where}: the numbers must count from 0 or 1 without a hole, and {place + first} is missing; {_HINT}"
            )
    return [name for _, name in sorted(numbered)]


def _bare(name: str) -> str:
    """Without quotes around it, as some publishers leave them in."""
    name = name.strip()
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == '"' else name
