"""Kills the stages at any moment and starts them again: ``python -m tests.kills N=200`` (``SEED=``, ``FOLDER=``).

First an undisturbed run of a small job. Then, in folders of their own, the same commands, each killed again and again
(SIGKILL to its process group) until it ends by itself; and two processes on one folder, one of them killed. The results
must be the bytes of the undisturbed run, and nothing may be left behind: no hidden or lock file, no process, nothing in
the folder for temporary files. Prints what was killed where; exit status 1 when something differs.

The moments are drawn from a seed: a moment in time, of a process that has just been started or of one that has its
imports behind it (forked, so that most kills meet work); or the n-th time that the process makes, opens to write,
renames or removes a file of one kind (seen by an audit hook of Python, so that windows of a few microseconds are met),
or a few milliseconds after it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = """
name: kills
title: Killed and started again
paper: null
table: null
columns: null
settings: Three clips.
gallery: 2
grids:
  - dataset: moving_shapes
    models: [r3d_tiny]
    explainers: [grad_cam, random, aosa]
    metrics: [deletion_insertion, truth_score]
    overrides: [dataset.size=3]
    metric_options: {deletion_insertion: [metric.steps=3]}
    explainer_options: {aosa: [explainer.stride=32, explainer.box=32, explainer.neighbours=1]}
"""
COMMON = ["output_root=out", "threads=1", "device=cpu"]
MAPS = ["explainer=aosa", "explainer.stride=32", "explainer.box=32", "explainer.neighbours=1", "dataset.size=5"]
TABLE = ["--config-dir=configs", *COMMON, "experiment=kills"]
# One after the other, each finds what those before it made: the script and its options.
STAGES = {
    "explain": ("explain", [*COMMON, *MAPS]),
    "evaluate": ("evaluate", [*COMMON, *MAPS, "metric=deletion_insertion", "metric.steps=3"]),
    "reproduce": ("reproduce", TABLE),
    "reproduce again": ("reproduce", TABLE),  # the report takes the place of another
    "tabulate": ("tabulate", [*TABLE, "breakdown=class"]),
}
SHARES = {"explain": 0.2, "evaluate": 0.15, "reproduce": 0.3, "reproduce again": 0.15, "tabulate": 0.2}
# What differs from run to run by its nature.
EXCEPTED = {".time": "the seconds that each clip took"}

COLD, PAIRED = 0.1, 0.15  # shares of kills during the start, and beside a second process
KILLS_A_ROUND = 12
GIVEN_UP = 300  # seconds after which a process hangs


@dataclass(frozen=True)
class Moment:
    """When a process dies: so many seconds after its start, or after its n-th event of a kind."""

    seconds: float
    kind: str = ""
    event: int = 0
    cold: bool = False

    def __str__(self) -> str:
        if self.cold:
            return "in a new process"
        return f"at an event{' + ms' * (self.seconds > 0)}" if self.event else "in time"


@dataclass
class Figures:
    """What is printed at the end."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    moments: Counter[tuple[str, str]] = field(default_factory=Counter)
    restarts: int = 0
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)

    def killed(self, stage: str) -> int:
        return sum(count for (name, _), count in self.kills.items() if name == stage)

    def __str__(self) -> str:
        def table(counts: Counter[tuple[str, str]]) -> str:
            kinds = sorted({kind for _, kind in counts})
            rows = [f"  {s:16}" + ", ".join(f"{k} {counts[s, k]}" for k in kinds if counts[s, k]) for s in STAGES]
            return "\n".join(rows)

        return (
            f"kills: {sum(self.kills.values())}\n{table(self.kills)}\n"
            f"what the killed process had done last:\n{table(self.moments)}\n"
            f"restarts: {self.restarts}; folders compared: {self.rounds}\n"
            f"differences, leftovers, orphans, failures: {len(self.wrong)}" + "".join(f"\n  {w}" for w in self.wrong)
        )


# ----- in the process that is killed -----


def work(stage: str, log: str, moment: Moment | None) -> None:
    """Run a stage in this process, writing its file events to `log`; die at `moment` if that is an event."""
    watch(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), moment)
    script, options = STAGES[stage]
    sys.argv = [f"scripts/{script}.py", *options]
    from aosa.start import main

    main(script)


def watch(log: int, moment: Moment | None) -> None:
    out = os.path.abspath("out")
    seen = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = args
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            path = args[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike):
            return
        # A name without a folder is one of a folder that is being removed.
        name = os.fsdecode(path)
        if not os.path.abspath(name).startswith(out) and os.sep in name:
            return
        line = f"{event.removeprefix('os.')} {name}"
        os.write(log, f"{line}\n".encode())
        if moment is not None and moment.event and kind_of(line) == moment.kind:
            seen += 1
            if seen != moment.event:
                return
            if moment.seconds:
                threading.Timer(moment.seconds, os.killpg, (0, signal.SIGKILL)).start()
            else:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)


