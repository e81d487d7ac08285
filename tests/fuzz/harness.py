"""Runs inputs in child processes, so that a crash, a hang or too much memory is seen, and judges how each ended."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType

from aosa.errors import AosaError

GROUPS = ("pickles", "maps", "records", "checkpoints", "archives", "lists", "config", "videos")
HANG = 60.0  # seconds
MEMORY = 4 << 10  # MiB
_HEADROOM = 8 << 30  # bytes that a child may map beyond what it begins with, for the sake of the machine


@dataclass
class Ended:
    """How one input ended: ``right``, ``refused``, or what is to be mended."""

    verdict: str
    detail: str
    seconds: float
    peak: int


@dataclass
class Finding:
    """An input that ended neither right nor refused."""

    group: str
    content: bytes
    what: str

    def save(self, folder: Path) -> Path:
        """Write the input, and what happened beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.group}-{hashlib.sha256(self.content).hexdigest()[:12]}"
        path.write_bytes(self.content)
        path.with_name(f"{path.name}.txt").write_text(self.what, encoding="utf-8", errors="replace")
        return path


@dataclass
class Figures:
    """What a group's inputs came to."""

    inputs: int = 0
    right: int = 0
    refused: int = 0
    slowest: float = 0.0
    peak: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def group(name: str) -> ModuleType:
    """The module of a group. It has:

    ``inputs(rng)``: endless inputs (bytes);
    ``check(content, folder)``: uses one the way the pipeline does, in an empty folder. It returns when what comes of
    it is right, and raises `AosaError` when it is refused; any other exception is a finding, `AssertionError` for what
    was taken and is wrong.
    """
    return importlib.import_module(f"{__package__}.{name}")


def inputs(name: str, count: int, seed: int) -> Iterator[bytes]:
    """So many inputs of a group; the same seed gives the same."""
    made = group(name).inputs(random.Random(f"{name} {seed}"))
    return (next(made) for _ in range(count))


class Pool:
    """Child processes that take inputs one after the other; one that dies or hangs is replaced."""

    def __init__(self, jobs: int) -> None:
        self._workers = [_Worker() for _ in range(jobs)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def run(self, name: str, contents: Iterable[bytes]) -> Figures:
        """All inputs of one group."""
        figures, start = Figures(), time.perf_counter()
        ahead = iter(contents)
        idle, busy = deque(self._workers), set[_Worker]()
        while True:
            while idle and (content := next(ahead, None)) is not None:
                worker = idle.popleft()
                worker.give(name, content)
                busy.add(worker)
            if not busy:
                break
            wait([w.connection for w in busy], timeout=1.0)
            for worker in [w for w in busy if w.ended()]:
                _count(figures, name, worker.content, worker.take())
                busy.remove(worker)
                idle.append(worker)
        figures.seconds = time.perf_counter() - start
        return figures


def _count(figures: Figures, name: str, content: bytes, ended: Ended) -> None:
    figures.inputs += 1
    figures.slowest = max(figures.slowest, ended.seconds)
    figures.peak = max(figures.peak, ended.peak)
    if ended.verdict == "right":
        figures.right += 1
    elif ended.verdict == "refused":
        figures.refused += 1
    else:
        figures.findings.append(Finding(name, content, f"{ended.verdict}\n{ended.detail}"))


class _Worker:
    """One child process and what it has at hand."""

    def __init__(self) -> None:
        self.content = b""
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        if not self.connection.recv():
            raise RuntimeError("a child process does not start")

    def give(self, name: str, content: bytes) -> None:
        self.content, self._since = content, time.monotonic()
        self.connection.send((name, content))

    def ended(self) -> bool:
        return self.connection.poll() or time.monotonic() - self._since > HANG

    def take(self) -> Ended:
        seconds = time.monotonic() - self._since
        if not self.connection.poll():
            self.stop()
            self._start()
            return Ended("hang", f"no end after {seconds:.0f} s", seconds, 0)
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            self._start()
            return Ended("crash", f"the process ended with {how}", seconds, 0)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    """The child: what decoders print on their own account is not kept, nor is a core."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    _limit_memory()
    connection.send(True)
    with contextlib.suppress(EOFError):
        while True:
            connection.send(judge(*connection.recv()))


def judge(name: str, content: bytes) -> Ended:
    """Use one input, in this process."""
    module = group(name)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    _forget_peak()
    start = time.perf_counter()
    try:
        module.check(content, folder)
        verdict, detail = "right", ""
    except AosaError as error:
        verdict, detail = ("refused", "") if str(error).strip() else ("no message", type(error).__name__)
    except AssertionError:
        verdict, detail = "wrong in silence", traceback.format_exc()
    except BaseException:
        verdict, detail = "raw error", traceback.format_exc()
    finally:
        seconds, peak = time.perf_counter() - start, _peak()
        shutil.rmtree(folder, ignore_errors=True)
    if peak > MEMORY:
        verdict, detail = "memory", f"{peak} MiB; it ended as: {verdict} {detail}"
    return Ended(verdict, detail, seconds, peak)


def _limit_memory() -> None:
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + _HEADROOM, resource.RLIM_INFINITY))


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most MiB held at once, since the peak was forgotten where the system can forget it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) >> 10
    kilo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilo >> (20 if sys.platform == "darwin" else 10)
