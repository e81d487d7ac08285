"""One file from an address: resumed, checked, and there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from aosa.errors import AosaError, ConfigError

TRIES = 5  # in a row without a byte
PAUSE = 1.0  # seconds before the second try, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
_LOCAL = ("127.0.0.1", "localhost", "::1")
_RESTART = 416  # range not satisfiable


class Gone(AosaError):
    """The server has no such file."""


class Here(AosaError):
    """What is in the way lies on this machine: the file from elsewhere would not help."""


class _Retry(Exception):
    """Something that may pass: a dropped connection, a server that is busy."""


def fetch(address: str, path: str | Path, *, size: int | None = None, sha256: str | None = None, room: int = 0) -> bool:
    """Download one file.

    What has come lies in ``<path>.part`` until it is whole and fits; the same call goes on from there, now or in
    another process, when the server still has the same file (its ETag or date of change, RFC 9110 §13.1.5); otherwise
    it starts anew. A file that is there already is checked and kept.

    Args:
        address: https; plain http only from this machine itself.
        size, sha256: what is published, the latter whole or its first digits; None is not checked.
        room: bytes that are wanted on the same disk afterwards.

    Returns:
        whether anything was downloaded.

    Raises:
        ConfigError: an address of another kind.
        Here: there is another file at `path`; no room; another process is downloading it.
        Gone: the server has no such file.
        AosaError: it does not answer, answers with a web page, or sends something else.
    """
    check_address(address, "address")
    path = Path(path)
    try:
        if path.exists():
            _check(
                path, size, sha256, f"{path} is there already, but ", "; move it away, then run the same command again"
            )
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with part.open("ab") as file, alone(file, part):
            try:
                _download(address, part, file, size, sha256 is not None, room)
            finally:
                if not os.fstat(file.fileno()).st_size:
                    part.unlink()
                    _notes(part).unlink(missing_ok=True)
        _check(part, size, sha256, f"{address}: ", "; nothing of it is kept", remove=True)
        os.replace(part, path)
        _notes(part).unlink(missing_ok=True)
        return True
    except OSError as error:
        where = error.filename or path
        other = Here(f"{where}: {error.strerror or error}; set data_root to a folder that can be written")
        raise (no_room(where, error) or other) from None


def check_address(address: str, key: str) -> None:
    """Refuse an address that is neither https nor plain http from this machine itself.

    Raises:
        ConfigError: naming the key.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL)):
        raise ConfigError(f"{key}={address}: give an https address")


@contextlib.contextmanager
def alone(file: IO[bytes], path: Path) -> Iterator[None]:
    """Hold a file for this process alone, where the system can.

    Raises:
        Here: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Here(f"{path}: another process is at work on it") from None
    yield


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse what the disk has no room for.

    Raises:
        Here: naming the folder, what is needed and what is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Here(
            f"no room for {what} in {folder}: it needs {readable(needed)}, {readable(free)} are free; free some, or "
            f"set data_root to a folder on another disk"
        )


def no_room(where: str | Path, error: OSError) -> Here | None:
    """What to say when the disk is full; None when it is something else."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return Here(f"no room to write {where}; free some, and the same command goes on from there")