def kind_of(event: str) -> str:
    """What a line of the log is about: one kind for all clips and all temporary names."""
    what, _, path = event.partition(" ")
    if os.sep not in path:
        return f"{what} in a folder that is removed"
    place = "report, " if ".folder/" in path or "/report/" in path else ""
    return f"{what} {place}{os.path.splitext(path)[1] or os.path.basename(path)}"


# ----- in the process that kills -----


def begin(stage: str, folder: Path, log: Path, moment: Moment | None) -> int:
    """Start a stage in `folder` as the leader of a process group and session; returns its id."""
    environment = {"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    if moment is not None and moment.cold:
        code = f"from tests.kills import work; work({stage!r}, {str(log)!r}, None)"
        with log.with_suffix(".txt").open("ab") as printed:
            # Ended by `end`.
            return subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=folder,
                env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            ).pid
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment)
        tempfile.tempdir = None
        printed = os.open(log.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        work(stage, str(log), moment)
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def end(process: int, seconds: float) -> int:
    """Wait for a process, so long at most, then kill its group; the exit status, negative for a signal."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def last_event(log: Path) -> str:
    """What the process had done last, in the words of the figures."""
    lines = log.read_text().splitlines() if log.exists() else []
    if not lines:
        return "start"
    path = lines[-1].partition(" ")[2]
    if any(mark in path for mark in (".folder", ".lock", "/report")) or os.sep not in path:
        return "report"
    kinds = {
        ".b2nd": "map",
        ".json": "record",
        ".time": "a clip's time",
        ".yaml": "config",
        ".png": "figure",
        ".pdf": "figure",
    }
    return kinds.get(Path(path).suffix, "table" if Path(path).suffix else "folder")


def files(folder: Path) -> dict[str, bytes]:
    """All results, hidden ones too."""
    found = (p for p in sorted((folder / "out").rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found if p.suffix not in EXCEPTED}


def left_behind(folder: Path) -> list[str]:
    """What no result is: hidden files, locks, and anything in the folder for temporary files."""
    hidden = (p for p in (folder / "out").rglob("*") if p.name.startswith(".") or p.suffix == ".lock")
    return [p.relative_to(folder).as_posix() for p in [*hidden, *(folder / "tmp").rglob("*")]]


def processes(folder: Path) -> list[str]:
    """Those that work in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def survivors(folder: Path) -> list[str]:
    """Processes that still work in the folder a moment after the kill."""
    for _ in range(50):
        if not (found := processes(folder)):
            return []
        time.sleep(0.02)
    return found


def differing(wanted: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    return [
        f"{name}: {'differs' if name in wanted and name in found else 'missing' if name in wanted else 'new'}"
        for name in sorted(wanted | found)
        if wanted.get(name) != found.get(name)
    ]


class Kills:
    """A run of them.

    Args:
        folder: an empty one, for all that is made.
        seed: of the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.figures = Figures()
        self.number = 0
        self.wanted: dict[str, dict[str, bytes]] = {}
        self.seconds: dict[str, float] = {}
        self.events: dict[str, Counter[str]] = {}

    def undisturbed(self) -> None:
        """The run that all others are compared with; what each stage starts from is kept."""
        place = self._place(None)
        for stage in STAGES:
            shutil.copytree(place, self.folder / f"before-{stage}")
            start = time.monotonic()
            self._finish(stage, place, "undisturbed")
            self.seconds[stage] = time.monotonic() - start
            self.events[stage] = Counter(map(kind_of, (place / f"{self.number}.log").read_text().splitlines()))
            self.wanted[stage] = files(place)
            self.figures.wrong += [f"undisturbed {stage} leaves {name}" for name in left_behind(place)]
        shutil.rmtree(place)

    @cached_property
    def starting(self) -> float:
        """Seconds from the start to the first event of a new process."""
        place = self._place("explain")
        start, log = time.monotonic(), self._log(place)
        process = begin("explain", place, log, Moment(0, cold=True))
        while not log.exists() or not log.stat().st_size:
            time.sleep(0.01)
        seconds = time.monotonic() - start
        end(process, GIVEN_UP)
        shutil.rmtree(place)
        return seconds

    def run(self, kills: int) -> None:
        """So many kills in all."""
        quota = {stage: round(kills * share) for stage, share in SHARES.items()}
        quota["explain"] += kills - sum(quota.values())
        for stage, wanted in quota.items():
            paired = round(wanted * PAIRED)
            while self.figures.killed(stage) < wanted - paired:
                self._round(stage, wanted - paired - self.figures.killed(stage))
            while self.figures.killed(stage) < wanted:
                self._pair(stage)
            print(f"{stage}: {self.figures.killed(stage)} kills", flush=True)

    def _place(self, stage: str | None) -> Path:
        """A folder in the state before a stage; None: before all."""
        self.number += 1
        place = self.folder / f"round-{self.number}"
        if stage is not None:
            shutil.copytree(self.folder / f"before-{stage}", place)
            return place
        (place / "configs" / "experiment").mkdir(parents=True)
        (place / "configs" / "experiment" / "kills.yaml").write_text(EXPERIMENT)
        (place / "tmp").mkdir()
        return place

    def _moment(self, stage: str, *, cold: bool = True) -> Moment:
        draw = self.random
        share = draw.random()
        if cold and share < COLD:
            return Moment(draw.uniform(0, self.starting + self.seconds[stage]), cold=True)
        if share < 0.4:
            return Moment(draw.uniform(0, self.seconds[stage]))
        kind = draw.choice(sorted(self.events[stage]))
        seconds = draw.choice([0, 0, draw.uniform(0, 0.005)])
        return Moment(seconds, kind, draw.randint(1, self.events[stage][kind]))

    def _log(self, place: Path) -> Path:
        self.number += 1
        return place / f"{self.number}.log"

    def _finish(self, stage: str, place: Path, what: str) -> None:
        """Run a stage to its end."""
        log = self._log(place)
        if (status := end(begin(stage, place, log, None), GIVEN_UP)) != 0:
            printed = log.with_suffix(".txt").read_text()[-2000:]
            self.figures.wrong.append(f"{what} {stage} ended with status {status}:\n{printed}")

    def _killed(self, stage: str, process: int, log: Path, moment: Moment, kind: str) -> bool:
        """Whether the process was killed; False when it ended before its moment."""
        status = end(process, GIVEN_UP if moment.event else moment.seconds)
        if status == -signal.SIGKILL:
            self.figures.kills[stage, kind] += 1
            self.figures.moments[stage, last_event(log)] += 1
        elif status != 0:
            printed = log.with_suffix(".txt").read_text()[-2000:]
            self.figures.wrong.append(f"{stage} started again ended with status {status}:\n{printed}")
        return status == -signal.SIGKILL

    def _round(self, stage: str, most: int) -> None:
        place = self._place(stage)
        for _ in range(min(most, KILLS_A_ROUND)):
            moment, log = self._moment(stage), self._log(place)
            if not self._killed(stage, begin(stage, place, log, moment), log, moment, str(moment)):
                break
            self.figures.wrong += [f"{stage} leaves a process: {p}" for p in survivors(place)]
            self.figures.restarts += 1
        else:
            self._finish(stage, place, "at last")
        self._compare(stage, place, "killed")

    def _pair(self, stage: str) -> None:
        """Two processes on one folder, one of them killed."""
        place = self._place(stage)
        moment, logs = self._moment(stage, cold=False), [self._log(place), self._log(place)]
        dying, living = begin(stage, place, logs[0], moment), begin(stage, place, logs[1], None)
        self._killed(stage, dying, logs[0], moment, "beside another")
        if (status := end(living, GIVEN_UP)) != 0:
            printed = logs[1].with_suffix(".txt").read_text()[-2000:]
            self.figures.wrong.append(f"{stage} beside a killed one ended with status {status}:\n{printed}")
        visible = {name: content for name, content in files(place).items() if "/." not in name}
        self.figures.wrong += [f"{stage} beside a killed one: {d}" for d in differing(self.wanted[stage], visible)]
        self._finish(stage, place, "after a pair,")
        self.figures.restarts += 1
        self._compare(stage, place, "after a pair")

    def _compare(self, stage: str, place: Path, what: str) -> None:
        self.figures.rounds += 1
        wrong = [f"{stage} {what}: {d}" for d in differing(self.wanted[stage], files(place))]
        wrong += [f"{stage} {what} leaves {name}" for name in left_behind(place)]
        self.figures.wrong += wrong
        if not wrong:
            shutil.rmtree(place)


@contextlib.contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="kills-") as made:
            yield Path(made).resolve()
    else:
        Path(folder).mkdir(parents=True)
        yield Path(folder).resolve()


def main() -> None:
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in ("aosa.cli", *(f"aosa.stages.{script}" for script, _ in STAGES.values())):
        importlib.import_module(module)
    start = time.monotonic()
    with scratch(options.get("FOLDER")) as folder:
        kills = Kills(folder, int(options.get("SEED", 0)))
        kills.undisturbed()
        about = ", ".join(f"{s} {kills.seconds[s]:.1f} s, {kills.events[s].total()} events" for s in STAGES)
        print(f"undisturbed: {about}", flush=True)
        kills.run(int(options.get("N", 200)))
    print(kills.figures)
    print(f"{time.monotonic() - start:.0f} s")
    sys.exit(1 if kills.figures.wrong else 0)


if __name__ == "__main__":
    main()
