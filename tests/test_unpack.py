"""Nothing leaves the folder that an archive is unpacked in, and nothing is half unpacked."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aosa.downloads import unpack as module
from aosa.downloads.fetch import alone
from aosa.downloads.unpack import Member, check_members, parse_bsdtar, parse_unrar, unpack
from aosa.errors import AosaError
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


def test_damaged(write, tmp_path):
    """bsdtar does not look at the checksum of what a rar holds uncompressed."""
    archive = write("a", GOOD)
    content = bytearray(archive.read_bytes())
    content[content.index(b"oneone")] ^= 1
    archive.write_bytes(bytes(content))
    why = r"(Bad CRC-32 for file|the checksum of) 'UCF-101/Surfing/v_Surfing_g01_c01\.avi'.*"
    with pytest.raises(AosaError, match=rf"a\.(zip|rar): damaged \({why}\); delete it and download it again"):
        unpack(archive, tmp_path / "in")
    assert unpacked(tmp_path / "in") == {}


@pytest.mark.parametrize("content", [b"", b"<html>no</html>"])
def test_no_archive(write, tmp_path, content):
    archive = write("a", GOOD)
    archive.write_bytes(content)
    with pytest.raises(AosaError, match="delete it and download it again"):
        unpack(archive, tmp_path / "in")


def test_interrupted(write, tmp_path, monkeypatch):
    archive = write("a", GOOD)

    def stop(archive: Path, members: list[Member], folder: Path) -> None:
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


def program(folder: Path, code: str) -> str:
    """A bsdtar that lists two files of three bytes, and does what the code says to unpack them."""
    path = folder / "bsdtar"
    row = "-rw-r--r--  0 0 0 3 Jan  1  1980"
    path.write_text(f"#!/bin/sh\nif [ $1 = -tvf ]; then echo '{row} a\n{row} b'; exit; fi\n{code}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("printf aaabbbc", "unpacks to more than is listed; delete it"),
        ("yes", "unpacks to more than is listed; delete it"),
        ("printf aaabb", "'b' does not unpack to what is listed; delete it"),
        ("printf aaabbb; echo 'File CRC error' >&2; exit 1", r"bsdtar cannot read it \(File CRC error\); delete it"),
        ("echo 'Encryption is not supported' >&2; exit 1", r"\(Encryption is not supported\); unpack it by hand"),
        ("kill -9 $$", r"bsdtar cannot read it \(it gave no reason\)"),
    ],
)
def test_program_that_unpacks_something_else(tmp_path, monkeypatch, code, message):
    archive = write_rar(tmp_path / "a.rar", GOOD)
    bsdtar = program(tmp_path, code)
    monkeypatch.setattr(shutil, "which", lambda tool: bsdtar)
    (tmp_path / "in").mkdir()
    with pytest.raises(AosaError, match=message):
        unpack(archive, tmp_path / "in")
    assert not any((tmp_path / "in").iterdir())


def edited(path: Path, content: bytes, change: Callable[[bytearray, int, int], None], method: int) -> Path:
    """A zip of one file ``a.txt``, changed where its local header and its entry in the directory begin."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("a.txt", content)
    data = bytearray(path.read_bytes())
    change(data, 0, data.index(b"PK\1\2"))
    path.write_bytes(data)
    return path


def corrupt(data: bytearray, local: int, entry: int) -> None:
    data[local + 35 : entry] = b"\xff" * (entry - local - 35)


def other_sum(data: bytearray, local: int, entry: int) -> None:
    data[entry + 16] ^= 1


def less(data: bytearray, local: int, entry: int) -> None:
    for at in (local + 22, entry + 24):
        data[at : at + 4] = (10).to_bytes(4, "little")


def more(data: bytearray, local: int, entry: int) -> None:
    for at in (local + 22, entry + 24):
        data[at : at + 4] = (10_000).to_bytes(4, "little")


def encrypted(data: bytearray, local: int, entry: int) -> None:
    data[local + 6] |= 1
    data[entry + 8] |= 1


def deflate64(data: bytearray, local: int, entry: int) -> None:
    data[local + 8] = data[entry + 10] = 9


def newer(data: bytearray, local: int, entry: int) -> None:
    data[entry + 6] = 99


def no_name(data: bytearray, local: int, entry: int) -> None:
    data[entry + 46] = 0  # a name ends at the first zero byte


def long_directory(data: bytearray, local: int, entry: int) -> None:
    end = data.index(b"PK\5\6")
    data[end + 12 : end + 16] = (200_000_000).to_bytes(4, "little")


AGAIN, BY_HAND = "; delete it and download it again$", "; unpack it by hand$"


