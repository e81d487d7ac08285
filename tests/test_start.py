"""How a stage ends when it is stopped, when nobody reads it, and when it is left without memory or its folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from aosa.cli import STAGES
from aosa.files import write_atomic
from tests.running import NETWORK, ROOT, common_options, own_configs, run, snapshot, start

LINE = "interrupted; what is finished is kept, the same command goes on from there"
CHEAP = ["explainer=random", "dataset.size=3"]
# Each sends the process a signal at a certain moment.
KILL = "import os, signal\ndef stop(): os.kill(os.getpid(), signal.{name})\n"
IMPORTING = """
import builtins
usual = builtins.__import__
def importing(name, *more):
    if name == "torch":
        stop()
    return usual(name, *more)
builtins.__import__ = importing
"""
COMPOSING = """
from hydra._internal.config_loader_impl import ConfigLoaderImpl
usual = ConfigLoaderImpl.load_configuration
ConfigLoaderImpl.load_configuration = lambda *a, **k: (stop(), usual(*a, **k))[1]
"""
WRITING = """
replace, seen = os.replace, []
def replacing(source, target):
    if str(target).endswith(".b2nd"):
        seen.append(target)
        if len(seen) == 3:
            stop()
    replace(source, target)
os.replace = replacing
"""
TIDYING = "import atexit, threading\natexit.register(stop)\nthreading._register_atexit(stop)\n"
IN_A_POOL = """
from aosa.stages import prepare
usual = prepare.probe
prepare.probe = lambda path: (stop(), usual(path))[1]
"""


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit status, and what was said but for progress bars."""
    _, err = process.communicate()
    lines = [line.rpartition("\r")[2] for line in err.splitlines()]
    return process.returncode, [line for line in lines if line and "|" not in line]


@pytest.mark.parametrize(
    ("name", "moments", "status"),
    [
        ("SIGINT", [IMPORTING], 130),
        ("SIGTERM", [IMPORTING], 143),
        ("SIGINT", [COMPOSING], 130),
        ("SIGINT", [WRITING, TIDYING], 130),
        ("SIGTERM", [WRITING], 143),
    ],
    ids=["importing", "terminated importing", "composing", "twice", "terminated"],
)
def test_stopped_at_any_moment_ends_in_one_line(tmp_path, name, moments, status):
    before = KILL.format(name=name) + "".join(moments)
    assert ended(start("explain", *common_options(tmp_path), *CHEAP, before=before)) == (status, [LINE])
    if WRITING in moments:  # what is finished is kept, what was being written is not there
        assert len(list(tmp_path.rglob("*.b2nd"))) == 2


def test_stopped_with_workers_at_work(tmp_path, write_video):
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.avi", 4)
    options = [*common_options(tmp_path / "out"), "dataset=video_folder", f"dataset.root={tmp_path / 'videos'}"]
    before = KILL.format(name="SIGINT") + IN_A_POOL + TIDYING
    assert ended(start("prepare", *options, "workers=2", before=before)) == (130, [LINE])


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    before = KILL.format(name="SIGINT") + "signal.signal(signal.SIGINT, signal.SIG_IGN)" + WRITING
    assert ended(start("explain", *common_options(tmp_path), *CHEAP, before=before)) == (0, [])


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    process = start("explain", *common_options(tmp_path), *CHEAP)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "error" not in process.stderr.read()
    assert process.wait() == 141


def test_scripts_and_the_command_begin_with_what_signals_mean():
    for stage in STAGES:
        assert "\nfrom aosa.start import main\n" in (ROOT / "scripts" / f"{stage}.py").read_text()
    assert 'aosa = "aosa.start:entry"' in (ROOT / "pyproject.toml").read_text()


def test_interrupted_work_of_a_stage(monkeypatch, tmp_path):
    from aosa.stages import explain as stage

    def interrupted(config: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "run", interrupted)
    told = run("explain", *common_options(tmp_path))
    assert (told.status, told.err) == (130, f"\n{LINE}\n")


GREEDY = NETWORK.replace("return self.fc", "torch.empty(1 << 55)\n        return self.fc")


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(8, "set batch_size=2 or less"), (1, "that is the least already: take precision=bf16")]
)
def test_out_of_memory_ends_the_batch_and_names_what_to_set(tmp_path, monkeypatch, batch_size, advice):
    configs = own_configs(tmp_path)
    write_atomic(tmp_path / "greedy_network.py", GREEDY)
    model = configs / "model" / "own_net.yaml"
    write_atomic(model, model.read_text().replace("own_network.Net", "greedy_network.Net"))
    monkeypatch.syspath_prepend(tmp_path)
    options = [*common_options(tmp_path / "out"), "model=own_net", "explainer=osa", "dataset.size=3", "target=0"]
    told = run("explain", "--config-dir", str(configs), *options, f"batch_size={batch_size}")
    assert told.status == 1
    assert told.err.count("error: ") == 1
    assert f"error: out of memory with batch_size={batch_size}; {advice}" in told.err
    assert "failed: " not in told.err


def test_a_folder_removed_meanwhile_is_told(tmp_path, monkeypatch):
    from aosa.store import maps as store

    usual, made = store.save_map, []

    def removing(path: Path, *more: object) -> None:
        usual(path, *more)  # type: ignore[arg-type]
        made.append(path)
        if len(made) == 2:
            shutil.rmtree(tmp_path)

    monkeypatch.setattr(store, "save_map", removing)
    told = run("explain", *common_options(tmp_path), *CHEAP)
    assert told.status == 1
    assert "was removed or moved while its results were made; run the same command again" in told.err
    assert run("explain", *common_options(tmp_path), *CHEAP).status == 0
    assert len(snapshot(tmp_path, ".b2nd")) == 3


def test_statuses_are_those_of_a_shell():
    assert (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGPIPE) == (130, 143, 141)
