"""Nothing leaves the folder that an archive is unpacked in, and nothing is half unpacked."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aosa import unpack as module
from aosa.errors import AosaError
from aosa.fetch import alone
from aosa.unpack import Member, check_members, parse_bsdtar, parse_unrar, unpack
from tests.archives import FILE, FOLDER, LINK, Members, write_rar, write_zip
from tests.helpers import needs
from tests.running import snapshot

GOOD: Members = [
    ("UCF-101", b"", FOLDER),
    ("UCF-101/Surfing/v_Surfing_g01_c01.avi", b"one" * 100, FILE),
    ("UCF-101/Surfing/v two.avi", b"two", FILE),
]
UNPACKED = {name: content for name, content, mode in GOOD if mode == FILE}
BAD = {
    "../evil.avi": FILE,
    "UCF-101/../../evil.avi": FILE,
    "/evil.avi": FILE,
    "~/evil.avi": FILE,
    "C:/evil.avi": FILE,
    "..\\evil.avi": FILE,
    "UCF-101/link.avi": LINK,
    "UCF-101/device": 0o020644,
    "UCF-101/odd\nname.avi": FILE,
    "..": FOLDER,
}

Write = Callable[[str, Members], Path]


@pytest.fixture(params=["zip", "rar"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Writes an archive of that kind beside the folder ``in``."""
    if request.param == "rar":
        needs("libarchive-tools", "bsdtar")  # nothing else here reads .rar
    (tmp_path / "in").mkdir()
    writer = {"zip": write_zip, "rar": write_rar}[request.param]
    return lambda name, members: writer(tmp_path / "in" / f"{name}.{request.param}", members)


def unpacked(folder: Path) -> dict[str, bytes]:
    return {k: v for k, v in snapshot(folder, "").items() if not k.endswith((".zip", ".rar"))}


def test_all_of_it(write, tmp_path):
    assert unpack(write("a", GOOD), tmp_path / "in") == 2
    assert unpacked(tmp_path) == {f"in/{k}": v for k, v in UNPACKED.items()}
    assert not [p for p in (tmp_path / "in").iterdir() if p.name.startswith(".")]


def test_again_does_nothing(write, tmp_path, monkeypatch):
    archive = write("a", GOOD)
    unpack(archive, tmp_path / "in")
    monkeypatch.setattr(module, "_extract", lambda *a: pytest.fail("was unpacked again"))
    assert unpack(archive, tmp_path / "in") == 0


def test_what_is_missing_is_added(write, tmp_path):
    there = tmp_path / "in" / "UCF-101" / "Surfing" / "v two.avi"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"222")  # of the same size, so kept
    assert unpack(write("a", GOOD), tmp_path / "in") == 1
    assert unpacked(tmp_path / "in") == UNPACKED | {"UCF-101/Surfing/v two.avi": b"222"}


def test_another_file_in_its_place_is_named_and_kept(write, tmp_path):
    there = tmp_path / "in" / "UCF-101" / "Surfing" / "v two.avi"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"longer")
    with pytest.raises(AosaError, match=r"v two\.avi is there already and is another"):
        unpack(write("a", GOOD), tmp_path / "in")
    assert unpacked(tmp_path / "in") == {"UCF-101/Surfing/v two.avi": b"longer"}


@pytest.mark.parametrize(("name", "mode"), BAD.items(), ids=[repr(n) for n in BAD])
def test_member_that_is_refused(write, tmp_path, name, mode):
    archive = write("a", [*GOOD, (name, b"/etc/passwd" if mode == LINK else b"evil", mode)])
    with pytest.raises(AosaError, match=r"a\.(zip|rar): (refused, nothing is unpacked: its member|.* cannot read it)"):
        unpack(archive, tmp_path / "in")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["in", f"in/{archive.name}"]


def test_name_that_is_there_twice():
    with pytest.raises(AosaError, match=r"its member 'list\.txt' is there twice"):
        check_members([Member("list.txt", "-", 1), Member("list.txt", "-", 2)], Path("a.zip"))


def test_link_out_of_the_folder_is_not_followed(write, tmp_path):
    """A link that is there already, where the archive has a file."""
    (tmp_path / "in" / "UCF-101" / "Surfing").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "in" / "UCF-101" / "Surfing" / "v two.avi").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AosaError, match="is there already and is another"):
        unpack(write("a", GOOD), tmp_path / "in")


def test_cut_short(write, tmp_path):
    archive = write("a", GOOD)
    archive.write_bytes(archive.read_bytes()[:300])
    with pytest.raises(AosaError, match=r"a\.(zip|rar).*delete it and download it again"):
        unpack(archive, tmp_path / "in")
    assert unpacked(tmp_path / "in") == {}


