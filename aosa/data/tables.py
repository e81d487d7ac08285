"""Lists and tables that users bring: their text in whatever encoding, CSV rows with their line numbers, JSON, and names
that cannot leave a folder."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aosa.errors import ConfigError, MissingDataError

Row = dict[str, str]

_LARGEST = 1 << 29  # bytes of a list; the longest that is published has a third of it
# The longer mark first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def read_text(path: Path, key: str = "") -> str:
    """The text of a file that a user brings, without its byte-order mark.

    The mark, where there is one, says whether it is UTF-8, UTF-16 or UTF-32. Without one it is UTF-8 if all of it is,
    else Windows-1252, or Latin-1 where bytes are none of that.

    Args:
        key: the config key that names the file, for messages; empty where none does.

    Raises:
        MissingDataError: no such file.
        ConfigError: not a file (a folder, a pipe), one that cannot be read or holds zero bytes, or one
            of more than 512 MiB.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{_where(path, key)}: not a file (a folder or a pipe)")
        if status.st_size > _LARGEST:
            raise ConfigError(f"{_where(path, key)}: {status.st_size >> 20} MiB are no list")
        data = path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = (error.strerror or "cannot be read").lower()
        raise (MissingDataError if missing else ConfigError)(f"{_where(path, key)}: {reason}") from None
    except ValueError as error:  # a zero character in the path
        raise ConfigError(f"{_where(path, key)!r}: {error}") from None
    try:
        text = _decode(data)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{_where(path, key)}: its byte-order mark says {error.encoding}, and it is not ({error})"
        ) from None
    if "\0" in text:
        raise ConfigError(f"{_where(path, key)}: not a text file (it holds zero bytes; UTF-16 needs a byte-order mark)")
    return text


def _where(path: Path, key: str) -> str:
    return f"{key}={path}" if key else str(path)


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def read_lines(path: Path, key: str = "") -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1 and without spaces around them.

    Raises:
        ConfigError: see `read_text`.
    """
    # Not splitlines, which also parts at characters that a name may hold.
    lines = enumerate(re.split(r"\r\n|\r|\n", read_text(path, key)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_json(path: Path, key: str = "") -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: see `read_text`; or not JSON, or the same name twice in one object, of which one would be lost.
    """
    text = read_text(path, key)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{_where(path, key)}: not JSON ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} comes twice in one object")
    return content


def read_rows(path: Path, columns: Sequence[str], key: str, delimiter: str = ",") -> Iterator[tuple[str, Row]]:
    """The rows of a CSV file, each with its place (``"line 7"``) for messages, which name the file before it.

    Encodings as `read_text` has them; CRLF, blank lines and spaces around fields do no harm; columns may be in any
    order, and others may be there.

    Args:
        columns: those that must be there.
        key: the config key that names the file.
        delimiter: between fields.

    Raises:
        ConfigError: see `read_text`; a header without these columns, or with one of them twice; a row that is too
            short or too long.
    """
    reader = csv.reader(io.StringIO(read_text(path, key), newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            raise ConfigError(
                f"{_where(path, key)}: line 1 lacks {', '.join(missing)}; expected a header with {','.join(columns)}, "
                f"found {','.join(header)[:200] or 'an empty file'}"
            )
        twice = [name for name in header if name and header.count(name) > 1]
        if twice:
            raise ConfigError(f"{_where(path, key)}: line 1 has two columns {twice[0]}")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            place = f"line {reader.line_num}"
            if len(fields) != len(header):
                raise ConfigError(
                    f"{_where(path, key)}: {place} has {len(fields)} fields, the header has {len(header)}"
                )
            yield place, dict(zip(header, (field.strip() for field in fields), strict=True))
    except csv.Error as error:
        raise ConfigError(f"{_where(path, key)}: not a CSV file: line {reader.line_num}: {error}") from None


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
    plain = name.isascii() and name.isprintable()
    odd = "/" in name or "\\" in name or (not plain and any(unicodedata.category(c).startswith("C") for c in name))
    if odd or name.strip() != name or name in ("", ".", ".."):
        raise ConfigError(f"{place}: {column}={name!r} cannot be the name of a file or folder")
    return name
