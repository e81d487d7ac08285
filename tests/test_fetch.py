"""A download is whole and right, or it is not there; what has come is not fetched twice."""

from __future__ import annotations

import errno
import hashlib
import socket
import ssl
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from aosa.downloads import fetch as module
from aosa.downloads.fetch import alone, check_address, fetch, readable
from aosa.errors import AosaError, ConfigError
from tests.server import Served, Server, serving

CONTENT = bytes(i * 7 % 251 for i in range(50_000))
OTHER = CONTENT[::-1]
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def interrupt(server: Server, path: Path, **options: object) -> None:
    """Leave the first 20 000 bytes behind, as a process does whose network goes away for good."""
    file = server.files["a.pth"]
    file.cuts, file.statuses = [20_000], []
    tries, module.TRIES = module.TRIES, 1
    try:
        with pytest.raises(AosaError, match=r"the connection was lost; tried 1 times; what has come is kept"):
            fetch(server.url("a.pth"), path, **options)  # type: ignore[arg-type]
    finally:
        module.TRIES = tries
    assert path.with_name("a.pth.part").read_bytes() == CONTENT[:20_000]
    assert not path.exists()
    server.requests.clear()


def test_whole(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT)
    assert fetch(server.url("a.pth"), tmp_path / "new" / "a.pth", size=len(CONTENT), sha256=SHA256)
    assert (tmp_path / "new" / "a.pth").read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["a.pth"]
    assert server.requests == [("a.pth", None, 50_000)]


def test_dropped_connections_in_one_run(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT, cuts=[10_000, 15_000])
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert [r[1:] for r in server.requests] == [(None, 10_000), ("bytes=10000-", 15_000), ("bytes=25000-", 25_000)]


@pytest.mark.parametrize(
    ("etag", "modified"),
    [("strong", None), (None, "Wed, 21 Oct 2015 07:28:00 GMT"), ("weak", "Wed, 21 Oct 2015 07:28:00 GMT")],
)
def test_resumed_by_a_later_run(server, tmp_path, etag, modified):
    server.files["a.pth"] = Served(CONTENT, etag=etag, modified=modified)
    interrupt(server, tmp_path / "a.pth")
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.requests == [("a.pth", "bytes=20000-", 30_000)]
    assert left(tmp_path) == ["a.pth"]


def test_file_that_changed_between_is_fetched_anew(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT)
    interrupt(server, tmp_path / "a.pth")
    server.files["a.pth"] = Served(OTHER)
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == OTHER
    assert server.requests == [("a.pth", "bytes=20000-", 50_000)]


def test_nothing_tells_whether_it_changed(server, tmp_path):
    """Without ETag and date the file is continued only where a checksum would find a mixture."""
    server.files["a.pth"] = Served(CONTENT, etag=None)
    interrupt(server, tmp_path / "a.pth")
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert server.requests == [("a.pth", None, 50_000)]
    (tmp_path / "a.pth").unlink()
    interrupt(server, tmp_path / "a.pth", sha256=SHA256)
    fetch(server.url("a.pth"), tmp_path / "a.pth", sha256=SHA256)
    assert server.requests == [("a.pth", "bytes=20000-", 30_000)]


def test_part_of_another_address_is_not_continued(server, tmp_path):
    server.files = {"a.pth": Served(CONTENT), "b.pth": Served(OTHER)}
    interrupt(server, tmp_path / "a.pth")
    fetch(server.url("b.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == OTHER
    assert server.requests == [("b.pth", None, 50_000)]


def test_server_without_ranges(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT, ranges=False)
    interrupt(server, tmp_path / "a.pth")
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.requests == [("a.pth", "bytes=20000-", 50_000)]


def test_server_that_sends_another_part(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT)
    interrupt(server, tmp_path / "a.pth")
    server.files["a.pth"].shift = 10
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_part_that_is_already_whole(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT)
    interrupt(server, tmp_path / "a.pth")
    (tmp_path / "a.pth.part").write_bytes(CONTENT)  # killed just before it was renamed
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.requests == [("a.pth", "bytes=50000-", 0)]


def test_part_that_is_too_long(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT)
    interrupt(server, tmp_path / "a.pth")
    (tmp_path / "a.pth.part").write_bytes(CONTENT + b"more")
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_without_a_length_the_published_size_tells_a_dropped_connection(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT, length=False, cuts=[10_000])
    fetch(server.url("a.pth"), tmp_path / "a.pth", size=len(CONTENT))
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_busy_server_is_asked_again(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT, statuses=[503, 429])
    fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


def test_server_that_stays_busy(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT, statuses=[503] * 9)
    with pytest.raises(AosaError, match=r"a\.pth: the server answered 503 .*; tried 5 times$"):
        fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert len(server.requests) == 5
    assert left(tmp_path) == []


def test_connection_that_brings_no_byte_is_given_up(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT, cuts=[1000] + [0] * 9)
    with pytest.raises(AosaError, match="tried 5 times; what has come is kept"):
        fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth.part").stat().st_size == 1000
    assert [r[1] for r in server.requests] == [None, *["bytes=1000-"] * 4]


def test_corrupted(server, tmp_path):
    server.files["a.pth"] = Served(OTHER)
    with pytest.raises(
        AosaError, match=rf"a\.pth: its sha256 is {hashlib.sha256(OTHER).hexdigest()}, expected {SHA256[:8]}…"
    ):
        fetch(server.url("a.pth"), tmp_path / "a.pth", sha256=SHA256[:8])
    assert left(tmp_path) == []
    server.files["a.pth"] = Served(CONTENT)
    assert fetch(server.url("a.pth"), tmp_path / "a.pth", sha256=SHA256[:8])


def test_wrong_size_is_refused_before_it_is_fetched(server, tmp_path):
    server.files["a.pth"] = Served(CONTENT)
    with pytest.raises(AosaError, match="has a file of 50000 bytes, expected 50001; it was changed"):
        fetch(server.url("a.pth"), tmp_path / "a.pth", size=50_001)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "404 Not Found (there is no such file any more)"),
        (403, "403 Forbidden (the server refuses to give it)"),
        (410, "410 Gone"),
    ],
)
def test_refusals_are_final(server, tmp_path, status, said):
    server.files["a.pth"] = Served(CONTENT, statuses=[status] * 9)
    with pytest.raises(AosaError) as refused:
        fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert str(refused.value) == f"{server.url('a.pth')}: the server answered {said}"
    assert len(server.requests) == 1
    assert left(tmp_path) == []


