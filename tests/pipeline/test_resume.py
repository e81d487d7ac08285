"""Killed anywhere and started again: the same bytes as if nothing had happened, and nothing done twice."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from aosa.config import quoted
from tests.running import common_options, run, snapshot, start

SETTINGS = ["explainer=aosa", "explainer.stride=32", "explainer.box=32", "explainer.neighbours=1", "dataset.size=4"]
METRIC = ["metric.steps=3"]
# Dies as power does: before the third result has got its name, its temporary file still there.
KILLED = """
import os, signal
replace, seen = os.replace, []
def dying(source, target):
    if str(target).endswith({suffix!r}) and not str(target).endswith((".time", ".failure")):
        seen.append(target)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = dying
"""
# All writes beyond so many bytes of one file fail, as on a full disk.
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"


def results(folder: Path) -> dict[str, bytes]:
    """Maps and records; times are kept apart from them."""
    found = snapshot(folder, ".b2nd", ".json")
    return {k: v for k, v in found.items() if not k.endswith(".time")}


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*.b2nd") if not p.name.startswith(".")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run("explain", *common_options(folder), *SETTINGS).status == 0
    assert run("evaluate", *common_options(folder), *SETTINGS, *METRIC).status == 0
    assert len(results(folder)) == 8
    return folder


def test_killed_explain_and_evaluate_end_in_the_same_bytes(tmp_path, undisturbed):
    process = start("explain", *common_options(tmp_path), *SETTINGS, before=KILLED.format(suffix=".b2nd"))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    made = times(tmp_path)
    assert len(made) == 2
    assert len(list(tmp_path.rglob(".*.b2nd"))) == 1
    assert run("explain", *common_options(tmp_path), *SETTINGS).status == 0
    assert {p: t for p, t in times(tmp_path).items() if p in made} == made

    process = start("evaluate", *common_options(tmp_path), *SETTINGS, *METRIC, before=KILLED.format(suffix=".json"))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(results(tmp_path)) == 6
    assert run("evaluate", *common_options(tmp_path), *SETTINGS, *METRIC).status == 0
    assert results(tmp_path) == results(undisturbed)


def test_two_processes_on_one_folder_end_in_the_same_bytes(tmp_path, undisturbed):
    pair = [start("explain", *common_options(tmp_path), *SETTINGS) for _ in range(2)]
    ends = [process.communicate()[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], ends
    assert run("evaluate", *common_options(tmp_path), *SETTINGS, *METRIC).status == 0
    assert results(tmp_path) == results(undisturbed)


def test_full_disk_is_told_and_what_is_finished_kept(tmp_path):
    cheap = ["explainer=random", "dataset.size=3"]
    full, whole = common_options(tmp_path / "full"), common_options(tmp_path / "whole")
    assert run("explain", *full, *cheap, "limit=1").status == 0
    made = times(tmp_path / "full")
    process = start("explain", *full, *cheap, before=FULL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    assert f"error: no room to write {tmp_path}/full/maps/moving_shapes/r3d_tiny/random-" in err
    assert "What is finished is kept; free some space, or set output_root, and run the same command again" in err
    assert times(tmp_path / "full") == made
    assert list(tmp_path.rglob(".*.b2nd")) == []
    assert run("explain", *full, *cheap).status == 0
    assert run("explain", *whole, *cheap).status == 0
    assert results(tmp_path / "full") == results(tmp_path / "whole")


def test_limit_and_batch_size_and_order_of_work_change_nothing(tmp_path, undisturbed):
    for more in (["limit=3", "batch_size=8"], ["limit=1"], []):
        assert run("explain", *common_options(tmp_path), *SETTINGS, *more).status == 0
    assert run("evaluate", *common_options(tmp_path), *SETTINGS, *METRIC).status == 0
    assert results(tmp_path) == results(undisturbed)


def test_batch_size_does_not_name_the_folder(tmp_path, undisturbed):
    assert run("explain", *common_options(tmp_path), *SETTINGS, "batch_size=3").status == 0
    assert set(snapshot(tmp_path, ".b2nd")) == set(snapshot(undisturbed, ".b2nd"))


@pytest.mark.parametrize(
    "override",
    [
        "explainer.stride=31",
        "target=predicted",
        "dataset.distractors=1",
        "model.spec.mean=[0.5,0.5,0.5]",
        "precision=bf16",
        "model.channels_last=false",
        "model.class_names=[vertical,horizontal,clockwise,anticlockwise,diagonal_up,diagonal_down]",
    ],
)
def test_what_changes_a_map_changes_the_folder(tmp_path, override):
    cheap = [*SETTINGS, "dataset.size=1"]
    for more in ([], [override]):
        assert run("explain", *common_options(tmp_path), *cheap, *more).status == 0
    assert len({p.parent for p in times(tmp_path)}) == 2


def test_damaged_map_is_made_again(tmp_path):
    cheap = ["explainer=random", "dataset.size=3"]
    assert run("explain", *common_options(tmp_path), *cheap).status == 0
    before = results(tmp_path)
    first, second, third = sorted(times(tmp_path))
    first.write_bytes(first.read_bytes()[:-9])
    second.write_bytes(b"")
    kept = times(tmp_path)[third]
    assert run("explain", *common_options(tmp_path), *cheap).status == 0
    assert results(tmp_path) == before
    assert times(tmp_path)[third] == kept


def test_changed_video_gets_a_new_map(tmp_path, write_video):
    rng = np.random.default_rng(0)
    for name in ("1", "2"):
        write_video(tmp_path / "videos" / f"{name}.avi", rng.integers(0, 256, (16, 32, 48, 3), dtype=np.uint8))
    options = ["explainer=grad_cam", "dataset=video_folder", "target=0"]
    options += [f"dataset.root={quoted(str(tmp_path / 'videos'))}", *common_options(tmp_path / "out")]
    assert run("explain", *options).status == 0
    before, stamps = results(tmp_path / "out"), times(tmp_path / "out")
    write_video(tmp_path / "videos" / "2.avi", rng.integers(0, 256, (16, 32, 48, 3), dtype=np.uint8))
    assert run("explain", *options).status == 0
    after = results(tmp_path / "out")
    assert set(after) == set(before)
    assert {Path(k).stem for k in after if after[k] != before[k]} == {"2"}
    assert {p.stem for p, t in times(tmp_path / "out").items() if stamps[p] != t} == {"2"}
