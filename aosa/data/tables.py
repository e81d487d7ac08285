"""Annotation tables that users bring: CSV rows with their line numbers, and names that cannot leave a folder."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from aosa.errors import ConfigError

Row = dict[str, str]


def read_rows(path: Path, columns: Sequence[str], key: str) -> Iterator[tuple[str, Row]]:
    """The rows of a CSV file, each with its place (``"line 7"``) for messages, which name the file before it.

    A byte-order mark, CRLF, blank lines and spaces around fields do no harm; columns may be in any order, and others
    may be there.

    Args:
        columns: those that must be there.
        key: the config key that names the file.

    Raises:
        ConfigError: no such file, not UTF-8, a header without these columns, a row that is too short or too long.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                raise ConfigError(
                    f"{key}={path}: line 1 lacks {', '.join(missing)}; expected a header with {','.join(columns)}, "
                    f"found {','.join(header)[:200] or 'an empty file'}"
                )
            for fields in reader:
                if not fields:
                    continue
                place = f"line {reader.line_num}"
                if len(fields) != len(header):
                    raise ConfigError(f"{key}={path}: {place} has {len(fields)} fields, the header has {len(header)}")
                yield place, dict(zip(header, (field.strip() for field in fields), strict=True))
    except OSError as error:
        raise ConfigError(f"{key}={path}: {(error.strerror or 'cannot be read').lower()}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{key}={path}: not a CSV file in UTF-8 ({error})") from None


def whole(value: object, place: str, column: str) -> int:
    """A number of frames or seconds that is at least 0; a fraction is cut off, as in the names of Kinetics clips.

    Raises:
        ConfigError: anything else, naming the place.
    """
    try:
        number = int(float(str(value)))
    except (ValueError, OverflowError):
        number = -1
    if number < 0:
        raise ConfigError(f"{place}: {column}={value!r} is not a number of at least 0")
    return number


def safe_name(value: object, place: str, column: str) -> str:
    """A text as one part of a path and of a clip's id.

    Raises:
        ConfigError: it is empty, leads out of its folder, or holds separators or unprintable characters.
    """
    name = str(value)
    odd = any(c in "/\\" or unicodedata.category(c).startswith("C") for c in name)
    if odd or name.strip() != name or name in ("", ".", ".."):
        raise ConfigError(f"{place}: {column}={name!r} cannot be the name of a file or folder")
    return name
