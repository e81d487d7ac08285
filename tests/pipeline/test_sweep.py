"""Settings, their table, and the launchers and sweepers that run them."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from aosa.stages.sweep import gather
from tests.running import ROOT, Ended, common_options, run, snapshot, start

KILLED = """
import os, signal
replace, seen = os.replace, []
def dying(source, target):
    if str(target).endswith({suffix!r}):
        seen.append(target)
        if len(seen) == {count}:
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = dying
"""


DIES = """
import os
from aosa.data.base import VideoDataset

def die() -> VideoDataset:
    os._exit(9)
"""


def options(folder: Path, *more: str) -> list[str]:
    return [*common_options(folder / "out"), "explainer=grad_cam", "dataset.size=3", "metric.steps=3", *more]


def settings(folder: Path, name: str = "sweep") -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((folder / "out" / "sweeps" / name / "settings").glob("*.json"))]


def table(folder: Path, name: str = "sweep") -> list[dict[str, str]]:
    with (folder / "out" / "sweeps" / name / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def needs(package: str) -> None:
    """Skip where a plugin of Hydra is not installed."""
    if importlib.util.find_spec(f"hydra_plugins.{package}") is None and not os.environ.get("CI"):  # where all is
        pytest.skip(f"{package.replace('_', '-')} is not installed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Ended]:
    """A grid of two settings, and how it ended."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return folder, run("sweep", *options(folder, "explainer.relu=true,false"))


def test_a_grid_scores_each_setting(whole):
    tmp_path, ended = whole
    assert ended.status == 0, ended.err
    out = tmp_path / "out"
    assert {p.name for p in (out / "sweeps" / "sweep").iterdir()} == {
        "settings", "sweep.md", "sweep.csv", "sweep.png", "sweep.pdf"
    }  # fmt: skip
    assert len(settings(tmp_path)) == 2
    for row in settings(tmp_path):
        records = [json.loads(p.read_text()) for p in (out / row["about"]["records"]).rglob("*.json")]
        scores = {r["clip"]: r["overall"] for r in records}
        assert {c: v[0] for c, v in row["clips"].items()} == scores
        assert len(scores) == 3
        assert row["score"] == pytest.approx(np.mean(list(scores.values())))
        assert row["low"] <= row["score"] <= row["high"]
        assert row["options"]["explainer.relu"] in (True, False)
    shown = table(tmp_path)
    assert {r["explainer.relu"] for r in shown} == {"True", "False"}
    assert float(shown[0]["score"]) >= float(shown[1]["score"])
    assert (out / "sweeps" / "sweep" / "sweep.md").read_text() in ended.out


def test_where_a_setting_runs_is_none_of_its_options(tmp_path):
    for more in ("threads=1", "device=auto", "batch_size=2"):
        assert run("sweep", *options(tmp_path, more, "explainer.relu=true")).status == 0
    assert len(settings(tmp_path)) == 1
    assert set(settings(tmp_path)[0]["options"]) == {
        "checkpoint", "explainer", "dataset.size", "metric.steps", "explainer.relu"
    }  # fmt: skip


def test_a_failing_setting_does_not_stop_the_others(tmp_path):
    ended = run("sweep", *options(tmp_path, "explainer.relu=true,3,false"))
    assert ended.status == 1
    assert "failed setting: explainer.relu=3: give true or false" in ended.err
    assert len(table(tmp_path)) == 2
    # What failed is told only as long as it is part of the sweep.
    assert run("sweep", *options(tmp_path, "explainer.relu=true,false")).status == 0


@pytest.mark.parametrize(
    "change", [{"score": None}, {"score": "1"}, {"clips": {"a": [1, 1]}}, {"direction": "up"}, {"status": True}]
)
def test_a_damaged_setting_is_named(tmp_path, whole, change, capsys):
    shutil.copytree(whole[0] / "out" / "sweeps" / "sweep", tmp_path / "sweep")
    first, *others = sorted((tmp_path / "sweep" / "settings").glob("*.json"))
    first.write_text(json.dumps({**json.loads(first.read_text()), **change}))
    assert gather(tmp_path / "sweep") == [1, *[0] * len(others)]
    assert f"error: {first}: damaged (" in capsys.readouterr().err
    assert len((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()) == 1 + len(others)


def test_a_failing_video_is_told(tmp_path, write_video):
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (16, 32, 48, 3), dtype=np.uint8)
        write_video(tmp_path / "videos" / f"{i}.avi", noise)
    (tmp_path / "videos" / "2.avi").write_bytes(b"")
    data = ["dataset=video_folder", f"dataset.root={tmp_path / 'videos'}", "target=predicted", "metric.steps=3"]
    ended = run("sweep", *common_options(tmp_path / "out"), *data, "explainer=grad_cam", "explainer.relu=true,false")
    assert ended.status == 3
    assert [r["n"] for r in table(tmp_path)] == ["2", "2"]


