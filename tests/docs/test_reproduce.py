"""docs/reproduce.md names every experiment, and its counts of videos, maps and passes are those of the configs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from omegaconf import DictConfig
from torch import nn

from aosa.bench.timing import moving_texture
from aosa.clip import InputSpec
from aosa.config import build, compose
from aosa.data.ucf101_24 import UCF10124
from aosa.experiment.grid import Experiment, Site, Unit
from aosa.explainers import EBR, OSA, Explainer
from aosa.explainers.base import Passes
from aosa.explainers.cam import CAM
from aosa.models.base import VideoModel
from aosa.report.tables import paper_values

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
EXPERIMENTS = {path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")}
UCF101, UCF101_24 = 3783, 910  # test videos of split 1; those of them that have boxes

_LENGTHS = {"k": 1e3, "M": 1e6}


class Net(nn.Module):
    """Something to be explained, as large as its input allows and no larger."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 4, stride=16)
        self.fc = nn.Linear(4, self.num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3, 4)))


class Cost(NamedTuple):
    """Of one map: clips forward, clips back to the input, clips forward to score it."""

    forward: float
    backward: float
    scoring: float


@cache
def grid(experiment: str) -> list[Unit]:
    return Experiment(compose("reproduce", [f"experiment={experiment}"])).units


def sites(experiment: str) -> list[Site]:
    """Where the accuracy alone is measured."""
    return Experiment(compose("reproduce", [f"experiment={experiment}"])).sites


@cache
def _part(group: str, name: str, overrides: tuple[str, ...]) -> DictConfig:
    return compose("evaluate", [f"{group}={name}", *overrides])[group]


def part(unit: Unit, group: str, name: str, more: Sequence[str] = ()) -> DictConfig:
    """What a unit makes of one config; composed once for all units that share it."""
    return _part(group, name, tuple(o for o in (*unit.overrides, *more) if o.startswith(f"{group}.")))


def dataset_of(unit: Unit) -> DictConfig:
    return part(unit, "dataset", unit.dataset)


def videos(unit: Unit) -> int:
    """How many videos a unit explains where its data set is whole."""
    dataset = dataset_of(unit)
    if unit.dataset == "moving_shapes":
        return dataset.size or 300
    if unit.dataset.startswith("epic"):
        return dataset.top * dataset.per_class
    all_classes = {"ucf101": 101, "ucf101_24": 24, "kinetics400": 400, "kinetics700": 700, "etri_activity3d": 55}
    classes = len(dataset.classes or []) or all_classes[unit.dataset]
    if not unit.dataset.startswith("ucf101"):
        return classes * dataset.per_class
    if dataset.limit_per_class is None:
        return UCF101_24 if unit.dataset == "ucf101_24" else UCF101
    return classes * dataset.limit_per_class


def stand_in(spec: InputSpec) -> VideoModel:
    return VideoModel(Net(), spec, class_names=["a", "b"], target_layer="conv")


def passes(explainer: Explainer, spec: InputSpec) -> Passes:
    """Clips forward and back for one map, as the explainer says."""
    if getattr(explainer, "segmentation", "") == "slic":  # of segments, SLIC makes about as many as are asked for
        return Passes(explainer.samples if explainer.selection in ("bernoulli", "shapley") else explainer.segments)
    said = explainer.passes(stand_in(spec), moving_texture(stand_in(spec)))
    # Those of one pass go back to a layer at most, but for AOSA-approx and guided backprop.
    return Passes(1) if isinstance(explainer, CAM | EBR) else said


def cost(unit: Unit | Site) -> Cost:
    if isinstance(unit, Site):
        return Cost(0, 0, 1)  # one view of a video
    scoring = 0.0
    explainer = build(part(unit, "explainer", unit.explainer))
    forward, backward = passes(explainer, build(part(unit, "model", unit.model).spec))
    for name in unit.metrics:
        metric = part(unit, "metric", name, unit.metric_options.get(name, []))
        if name in ("deletion_insertion", "deletion_insertion_black", "minimal_mask"):
            scoring += 2 * (metric.steps + 1) + 1
        elif name == "preservation_ratio":
            scoring += len(metric.areas) * explainer.iterations
        elif name == "sanity":
            scoring += len(metric.stages) * forward
    return Cost(forward, backward, scoring)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(cell: str) -> float:
    """``3783``, ``53 k`` or ``1.9 M``."""
    digits, unit = re.fullmatch(r"([\d.]+) ?([kM]?)", cell).groups()
    return float(digits) * _LENGTHS.get(unit, 1)