def readable(size: float) -> str:
    """A number of bytes for a reader: ``6.9 GB``."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size:.0f} bytes"


def _download(address: str, part: Path, file: IO[bytes], size: int | None, hashed: bool, room: int) -> None:
    tries = 0
    while True:
        before = os.fstat(file.fileno()).st_size
        try:
            _go_on(address, part, file, size, hashed, room)
            return
        except _Retry as error:
            tries = 1 if os.fstat(file.fileno()).st_size > before else tries + 1
            if tries >= TRIES:
                kept = "; what has come is kept, the same command goes on from there"
                has = os.fstat(file.fileno()).st_size > 0
                raise AosaError(f"{address}: {error}; tried {TRIES} times{kept * has}") from None
            time.sleep(PAUSE * 2 ** (tries - 1))


def _go_on(address: str, part: Path, file: IO[bytes], size: int | None, hashed: bool, room: int) -> None:
    """One request: what is missing of the part, or all of it when that cannot be continued."""
    have = os.fstat(file.fileno()).st_size
    headers = {"User-Agent": "aosa", "Accept-Encoding": "identity"}
    validator = _validator(part, address)
    if have and (validator or hashed):
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with _request(address, headers) as answer:
        if answer.status == _RESTART:
            # Nothing comes after what is there: it is the whole file, or another one's beginning.
            if answer.headers.get("Content-Range") != f"bytes */{have}":
                file.truncate(0)
                raise _Retry("the server has another file than before")
            return
        if (answer.headers.get_content_type() or "") == "text/html":
            raise AosaError(f"{address}: the server answered with a web page, not with the file")
        start = 0
        if answer.status == http.client.PARTIAL_CONTENT:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if sent is None or int(sent[1]) != have:
                file.truncate(0)
                raise _Retry("the server sent another part than asked for")
            start = have
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if size is not None and total is not None and total != size:
            raise AosaError(f"{address}: the server has a file of {total} bytes, expected {size}; it was changed")
        check_room(part.parent, (total or size or 0) - start + room, part.stem)
        if not start:
            file.truncate(0)
            _note(part, address, answer.headers)
        _copy(answer, file, start, size if total is None else total, part.stem)


def _copy(answer: Any, file: IO[bytes], start: int, total: int | None, title: str) -> None:
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=title, mininterval=0.5) as bar:
        while True:
            try:
                chunk = answer.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _Retry(f"the connection was lost ({_reason(error)})") from None
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
    file.flush()
    if total is not None and os.fstat(file.fileno()).st_size < total:
        raise _Retry("the connection was lost")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        # Never from https to http, and to no other kind of address.
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise AosaError(f"{req.full_url}: redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(address: str, headers: dict[str, str]) -> Any:
    opener = urllib.request.build_opener(_Redirects)
    try:
        return opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == _RESTART:
            return error
        error.close()
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Retry(f"the server answered {error.code} {error.reason}") from None
        why = {403: "the server refuses to give it", 404: "there is no such file any more"}.get(error.code)
        said = f"the server answered {error.code} {error.reason}"
        kind = Gone if error.code in (404, 410) else AosaError
        raise kind(f"{address}: {said}{f' ({why})' if why else ''}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise AosaError(
                f"{address}: its certificate cannot be verified ({error.reason.verify_message}). If this is so for "
                f"every address, set SSL_CERT_FILE to your system's certificates"
            ) from None
        raise _Retry(f"the server cannot be reached ({_reason(error.reason)})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Retry(f"the server does not answer ({_reason(error)})") from None


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(part: Path, address: str, headers: Any) -> None:
    """Keep what tells later whether the server still has the same file; a weak ETag does not."""
    tag = headers.get("ETag", "")
    validator = tag if tag.startswith('"') else headers.get("Last-Modified")
    _notes(part).write_text(json.dumps({"address": address, "validator": validator}), encoding="utf-8")


def _validator(part: Path, address: str) -> str | None:
    try:
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        return notes["validator"] if notes["address"] == address else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check(path: Path, size: int | None, sha256: str | None, before: str, after: str, remove: bool = False) -> None:
    """Refuse a file of another size or content than published; `remove` it then."""
    wrong = ""
    if size is not None and path.stat().st_size != size:
        wrong = f"it has {path.stat().st_size} bytes, expected {size}"
    elif sha256 is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(sha256):
            wrong = f"its sha256 is {digest}, expected {sha256}{'…' * (len(sha256) < 64)}"
    if wrong:
        if remove:
            path.unlink()
            _notes(path).unlink(missing_ok=True)
        raise (AosaError if remove else Here)(f"{before}{wrong}{after}")
