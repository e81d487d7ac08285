"""Archives from elsewhere: looked through first, unpacked beside, then moved to where they belong."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from aosa.downloads.fetch import Here, alone, check_room, no_room, readable
from aosa.downloads.rar import checksums
from aosa.errors import AosaError

_MOST = 1_000_000  # members
_LONGEST, _DEEPEST = 1000, 32  # letters of a name, and folders in it
# Videos hardly shrink: what claims to is made to fill the disk. Lists of text do, and are small.
_RATIO, _RATIO_FROM = 100, 1_000_000_000
_CHUNK = 1 << 20
_LOCAL_HEADER = 30  # bytes before the name of a member and its data
_AGAIN = "; delete it and download it again"
_BY_HAND = "; unpack it by hand"

# Mode, links, owner, group, size (of a device: its two numbers), month, day, year or time, name.
_BSDTAR_LINE = re.compile(r"(\S)\S+\s+\d+\s+\S+\s+\S+\s+(?:\d+,)?(\d+)\s+\w+\s+\d+\s+[\d:]+ (.*)")
_UNRAR_TYPES = {"File": "-", "Directory": "d"}


@dataclass(frozen=True)
class Member:
    """One thing in an archive; ``kind`` as ``ls -l`` has it: ``-`` a file, ``d`` a folder, ``l`` a link."""

    name: str
    kind: str
    size: int


def unpack(archive: Path, target: Path) -> int:
    """Unpack a .zip or .rar below a folder; all of it or nothing.

    Every member is looked at before anything is written: only files and folders whose names stay below `target` are
    taken. None is written beyond the size that is listed. What is there already with the size that it should have is
    kept, so that unpacking again does nothing. Rar needs a program: bsdtar or unrar.

    Returns:
        how many files the archive brought.

    Raises:
        AosaError: damaged or encrypted; a member that is a link, a device, or would leave the folder; two members in
            one place; sizes out of reason; another file is in the place of one; no room; no program that reads rar;
            another process is unpacking it.
    """
    with archive.open("rb") as file, alone(file, archive):
        members = list_members(archive)
        check_members(members, archive)
        wanted = {m.name: m.size for m in members if m.kind == "-"}
        beside = target / f".{archive.name}.unpacking"
        for name, size in wanted.items():
            there = target / name
            folder = next((p for p in reversed(there.relative_to(target).parents) if _is_other(target / p)), None)
            if folder is not None:
                raise AosaError(f"{target / folder} is there already and is not a folder; move it away")
            if os.path.lexists(there) and not (there.is_file() and there.stat().st_size == size):
                raise AosaError(f"{there} is there already and is another than in {archive.name}; move it away")
            if PurePosixPath(name).parts[0] == beside.name:
                raise AosaError(f"{archive}: refused, nothing is unpacked: its member {name!r} has a name of ours")
        new = [name for name in wanted if not (target / name).exists()]
        if not new:
            return 0
        size, packed = sum(wanted.values()), archive.stat().st_size
        if size > max(_RATIO_FROM, _RATIO * packed):
            claim = f"it has {readable(packed)} and claims to hold {readable(size)}"
            raise AosaError(f"{archive}: refused: {claim}{_BY_HAND} if that is so")
        check_room(target, size, f"what {archive.name} holds")
        print(f"unpacking {archive.name}: {len(wanted)} files, {readable(size)}", flush=True)
        shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
        try:
            beside.mkdir()
            _extract(archive, members, beside)
            _move(beside, target)
        except OSError as error:
            where = error.filename or target
            raise no_room(where, error) or Here(f"{archive}: {where}: {error.strerror or error}") from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return len(new)


def _is_other(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def list_members(archive: Path) -> list[Member]:
    """What an archive holds; nothing is unpacked.

    Raises:
        AosaError: damaged, of another kind, or no program reads it.
    """
    if archive.suffix == ".zip":
        with _open_zip(archive) as file:
            return [Member(_plain(i.filename), _zip_kind(i), i.file_size) for i in file.infolist()]
    if archive.suffix != ".rar":
        raise AosaError(f"{archive}: neither .zip nor .rar")
    tool, program = _program(archive)
    if tool == "bsdtar":
        return parse_bsdtar(_run([program, "-tvf", str(archive)], archive), archive)
    return parse_unrar(_run([program, "lt", "-p-", str(archive)], archive))


def parse_bsdtar(listing: str, archive: Path) -> list[Member]:
    """The members that ``bsdtar -tv`` lists.

    Raises:
        AosaError: a line of another form; to leave it out would be to take it unseen.
    """
    members = []
    for line in listing.splitlines():
        found = _BSDTAR_LINE.fullmatch(line)
        if found is None:
            raise AosaError(f"{archive}: bsdtar lists {line!r}, which is not understood; unpack it by hand")
        members.append(Member(_plain(found[3]), found[1], int(found[2])))
    return members


def parse_unrar(listing: str) -> list[Member]:
    """The members that ``unrar lt`` lists, in blocks of ``key: value``."""
    members = []
    for block in re.split(r"\n\s*\n", listing):
        values = dict(re.findall(r"^\s*(Name|Type|Size): (.*)$", block, re.MULTILINE))
        if {"Name", "Type"} <= set(values):
            kind = _UNRAR_TYPES.get(values["Type"], "l")
            members.append(Member(_plain(values["Name"]), kind, int(values.get("Size", 0))))
    return members


def check_members(members: list[Member], archive: Path) -> None:
    """Refuse an archive of which any member is not a file or folder of its own below the folder it is unpacked in.

    Raises:
        AosaError: naming the member.
    """
    if len(members) > _MOST:
        raise AosaError(f"{archive}: refused: it holds more than {_MOST} members{_BY_HAND}")
    seen: dict[str, Member] = {}
    above: set[str] = set()
    for member in members:
        name, why = member.name, ""
        path = PurePosixPath(name)
        if len(name) > _LONGEST or len(path.parts) > _DEEPEST:
            raise AosaError(f"{archive}: refused, nothing is unpacked: its member {name[:100]!r} … is nested too deep")
        # Some systems take names for one that differ in case or in how their accents are written.
        place = unicodedata.normalize("NFC", name).casefold()
        other = seen.setdefault(place, member)
        folders = {unicodedata.normalize("NFC", str(p)).casefold() for p in path.parents}
        file_above = next((seen[f] for f in folders if f in seen and seen[f].kind == "-"), None)
        if member.kind not in "-d":
            why = "is neither a file nor a folder"
        elif not name:
            why = "has no name"
        elif name.startswith(("/", "~")) or ".." in path.parts or (name == "." and member.kind == "-"):
            why = "would leave the folder"
        elif "\\" in name or ":" in name or not name.isprintable() or any(len(p.encode()) > 255 for p in path.parts):
            why = "has a name that not every system takes"
        elif file_above is not None or (member.kind == "-" and place in above) or member.kind != other.kind:
            why = "is a file as well as a folder"
        elif other is not member and other.name == name:
            why = "is there twice"
        elif other is not member and member.kind == "-":
            why = f"differs from {other.name!r} only in a way that not every system keeps"
        if why:
            raise AosaError(f"{archive}: refused, nothing is unpacked: its member {name!r} {why}")
        above |= folders
    if not any(m.kind == "-" for m in members):
        raise AosaError(f"{archive}: holds no files{_AGAIN}")


def _plain(name: str) -> str:
    """The name of a member, without ``./`` before and a slash behind it."""
    return PurePosixPath(name).as_posix() if name else ""


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if info.filename.endswith("/"):
        return "d"
    mode = info.external_attr >> 16  # 0 when the zip was not made on Unix
    return "-" if not stat.S_IFMT(mode) else stat.filemode(mode)[0]


def _program(archive: Path) -> tuple[str, str]:
    for tool in ("bsdtar", "unrar"):
        if path := shutil.which(tool):
            return tool, path
    raise AosaError(
        f"{archive}: a .rar needs the program bsdtar (package libarchive-tools, or libarchive) or unrar; install one "
        f"and run the same command again, or unpack it by hand"
    )


def _run(command: list[str], archive: Path) -> str:
    with _running(command, archive) as stream:
        return stream.read().decode(errors="replace")


@contextmanager
def _running(command: list[str], archive: Path) -> Iterator[IO[bytes]]:
    """What a program writes, while it writes it.

    Raises:
        AosaError: it ended with an error.
    """
    # English words and plain dates in listings; file names in UTF-8.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, stdin=subprocess.DEVNULL
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:
            process.kill()
            raise
        process.stdout.close()
        if process.wait():
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines() or ["it gave no reason"]
            end = _BY_HAND if re.search("encrypt|password", said[0], re.IGNORECASE) else _AGAIN
            raise AosaError(f"{archive}: {Path(command[0]).name} cannot read it ({said[0]}){end}")


@contextmanager
def _open_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose members lie side by side, are not encrypted, and are packed in a way that can be read.

    Raises:
        AosaError: another one; or, in the body, one that is damaged.
    """
    what = "damaged or not a zip"
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive) as file:
            _check_zip(file, archive)
            what = "damaged"
            yield file
    except AosaError:
        raise
    except Exception as error:  # zlib, bz2, struct and others, each in its own way
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk
        raise AosaError(f"{archive}: {what} ({str(error) or type(error).__name__}){_AGAIN}") from None


