"""An HTTP server of this machine that behaves as badly as it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock


@dataclass
class Served:
    """One file, and how it is served. ``cuts``: after how many bytes each request, in order, loses its connection."""

    content: bytes
    kind: str = "application/octet-stream"
    etag: str | None = "strong"  # strong | weak | None
    modified: str | None = None
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # answered first, one a request
    redirect: str | None = None
    shift: int = 0  # the first part sent begins so many bytes later than asked for

    @property
    def tag(self) -> str | None:
        digest = hashlib.sha256(self.content).hexdigest()[:16]
        return {"strong": f'"{digest}"', "weak": f'W/"{digest}"', None: None}[self.etag]


class Server(ThreadingHTTPServer):
    """Files by path; every request is kept as (path, Range, bytes sent)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str | None, int]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        file = self.server.files.get(self.path.removeprefix("/"))
        if file is None:
            return self._status(404)
        if file.statuses:
            return self._status(file.statuses.pop(0))
        if file.redirect:
            return self._status(302, Location=file.redirect)
        start, total = 0, len(file.content)
        condition = self.headers.get("If-Range")
        if file.ranges and asked and condition in (None, file.tag, file.modified):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                return self._status(416, **{"Content-Range": f"bytes */{total}"})
            start, file.shift = start + file.shift, 0
        body = file.content[start:]
        part = body[: file.cuts.pop(0)] if file.cuts else body
        self._keep(len(part))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if file.length:
            self.send_header("Content-Length", str(len(body)))
        for key, value in (("ETag", file.tag), ("Last-Modified", file.modified), ("Content-Type", file.kind)):
            if value:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(part)

    def _keep(self, sent: int) -> None:
        # Before anything is sent: the client may look as soon as it has everything.
        self.server.requests.append((self.path.removeprefix("/"), self.headers.get("Range"), sent))

    def _status(self, code: int, **headers: str) -> None:
        self._keep(0)
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that is asked without a proxy, and asked again at once."""
    server = Server()
    with mock.patch.dict(os.environ, no_proxy="*"), mock.patch("aosa.downloads.fetch.PAUSE", 0.0):
        yield server
    server.shutdown()
    server.server_close()