def test_web_page_instead_of_the_file(server, tmp_path):
    server.files["a.pth"] = Served(b"<html>Too many users</html>", kind="text/html; charset=utf-8")
    with pytest.raises(AosaError, match=r"answered with a web page, not with the file$"):
        fetch(server.url("a.pth"), tmp_path / "a.pth")
    assert left(tmp_path) == []


def test_silence(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.pth"
        with pytest.raises(AosaError, match=r"does not answer \(nothing came for 0.05 s\); tried 5 times$"):
            fetch(address, tmp_path / "a.pth")


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/a.pth"
    with pytest.raises(AosaError, match=r"cannot be reached \(Connection refused\)"):
        fetch(address, tmp_path / "a.pth")


def test_redirects(server, tmp_path):
    server.files = {"a.pth": Served(CONTENT), "old": Served(b"", redirect=server.url("a.pth"))}
    fetch(server.url("old"), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    for elsewhere in ("file:///etc/hostname", "ftp://127.0.0.1/a.pth"):
        server.files["old"] = Served(b"", redirect=elsewhere)
        with pytest.raises(
            AosaError, match=f"(redirects to {elsewhere}, which is not https)|({elsewhere}' is not allowed)"
        ):
            fetch(server.url("old"), tmp_path / "b.pth")


def test_redirect_never_leaves_https():
    request = module.urllib.request.Request("https://example.org/a")
    with pytest.raises(AosaError, match=r"redirects to http://example\.org/b"):
        module._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/b")


def test_certificate_that_cannot_be_verified(tmp_path, monkeypatch):
    error = ssl.SSLCertVerificationError()
    error.verify_message = "unable to get local issuer certificate"

    def open(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError(error)

    monkeypatch.setattr(module.urllib.request.OpenerDirector, "open", open)
    with pytest.raises(AosaError, match=r"certificate cannot be verified \(unable to get local issuer certificate\)"):
        fetch("https://example.org/a.pth", tmp_path / "a.pth")
    assert left(tmp_path) == []


def test_right_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert not fetch(server.url("a.pth"), tmp_path / "a.pth", size=len(CONTENT), sha256=SHA256[:8])
    assert server.requests == []


@pytest.mark.parametrize("published", [{"size": len(CONTENT) + 1}, {"sha256": "0" * 8}])
def test_wrong_file_is_named_and_kept(server, tmp_path, published):
    (tmp_path / "a.pth").write_bytes(CONTENT)
    with pytest.raises(AosaError, match=r"a\.pth is there already, but its? .*; move it away"):
        fetch(server.url("a.pth"), tmp_path / "a.pth", **published)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert server.requests == []


def test_no_room(server, tmp_path, monkeypatch):
    server.files["a.pth"] = Served(CONTENT)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: module.shutil._ntuple_diskusage(10**6, 0, 60_000))
    with pytest.raises(AosaError, match=r"no room for a\.pth in .*: it needs 90\.0 kB, 60\.0 kB are free"):
        fetch(server.url("a.pth"), tmp_path / "a.pth", room=40_000)
    assert left(tmp_path) == []
    fetch(server.url("a.pth"), tmp_path / "a.pth", room=10_000)


def test_disk_that_fills_up(server, tmp_path, monkeypatch):
    server.files["a.pth"] = Served(CONTENT)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(AosaError, match=r"no room to write .*a\.pth; free some"):
        fetch(server.url("a.pth"), tmp_path / "a.pth")


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AosaError, match="set data_root to a folder that can be written"):
        fetch(server.url("a.pth"), tmp_path / "file" / "a.pth")


def test_two_processes(server, tmp_path):
    pytest.importorskip("fcntl")
    server.files["a.pth"] = Served(CONTENT)
    part = tmp_path / "a.pth.part"
    with part.open("ab") as file, alone(file, part), pytest.raises(AosaError, match="another process is at work on it"):
        fetch(server.url("a.pth"), tmp_path / "a.pth")


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/a",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "a.pth",
        "https://",
        "http://[",
        "http://127.0.0.1.example.org/",
    ],
)
def test_addresses_of_other_kinds(address, tmp_path):
    with pytest.raises(ConfigError, match="give an https address"):
        check_address(address, "address")
    with pytest.raises(ConfigError):
        fetch(address, tmp_path / "a")


def test_sizes_for_a_reader():
    assert [readable(n) for n in (0, 999, 113_943, 6_932_971_618, 5e12)] == [
        "0 bytes", "999 bytes", "113.9 kB", "6.9 GB", "5000.0 GB",
    ]  # fmt: skip