def _check_directory(archive: Path) -> None:
    """Refuse a zip whose directory is too long to be read into memory (APPNOTE.TXT, 4.3.14 to 4.3.16)."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - (1 << 16) - 200))
        tail = file.read()
    end, end64 = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    size = 0
    if 0 <= end <= len(tail) - 22:
        (size,) = struct.unpack_from("<I", tail, end + 12)
    if 0 <= end64 <= len(tail) - 56:
        size = max(size * (size != 0xFFFFFFFF), *struct.unpack_from("<Q", tail, end64 + 40))
    if size > 100 * _MOST:  # each takes 46 bytes and its name
        raise AosaError(f"{archive}: refused: it holds more than {_MOST} members{_BY_HAND}")


def _check_zip(file: zipfile.ZipFile, archive: Path) -> None:
    at = 0
    for info in sorted(file.infolist(), key=lambda i: i.header_offset):
        if info.flag_bits & 0x41:
            raise AosaError(f"{archive}: its member {info.filename!r} is encrypted{_BY_HAND}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            raise AosaError(
                f"{archive}: its member {info.filename!r} is packed by method {info.compress_type}, which is not read "
                f"here{_BY_HAND}"
            )
        if info.header_offset < at:
            raise AosaError(f"{archive}: refused: its member {info.filename!r} lies within another one")
        at = info.header_offset + _LOCAL_HEADER + info.compress_size


def _extract(archive: Path, members: list[Member], folder: Path) -> None:
    """Write the files of an archive, none longer than it is listed, and its folders; nothing but this is made."""
    for member in members:
        path = folder / member.name
        (path if member.kind == "d" else path.parent).mkdir(parents=True, exist_ok=True)
    files = [m for m in members if m.kind == "-"]
    if archive.suffix == ".zip":
        with _open_zip(archive) as file:
            infos = {_plain(i.filename): i for i in file.infolist()}
            for member in files:
                with file.open(infos[member.name]) as stream:
                    if _write(stream, folder, [member]) or stream.read(1):
                        raise AosaError(f"{archive}: {member.name!r} does not unpack to what is listed{_AGAIN}")
        return
    # The files follow one another, without a sign between them.
    tool, program = _program(archive)
    command = [program, "-xOf", str(archive)] if tool == "bsdtar" else [program, "p", "-inul", "-p-", str(archive)]
    with _running(command, archive) as stream:
        short = _write(stream, folder, files)
        if stream.read(1):
            raise AosaError(f"{archive}: unpacks to more than is listed{_AGAIN}")
    if short:  # and the program saw nothing wrong
        raise AosaError(f"{archive}: {short.name!r} does not unpack to what is listed{_AGAIN}")
    if tool == "bsdtar":
        _check_sums(archive, files, folder)


def _write(stream: IO[bytes], folder: Path, files: list[Member]) -> Member | None:
    """Write files, whose content follows one another; the first one that comes short is given back."""
    for member in files:
        left = member.size
        with (folder / member.name).open("xb") as file:
            while left and (data := stream.read(min(left, _CHUNK))):
                left -= file.write(data)
        if left:
            return member
    return None


def _check_sums(archive: Path, files: list[Member], folder: Path) -> None:
    """Compare what a .rar unpacked to with the checksums in it.

    Raises:
        AosaError: naming the first file that differs.
    """
    try:
        sums = checksums(archive)
    except ValueError as error:
        raise AosaError(f"{archive}: damaged ({error}){_AGAIN}") from None
    if sums is None:
        return
    if [size for size, _ in sums] != [member.size for member in files]:
        raise AosaError(f"{archive}: damaged (its files are others than are listed){_AGAIN}")
    for member, (_, expected) in zip(files, sums, strict=True):
        crc = 0
        with (folder / member.name).open("rb") as file:
            while data := file.read(_CHUNK):
                crc = zlib.crc32(data, crc)
        if crc != expected:
            raise AosaError(f"{archive}: damaged (the checksum of {member.name!r} differs){_AGAIN}")


def _move(source: Path, target: Path) -> None:
    """Everything below a folder to below another; what is there is kept."""
    for path in source.iterdir():
        there = target / path.name
        if not there.exists():
            os.replace(path, there)
        elif there.is_dir():
            _move(path, there)
