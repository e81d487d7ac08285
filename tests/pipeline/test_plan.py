"""dry_run: the plan of an experiment, which makes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aosa.bench.passes import Pass
from aosa.config import quoted
from aosa.experiment import plan
from aosa.explainers import Explainer
from tests.running import Ended, common_options, own_configs, run


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
    """Runs the small experiment of two explainers on six clips."""
    directory = own_configs(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(*more: str) -> Ended:
        return run("reproduce", "--config-dir", str(directory), *common_options(tmp_path / "out"), *more)

    return call


@pytest.fixture
def write(reproduce, tmp_path):
    """Writes an experiment of these grids, which has times for scores."""

    def call(name: str, grids: str) -> None:
        head = f"name: {name}\ntitle: {name}\npaper: null\ntable: null\ncolumns: [seconds]\ngallery: 0\n"
        (tmp_path / "configs" / "experiment" / f"{name}.yaml").write_text(f"{head}{grids}\n")

    return call


def results(out: Path) -> list[Path]:
    return [p for p in out.rglob("*") if p.is_file() and "logs" not in p.parts]


def test_the_plan_counts_and_makes_nothing(reproduce, tmp_path):
    ended = reproduce("experiment=own", "dry_run=true")
    assert ended.status == 0, ended.err
    rows = re.findall(r"moving_shapes / own_net / (\w+) +(\d+) +(\d+) +(\d+) f( \+ 1 b)?", ended.out)
    # What is drawn at random needs no pass at all.
    assert rows == [
        ("accuracy", "6", "0", "0", ""),
        ("grad_cam", "6", "6", "1", " + 1 b"),
        ("random", "6", "6", "0", ""),
    ]
    assert "in all: 12 maps and 42 records to make" in ended.out
    assert "GB free" in ended.out
    assert results(tmp_path / "out") == []


def test_what_is_there_needs_not_be_made(reproduce):
    assert reproduce("experiment=own", "limit=2").status == 0
    assert "in all: 8 maps and 28 records to make" in reproduce("experiment=own", "dry_run=true").out
    part = reproduce("experiment=own", "dry_run=true", "explainers=[random]", "limit=4").out
    assert "in all: 2 maps and 8 records to make" in part


def test_a_plan_makes_three_passes_and_no_map(reproduce, write, monkeypatch):
    """Whatever the number of explainers: 2000 iterations, 196 masks and the rest are counted, not run."""
    made: list[Pass] = []
    replay = plan.replay

    def counted(model, passes):
        made.extend(passes)
        replay(model, passes)

    monkeypatch.setattr(plan, "replay", counted)
    monkeypatch.setattr(Explainer, "__call__", None)
    names = "[ep3d, aosa, osa, lime3d, smooth_grad]"
    write("long", f"grids: [{{dataset: moving_shapes, models: [own_net], explainers: {names}, metrics: []}}]")
    ended = reproduce("experiment=long", "dry_run=true")
    assert ended.status == 0, ended.err
    rows = dict(re.findall(r"own_net / (\w+) +300 +300 +(\d+ f(?: \+ \d+ b)?)", ended.out))
    assert rows == {
        "ep3d": "2000 f + 2000 b", "aosa": "17 f", "osa": "1537 f", "lime3d": "1000 f", "smooth_grad": "50 f + 50 b"
    }  # fmt: skip
    assert made == [Pass(1, None), Pass(1, None), Pass(1, "clip")]


def test_without_videos_and_weights_the_plan_is_of_one_clip(reproduce, write, tmp_path):
    """A drawn clip and random weights take their place."""
    write("absent", "grids: [{dataset: ucf101, models: [own_net], explainers: [grad_cam], metrics: []}]")
    model = tmp_path / "configs" / "model" / "own_net.yaml"
    model.write_text(model.read_text().replace("checkpoint: random", "checkpoint: ${checkpoint}"))
    root = f"data_root={quoted(str(tmp_path / 'none'))}"
    ended = reproduce("experiment=absent", "dry_run=true", "checkpoint=nowhere.pth", root)
    assert ended.status == 0, ended.err
    assert re.search(r"ucf101 / own_net / grad_cam +\? +\? +1 f \+ 1 b ", ended.out)
    assert "in all (without 2 rows whose videos are not there): 0 maps and 0 records to make" in ended.out
    assert "nowhere.pth" in ended.out
    assert "ucf101: dataset.root=" in ended.out
    assert results(tmp_path / "out") == []