def test_the_page_names_every_experiment_and_no_other():
    written = set(re.findall(r"`([a-z0-9_]+)`", PAGE)) | set(re.findall(r"experiment=([a-z0-9_]+)", PAGE))
    assert sorted(EXPERIMENTS - written) == []
    assert sorted(set(re.findall(r"experiment=([a-z0-9_]+)", PAGE)) - EXPERIMENTS) == []


COSTS = {row[0].strip("`"): row for row in rows("What it costs")}


def test_every_experiment_has_its_cost():
    assert sorted(EXPERIMENTS - COSTS.keys()) == []
    assert sorted(COSTS.keys() - EXPERIMENTS) == []


@pytest.mark.parametrize("experiment", sorted(COSTS))
def test_costs_are_those_of_the_configs(experiment):
    """To the two digits that are printed."""
    all_units = grid(experiment) or sites(experiment)
    listed = {(u.dataset, str(dataset_of(u))): videos(u) for u in all_units}
    blocks = [(videos(u), cost(u)) for u in all_units]
    expected = [
        sum(listed.values()),
        sum(n for u, (n, _) in zip(all_units, blocks, strict=True) if isinstance(u, Unit)),
        *(sum(n * c[i] for n, c in blocks) for i in range(3)),
    ]
    said = [number(cell) for cell in COSTS[experiment][1:6]]
    assert said == pytest.approx(expected, rel=0.05), [f"{e:.2g}" for e in expected]
    assert said[0] == expected[0]


@pytest.mark.parametrize("row", rows("One map"), ids=lambda row: row[0])
def test_one_map_costs_what_the_page_says(row):
    """Each row's command is composed; on a stand-in of the network its masks are counted."""
    config = compose("explain", row[1].strip("`").split())
    found = passes(build(config.explainer), build(config.model.spec))
    assert [number(cell) for cell in row[2:4]] == list(found)


def test_scoring_costs_what_the_page_says():
    model = stand_in(InputSpec(frames=4, size=(16, 16)))
    metric = build(compose("evaluate", ["metric=deletion_insertion"]).metric)
    assert metric.passes(model, moving_texture(model)) == Passes(59)
    assert "59 forward passes" in PAGE


@pytest.mark.parametrize("row", rows("What counts as agreement"), ids=lambda row: row[0])
def test_the_papers_moved_as_much_as_the_page_says(row):
    """From the conference (Tables 1 and 2) to the journal (Tables I and IV)."""
    names = {"Grad-CAM": "grad_cam", "STEP": "step", "AOSA": "aosa", "OSA (defined anew in the journal)": "osa"}
    moved = dict.fromkeys(("deletion", "insertion", "spt"), 0.0)
    for old, new in (("1", "I"), ("2", "IV")):
        keys = ["model", "explainer", "column"]
        both = paper_values("aosa_wacv", old).merge(paper_values("aosa_journal", new), on=keys)
        for one in both[both["explainer"] == names[row[0]]].itertuples():
            moved[one.column] = max(moved[one.column], abs(one.value_x - one.value_y))
    assert [float(cell) for cell in row[1:]] == pytest.approx(list(moved.values()), abs=1e-9)


@pytest.mark.real
def test_the_numbers_of_videos_are_the_lists(shared_data):
    dataset = UCF10124(shared_data / "ucf101", shared_data / "ucf101_24" / "pyannot.pkl")
    assert len(list(dataset.listed())) == UCF101_24
    listed = (shared_data / "ucf101" / "ucfTrainTestlist" / "testlist01.txt").read_text().split()
    assert len(listed) == UCF101
    assert str(UCF101) in PAGE
    assert str(UCF101_24) in PAGE


def test_osa_of_the_journal_and_of_wacv_are_the_same_on_112_pixels():
    """As the page says: the same masks, in the same order, from which equal scores make equal maps."""
    model = stand_in(InputSpec(frames=16, size=(112, 112)))
    clip = moving_texture(model)
    journal, wacv = (e.prepare(clip, model.spec) for e in (OSA(), OSA(box=[8, 16, 16], stride=[2, 8, 8])))
    assert np.array_equal(journal.boxes, wacv.boxes)
    assert np.array_equal(journal.groups, wacv.groups)