@pytest.mark.parametrize(
    ("change", "method", "message"),
    [
        (corrupt, zipfile.ZIP_DEFLATED, r"a\.zip: damaged \(Error -3 while decompressing.*" + AGAIN),
        (corrupt, zipfile.ZIP_BZIP2, r"a\.zip: damaged \(Invalid data stream\)" + AGAIN),
        (corrupt, zipfile.ZIP_LZMA, r"a\.zip: damaged \(.*\)" + AGAIN),
        (other_sum, zipfile.ZIP_DEFLATED, r"a\.zip: damaged \(Bad CRC-32 for file 'a\.txt'\)" + AGAIN),
        (less, zipfile.ZIP_DEFLATED, r"a\.zip: damaged \(Bad CRC-32 for file 'a\.txt'\)" + AGAIN),
        (more, zipfile.ZIP_DEFLATED, r"a\.zip: (damaged \(.*\)|'a\.txt' does not unpack to what is listed)" + AGAIN),
        (encrypted, zipfile.ZIP_DEFLATED, r"a\.zip: its member 'a\.txt' is encrypted" + BY_HAND),
        (deflate64, zipfile.ZIP_DEFLATED, r"'a\.txt' is packed by method 9, which is not read here" + BY_HAND),
        (newer, zipfile.ZIP_DEFLATED, r"damaged or not a zip \(zip file version 9\.9\)" + AGAIN),
        (no_name, zipfile.ZIP_DEFLATED, r"a\.zip: refused, nothing is unpacked: its member '' has no name$"),
        (long_directory, zipfile.ZIP_DEFLATED, r"a\.zip: refused: it holds more than 1000000 members" + BY_HAND),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_zip_that_is_wrong_within(tmp_path, change, method, message):
    (tmp_path / "in").mkdir()
    archive = edited(tmp_path / "a.zip", b"some text and some text " * 40, change, method)
    with pytest.raises(AosaError, match=message):
        unpack(archive, tmp_path / "in")
    assert not any((tmp_path / "in").iterdir())


def test_zip_of_members_that_overlap(tmp_path):
    """Two names for one content: what a zip that unpacks to far more than it has is made of."""
    archive = write_zip(tmp_path / "a.zip", [("a.txt", b"a" * 100, FILE), ("b.txt", b"b" * 100, FILE)])
    data = archive.read_bytes()
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    archive.write_bytes(data[: second + 42] + bytes(4) + data[second + 46 :])
    with pytest.raises(AosaError, match=r"a\.zip: refused: its member '[ab]\.txt' lies within another one"):
        unpack(archive, tmp_path)


def test_zip_that_claims_far_more_than_it_has(tmp_path):
    def claims(data: bytearray, local: int, entry: int) -> None:
        data[entry + 24 : entry + 28] = (3_000_000_000).to_bytes(4, "little")

    archive = edited(tmp_path / "a.zip", b"\0" * 1000, claims, zipfile.ZIP_DEFLATED)
    with pytest.raises(AosaError, match=r"refused: it has \d+ bytes and claims to hold 3\.0 GB; unpack it by hand if"):
        unpack(archive, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a/b"], "its member 'a/b' is a file as well as a folder"),
        (["a/b", "a"], "its member 'a' is a file as well as a folder"),
        (["a/b/c", "A"], "its member 'A' is a file as well as a folder"),
        (["a", "A"], "its member 'A' differs from 'a' only in a way that not every system keeps"),
        (["d/\u00e9", "D/e\u0301"], "differs from 'd/\u00e9' only in a way"),
        (["a", "./a"], "its member 'a' is there twice"),
        (["a", "b//../c"], "would leave the folder"),
        (["a", "b" * 256], "has a name that not every system takes"),
        (["a", "b/" * 40 + "c"], "is nested too deep"),
        (["a", ".a.zip.unpacking/c"], "its member '.a.zip.unpacking/c' has a name of ours"),
    ],
)
def test_members_that_cannot_lie_side_by_side(tmp_path, names, message):
    archive = write_zip(tmp_path / "a.zip", [(name, b"x", FILE) for name in names])
    with pytest.raises(AosaError, match=message):
        unpack(archive, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_file_and_folder_of_one_name(write, tmp_path):
    archive = write("a", [("UCF-101", b"x", FILE), *GOOD[1:]])
    with pytest.raises(AosaError, match=r"its member 'UCF-101/Surfing/.*' is a file as well as a folder"):
        unpack(archive, tmp_path / "in")


def test_names_with_a_dot_before_them(write, tmp_path):
    members = [("./" + name, content, mode) for name, content, mode in GOOD]
    assert unpack(write("a", [(".", b"", FOLDER), *members]), tmp_path / "in") == 2
    assert unpacked(tmp_path / "in") == UNPACKED


def test_file_in_the_place_of_a_folder_is_named_and_kept(write, tmp_path):
    (tmp_path / "in" / "UCF-101").write_bytes(b"mine")
    with pytest.raises(AosaError, match="UCF-101 is there already and is not a folder; move it away"):
        unpack(write("a", GOOD), tmp_path / "in")
    assert unpacked(tmp_path / "in") == {"UCF-101": b"mine"}


def test_more_members_than_a_data_set_has():
    with pytest.raises(AosaError, match=r"a\.zip: refused: it holds more than 1000000 members"):
        check_members([Member("a", "-", 1)] * 1_000_001, Path("a.zip"))


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
