"""Files and folders that are either there whole or not at all.

What is being written lies beside its place under a hidden name, ``.aosa-<host>-<random><suffix>``, and is renamed when
it is whole. Its writer holds a lock (flock) on it, which the system lets go of when the process ends, however it ends.
So what a killed process leaves behind is told from what is still being written, and `remove_leftovers` removes it.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: nothing is locked there, and nothing proven dead
    fcntl = None  # type: ignore[assignment]

_PREFIX = ".aosa-"
_LOCK, _FOLDER = ".lock", ".folder"  # a folder in the making has its lock beside it
_DAY = 86400


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the same folder, of the same suffix, that becomes `path` when the body ends well.

    Two processes may write one path at once: the last one wins, whole. What killed processes left in the folder is
    removed.

    Raises:
        OSError: naming `path`, when its folder cannot be made or written, or the disk is full; nothing is
            left behind.
    """
    target = Path(path)
    try:
        _make(target.parent)
        with _locked(target.parent, target.suffix) as temporary:
            yield temporary
            temporary.chmod(0o644)
            os.replace(temporary, target)
    except OSError as error:
        raise _naming(target, error) from error


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the body ends well; what was there stays until then.

    Two processes may write one path at once: the last one wins, whole.

    Raises:
        OSError: as of `whole_file`.
    """
    target = Path(path)
    try:
        with temporary_folder(target.parent) as beside:
            new, old = beside / "new", beside / "old"
            new.mkdir()
            yield new
            _swap(new, target, old)
    except OSError as error:
        if error.filename is None or _PREFIX in str(error.filename):
            raise _naming(target, error) from error
        raise


def _swap(new: Path, target: Path, old: Path) -> None:
    while True:
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        try:
            new.rename(target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(old, ignore_errors=True)  # another process's came in between


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder below `parent` that is removed at the end; after a kill by the next process that writes there.

    Raises:
        OSError: it cannot be made.
    """
    _make(parent)
    with _locked(parent, _LOCK) as lock:
        folder = lock.with_suffix(_FOLDER)
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_temporary(path: Path) -> bool:
    """Whether it is, by its name, a file or folder in the making."""
    return path.name.startswith(_PREFIX)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in a folder and below it.

    Removed is what nobody holds the lock of, if its name says that it was made on this host. Where it was made on
    another (a shared disk need not share its locks), or the disk has no locks, it must be a day old, too.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(_PREFIX)]
        _remove_dead(Path(parent), names)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _look_once(folder.absolute())


@cache
def _look_once(folder: Path) -> None:
    """A process looks for leftovers in each folder before it first writes there."""
    with contextlib.suppress(OSError):
        _remove_dead(folder, os.listdir(folder))


def _remove_dead(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if name.startswith(_PREFIX) and not name.endswith(_FOLDER):
            with contextlib.suppress(OSError):  # its writer lives, or another process removes it
                _remove(folder / name)


def _remove(path: Path) -> None:
    with path.open("r+b") as file:  # locks of a network disk want a file that may be written
        free = _lock(file.fileno())
        here = path.name.startswith(f"{_PREFIX}{_host()}-")
        if (free and here) or time.time() - os.fstat(file.fileno()).st_mtime > _DAY:
            if path.suffix == _LOCK:
                shutil.rmtree(path.with_suffix(_FOLDER), ignore_errors=True)
            path.unlink()


@contextlib.contextmanager
def _locked(folder: Path, suffix: str) -> Iterator[Path]:
    """A new file that this process holds the lock of; removed at the end if it is still there."""
    handle, path = _create(folder, suffix)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _create(folder: Path, suffix: str) -> tuple[int | None, Path]:
    while True:
        handle, name = tempfile.mkstemp(prefix=f"{_PREFIX}{_host()}-", suffix=suffix, dir=folder)
        if fcntl is None:
            os.close(handle)  # an open file cannot be renamed there
            return None, Path(name)
        try:
            _lock(handle)
            if os.fstat(handle).st_nlink:
                return handle, Path(name)
        except BlockingIOError:
            pass
        os.close(handle)  # taken for a leftover before the lock was ours


def _lock(handle: int) -> bool:
    """Take the lock of an open file; False where there are no locks.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (AttributeError, OSError):
        return False
    return True


@cache
def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _naming(path: Path, error: OSError) -> OSError:
    """The same error, naming the file that was to be written and not the hidden one."""
    return OSError(error.errno, error.strerror or str(error), str(path))


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