def test_less_is_better_where_the_column_says_so(tmp_path):
    assert run("sweep", *options(tmp_path, "explainer.relu=true,false", "column=deletion")).status == 0
    shown = table(tmp_path)
    assert float(shown[0]["score"]) <= float(shown[1]["score"])


def test_settings_of_different_columns_are_not_mixed(tmp_path):
    for column, status in (("deletion", 0), ("insertion", 1)):
        ended = run("sweep", *options(tmp_path, f"column={column}", f"dataset.size={status + 1}"))
        assert ended.status == status
    assert "error: a sweep compares one column, these settings have deletion, insertion" in ended.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("column=over", "column=over: deletion_insertion has deletion, insertion, overall"),
        ("metric=accuracy", "there is no metric=accuracy"),
        ("name=a/b", "name=a/b: it names a folder; give 1 to 64 letters"),
        ("explainer.stridee=1,2", "there is no key 'explainer.stridee'"),
        ("hydra/sweeper=optunaa", "there is no hydra/sweeper=optunaa"),
    ],
)
def test_bad_input(tmp_path, override, message):
    given = options(tmp_path, override)
    if override.startswith("metric"):
        given.remove("metric.steps=3")
    ended = run("sweep", *given)
    assert ended.status == 1
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("suffix", "count"), [(".b2nd", 5), ("sweep.csv", 1)])
def test_killed_and_started_again(tmp_path, whole, suffix, count):
    given = ["explainer.relu=true,false"]
    process = start("sweep", *options(tmp_path, *given), before=KILLED.format(suffix=suffix, count=count))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "sweeps" / "sweep" / "sweep.csv").exists()
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("00000?.*") if p.suffix in (".b2nd", ".json")}
    assert len(finished) == {".b2nd": 4 + 4, "sweep.csv": 6 + 6}[suffix]  # maps and records
    assert run("sweep", *options(tmp_path, *given)).status == 0
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert snapshot(tmp_path / "out" / "sweeps", ".csv", ".md") == snapshot(whole[0] / "out" / "sweeps", ".csv", ".md")


@pytest.mark.parametrize(
    ("package", "launcher"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]),
    ],
)
def test_settings_in_processes_of_their_own(tmp_path, monkeypatch, package, launcher):
    needs(package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ended = run("sweep", *options(tmp_path, *launcher, "explainer.relu=true,3"))
    # An error in another process is this one's too.
    assert ended.status == 1
    assert "failed setting: explainer.relu=3: give true or false" in ended.err
    assert [r["n"] for r in table(tmp_path)] == ["3"]


def test_a_process_that_dies_is_told(tmp_path):
    needs("hydra_joblib_launcher")
    # As the kernel ends it when memory is short, or a scheduler when time is up.
    (tmp_path / "dying.py").write_text(DIES)
    (tmp_path / "configs" / "dataset").mkdir(parents=True)
    (tmp_path / "configs" / "dataset" / "dying.yaml").write_text("_target_: dying.die\n")
    own = ["--config-dir", str(tmp_path / "configs"), "dataset=dying", "explainer.relu=true,false"]
    given = [*own, *common_options(tmp_path / "out"), "explainer=grad_cam", "hydra/launcher=joblib"]
    # In a process of its own: joblib's workers outlive a sweep, and these know nothing of the folder.
    process = start("sweep", *given, before=f"import sys; sys.path.append({str(tmp_path)!r})")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: a process of the sweep died" in err
    assert err.endswith("what is finished is kept, the same command goes on from there\n")


def test_optuna(tmp_path):
    needs("hydra_optuna_sweeper")
    sweeper = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3"]
    space = ["explainer=aosa", "explainer.box=32", "explainer.neighbours=1", "explainer.stride=choice(16,32)"]
    given = options(tmp_path, *sweeper, *space)
    given.remove("explainer=grad_cam")
    assert run("sweep", *given).status == 0
    maps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "maps").rglob("*.b2nd")}
    assert len(maps) == 3 * len(settings(tmp_path)) > 0
    before = settings(tmp_path)
    # The same settings again, which are read.
    assert run("sweep", *given).status == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "maps").rglob("*.b2nd")} == maps
    assert settings(tmp_path) == before
