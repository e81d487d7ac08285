"""Archives from elsewhere: looked through first, unpacked beside, then moved to where they belong."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aosa.errors import AosaError
from aosa.fetch import alone, check_room, readable

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
    taken. What is there already with the size that it should have is kept, so that unpacking again does nothing.
    Rar needs a program: bsdtar or unrar.

    Returns:
        how many files the archive brought.

    Raises:
        AosaError: damaged; a member that is a link, a device, or would leave the folder; another file is in its
            place; no room; no program that reads rar; another process is unpacking it.
    """
    with archive.open("rb") as file, alone(file, archive):
        members = list_members(archive)
        check_members(members, archive)
        wanted = {m.name: m.size for m in members if m.kind == "-"}
        for name, size in wanted.items():
            there = target / name
            if os.path.lexists(there) and not (there.is_file() and there.stat().st_size == size):
                raise AosaError(f"{there} is there already and is another than in {archive.name}; move it away")
        new = [name for name in wanted if not (target / name).exists()]
        if not new:
            return 0
        check_room(target, sum(wanted.values()), f"what {archive.name} holds")
        print(f"unpacking {archive.name}: {len(wanted)} files, {readable(sum(wanted.values()))}", flush=True)
        beside = target / f".{archive.name}.unpacking"
        shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
        try:
            beside.mkdir()
            _extract(archive, beside)
            _check_tree(beside, wanted, archive)
            _move(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return len(new)


def list_members(archive: Path) -> list[Member]:
    """What an archive holds; nothing is unpacked.

    Raises:
        AosaError: damaged, of another kind, or no program reads it.
    """
    if archive.suffix == ".zip":
        try:
            with zipfile.ZipFile(archive) as file:
                return [Member(_stem(i.filename), _zip_kind(i), i.file_size) for i in file.infolist()]
        except zipfile.BadZipFile as error:
            raise AosaError(f"{archive}: damaged or not a zip ({error}); delete it and download it again") from None
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
        members.append(Member(_stem(found[3]), found[1], int(found[2])))
    return members


def parse_unrar(listing: str) -> list[Member]:
    """The members that ``unrar lt`` lists, in blocks of ``key: value``."""
    members = []
    for block in re.split(r"\n\s*\n", listing):
        values = dict(re.findall(r"^\s*(Name|Type|Size): (.*)$", block, re.MULTILINE))
        if {"Name", "Type"} <= set(values):
            kind = _UNRAR_TYPES.get(values["Type"], "l")
            members.append(Member(_stem(values["Name"]), kind, int(values.get("Size", 0))))
    return members


def check_members(members: list[Member], archive: Path) -> None:
    """Refuse an archive of which any member is not a file or folder below the folder it is unpacked in.

    Raises:
        AosaError: naming the member.
    """
    seen = set()
    for member in members:
        name, why = member.name, ""
        if member.kind not in "-d":
            why = "is neither a file nor a folder"
        elif not name or name.startswith(("/", "~")) or ".." in PurePosixPath(name).parts:
            why = "would leave the folder"
        elif "\\" in name or ":" in name or not name.isprintable():
            why = "has a name that not every system takes"
        elif name in seen:
            why = "is there twice"
        if why:
            raise AosaError(f"{archive}: refused, nothing is unpacked: its member {name!r} {why}")
        seen.add(name)
    if not any(m.kind == "-" for m in members):
        raise AosaError(f"{archive}: holds no files; delete it and download it again")


def _stem(name: str) -> str:
    """The name of a member; that of a folder ends in a slash in some archives."""
    return name.removesuffix("/") or name


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if info.is_dir():
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
    # English words and plain dates in listings; file names in UTF-8.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise AosaError(
            f"{archive}: {Path(command[0]).name} cannot read it ({said[0]}); delete it and download it again"
        )
    return result.stdout.decode(errors="replace")


def _extract(archive: Path, folder: Path) -> None:
    if archive.suffix == ".zip":
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise AosaError(f"{archive}: damaged ({error}); delete it and download it again") from None
        return
    tool, program = _program(archive)
    options = ["-xf", str(archive), "--no-same-owner", "--no-same-permissions", "-C", str(folder)]
    if tool == "unrar":
        options = ["x", "-idq", "-y", "-p-", str(archive), f"{folder}{os.sep}"]
    _run([program, *options], archive)


def _check_tree(folder: Path, wanted: dict[str, int], archive: Path) -> None:
    """What was unpacked is what was listed, whatever the program did."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found[path.relative_to(folder).as_posix()] = path.stat().st_size
        elif not stat.S_ISDIR(mode):
            raise AosaError(f"{archive}: refused: it unpacks {path.name!r}, which is neither a file nor a folder")
    if found != wanted:
        name = min(set(found.items()) ^ set(wanted.items()))[0]
        raise AosaError(f"{archive}: {name!r} does not unpack to what is listed; delete it and download it again")


def _move(source: Path, target: Path) -> None:
    """Everything below a folder to below another; what is there is kept."""
    for path in source.iterdir():
        there = target / path.name
        if not there.exists():
            os.replace(path, there)
        elif there.is_dir():
            _move(path, there)