def test_damaged(tmp_path):
    """A zip; bsdtar does not look at the checksum of what a rar holds uncompressed."""
    archive = write_zip(tmp_path / "a.zip", GOOD)
    content = bytearray(archive.read_bytes())
    content[content.index(b"oneone")] ^= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(AosaError, match=r"a\.zip: damaged \(Bad CRC-32.*delete it and download it again"):
        unpack(archive, tmp_path)
    assert unpacked(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"<html>no</html>"])
def test_no_archive(write, tmp_path, content):
    archive = write("a", GOOD)
    archive.write_bytes(content)
    with pytest.raises(AosaError, match="delete it and download it again"):
        unpack(archive, tmp_path / "in")


def test_interrupted(write, tmp_path, monkeypatch):
    archive = write("a", GOOD)

    def stop(archive: Path, folder: Path) -> None:
        (folder / "UCF-101").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_extract", stop)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, tmp_path / "in")
    assert [p.name for p in (tmp_path / "in").iterdir()] == [archive.name]
    (tmp_path / "in" / f".{archive.name}.unpacking" / "UCF-101").mkdir(parents=True)  # as a killed process leaves it
    unpack(archive, tmp_path / "in")
    assert unpacked(tmp_path / "in") == UNPACKED


def test_program_that_unpacks_something_else(write, tmp_path, monkeypatch):
    extract = module._extract

    def more(archive: Path, folder: Path) -> None:
        extract(archive, folder)
        (folder / "UCF-101" / "link").symlink_to("/etc")

    monkeypatch.setattr(module, "_extract", more)
    with pytest.raises(AosaError, match="it unpacks 'link', which is neither a file nor a folder"):
        unpack(write("a", GOOD), tmp_path / "in")
    monkeypatch.setattr(module, "_extract", lambda archive, folder: None)
    with pytest.raises(AosaError, match=r"'UCF-101/Surfing/v two\.avi' does not unpack to what is listed"):
        unpack(write("b", GOOD), tmp_path / "in")
    assert unpacked(tmp_path / "in") == {}


def test_no_room(write, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**6, 0, 302)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(AosaError, match=r"no room for what a.* it needs 303 bytes, 302 bytes are free"):
        unpack(write("a", GOOD), tmp_path / "in")


def test_two_processes(write, tmp_path):
    pytest.importorskip("fcntl")
    archive = write("a", GOOD)
    with archive.open("rb") as file, alone(file, archive), pytest.raises(AosaError, match="another process"):
        unpack(archive, tmp_path / "in")


def test_no_program_reads_rar(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(AosaError, match=r"needs the program bsdtar \(package libarchive-tools.*\) or unrar"):
        unpack(write_rar(tmp_path / "a.rar", GOOD), tmp_path)


def test_zip_that_was_not_made_on_unix(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("list.txt")
        info.create_system, info.external_attr = 0, 0x20
        file.writestr(info, b"1 Surfing")
    assert unpack(tmp_path / "a.zip", tmp_path) == 1
    assert (tmp_path / "list.txt").read_bytes() == b"1 Surfing"


def test_listing_of_bsdtar():
    listing = (
        "drwxr-xr-x  0 0      0           0 Jan  1  1980 UCF-101/\n"
        "-rw-r--r--  0 khurram staff  30 Nov  2 12:30 UCF-101/A b/v.avi\n"
        "lrwxrwxrwx  0 0      0           0 Jan  1  1980 ln -> /etc/passwd\n"
    )
    assert parse_bsdtar(listing, Path("a.rar")) == [
        Member("UCF-101", "d", 0), Member("UCF-101/A b/v.avi", "-", 30), Member("ln -> /etc/passwd", "l", 0),
    ]  # fmt: skip
    with pytest.raises(AosaError, match="which is not understood"):
        parse_bsdtar("something else", Path("a.rar"))


def test_listing_of_unrar():
    listing = """
UNRAR 6.21 freeware      Copyright (c) 1993-2023 Alexander Roshal

Archive: UCF101.rar
Details: RAR 4

        Name: UCF-101/A b/v.avi
        Type: File
        Size: 30
 Packed size: 28
       Ratio: 93%

        Name: UCF-101
        Type: Directory

        Name: ln
        Type: Unix symbolic link
      Target: /etc/passwd
"""
    members = parse_unrar(listing)
    assert members == [Member("UCF-101/A b/v.avi", "-", 30), Member("UCF-101", "d", 0), Member("ln", "l", 0)]
    with pytest.raises(AosaError, match="'ln' is neither a file nor a folder"):
        check_members(members, Path("a.rar"))
