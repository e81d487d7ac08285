"""Files that are either there whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the same folder, of the same suffix, that becomes `path` when the body ends well.

    Two processes may write one path at once: the last one wins, whole.

    Raises:
        OSError: naming `path`, when its folder cannot be made or written, or the disk is full; nothing is
            left behind.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder, and refuse one that takes no files.

    Raises:
        OSError: naming it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a small file whole or not at all; text is UTF-8.

    Raises:
        OSError: see `whole_file`.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, whole or not at all.

    Raises:
        OSError: see `whole_file`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
