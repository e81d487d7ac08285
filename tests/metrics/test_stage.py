"""The metrics as a user types them, on one clip of the demo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.running import common_options, run, snapshot

MAPS = ["dataset.size=1", "explainer=ep3d", "explainer.iterations=1"]


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert run("explain", *common_options(folder), *MAPS).status == 0
    return folder


@pytest.mark.parametrize(
    ("metric", "options", "column"),
    [
        ("temporal_pointing", ["metric.frame=sum"], "tpt"),
        ("minimal_mask", ["metric.thresholds=[0.5]", "metric.steps=5"], "minimal_deletion_0.5"),
        ("preservation_ratio", ["metric.areas=[0.3]"], "min_preservation_ratio"),
        ("sanity", ["metric.stages=[fc]"], "spearman"),
        ("deletion_insertion_black", ["metric.steps=2"], "overall"),
    ],
)
def test_a_record_per_clip(explained, metric, options, column) -> None:
    ended = run("evaluate", *common_options(explained), *MAPS, f"metric={metric}", *options)
    assert ended.status == 0, ended.err
    found = {k: v for k, v in snapshot(explained / "records", ".json").items() if f"/{metric}-" in k}
    (record,) = (json.loads(v) for v in found.values())
    assert column in record
    assert record["class_name"] == "clockwise"
    again = run("evaluate", *common_options(explained), *MAPS, f"metric={metric}", *options)
    assert again.status == 0
    assert {k: v for k, v in snapshot(explained / "records", ".json").items() if f"/{metric}-" in k} == found


def test_an_explainer_without_masks_is_refused_before_any_work(tmp_path) -> None:
    ended = run("evaluate", *common_options(tmp_path), "metric=preservation_ratio", "explainer=aosa")
    assert ended.status == 1
    assert ended.err == (
        "error: metric.explainer._target_=aosa.explainers.AOSA: give an explainer that learns masks: choose "
        "explainer=ep3d, ep3d_evenly, ep3d_gaussian or step\n"
    )
