"""Evaluate: records of maps on disk, and what it says about maps that cannot be scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aosa import load_map, save_map
from aosa.config import quoted
from tests.running import common_options, run, snapshot

SETTINGS = ["explainer=random", "dataset.size=3", "metric.steps=4"]


@pytest.fixture
def explained(tmp_path) -> Path:
    """Three maps; returns the folder of results."""
    assert run("explain", *common_options(tmp_path), *SETTINGS[:2]).status == 0
    return tmp_path


def records(folder: Path) -> dict[str, dict]:
    found = snapshot(folder / "records", ".json")
    return {Path(k).stem: json.loads(v) for k, v in found.items() if not k.endswith((".time", ".failure"))}


def spoil(folder: Path, clip: str, values: torch.Tensor) -> None:
    (path,) = folder.rglob(f"{clip}.b2nd")
    saliency, meta = load_map(path)
    save_map(path, saliency.with_values(values), meta)


def failures(folder: Path) -> dict[str, str]:
    (path,) = (folder / "records").rglob("failures.csv")
    with path.open(newline="") as file:
        return {row["clip"]: row["reason"] for row in csv.DictReader(file)}


def test_records_are_scores_of_the_maps(explained):
    ended = run("evaluate", *common_options(explained), *SETTINGS)
    assert ended.status == 0, ended.err
    found = records(explained)
    assert sorted(found) == ["000000", "000001", "000002"]
    for record in found.values():
        curve = np.array(record["deletion_curve"])
        assert record["deletion"] == pytest.approx((curve[:-1] + curve[1:]).sum() / 8)
        assert record["overall"] == record["insertion"] - record["deletion"]
        assert record["probability"] == curve[0] == pytest.approx(record["insertion_curve"][-1], rel=1e-4)
        assert not {"seconds", "time"} & set(record)


def test_maps_that_have_no_order_are_listed_and_the_others_scored(explained):
    spoil(explained, "000000", torch.full((16, 64, 64), torch.nan))
    spoil(explained, "000001", torch.full((16, 64, 64), 0.5))
    ended = run("evaluate", *common_options(explained), *SETTINGS)
    assert ended.status == 3
    assert "Traceback" not in ended.err
    assert list(records(explained)) == ["000002"]
    reasons = failures(explained)
    assert "the map is damaged (it holds NaN or infinity); run explain again" in reasons["clockwise/000000"]
    assert reasons["anticlockwise/000001"].endswith("the map is constant (0.5), so its voxels have no order")


def test_map_of_another_size_is_listed(explained):
    spoil(explained, "000000", torch.rand(8, 64, 64))
    assert run("evaluate", *common_options(explained), *SETTINGS).status == 3
    reason = failures(explained)["clockwise/000000"]
    assert reason.endswith("damaged (a map of (8, 64, 64) (T, H, W), not (16, 64, 64)); run explain again")
    assert run("explain", *common_options(explained), *SETTINGS[:2]).status == 0
    assert run("evaluate", *common_options(explained), *SETTINGS).status == 0


def test_damaged_map_is_listed(explained):
    (path,) = explained.rglob("000000.b2nd")
    path.write_bytes(path.read_bytes()[:100])
    assert run("evaluate", *common_options(explained), *SETTINGS).status == 3
    assert "000000.b2nd" in failures(explained)["clockwise/000000"]
    assert "run explain again" in failures(explained)["clockwise/000000"]


def test_no_maps_at_all(tmp_path):
    ended = run("evaluate", *common_options(tmp_path), *SETTINGS)
    assert ended.status == 1
    assert "there are no maps; run scripts/explain.py with the same options first" in ended.err
    assert not (tmp_path / "records").exists()


def test_a_new_map_gets_a_new_record(explained):
    run("evaluate", *common_options(explained), *SETTINGS)
    before = records(explained)
    spoil(explained, "000000", torch.linspace(0, 1, 16 * 64 * 64).reshape(16, 64, 64))
    run("evaluate", *common_options(explained), *SETTINGS)
    after = records(explained)
    assert after["000000"]["map"] != before["000000"]["map"]
    assert after["000000"]["deletion_curve"] != before["000000"]["deletion_curve"]
    assert after["000001"] == before["000001"]


def test_other_metric_options_get_another_folder(explained):
    run("evaluate", *common_options(explained), *SETTINGS)
    run("evaluate", *common_options(explained), *SETTINGS[:2], "metric.steps=2")
    assert len({p.parent.parent for p in (explained / "records").rglob("000000.json")}) == 2


@pytest.mark.parametrize(
    "override", ["metric.steps=0", "metric.steps=2.5", "metric.deletion=white", "metric.ranking=x"]
)
def test_metric_option_out_of_range(explained, override):
    ended = run("evaluate", *common_options(explained), *SETTINGS[:2], override)
    assert ended.status == 1
    assert ended.err.startswith(f"error: {override}: ")


def test_truth_score_of_data_without_truth_says_so(tmp_path, write_video):
    write_video(tmp_path / "videos" / "1.avi", 16)
    options = ["dataset=video_folder", f"dataset.root={quoted(str(tmp_path / 'videos'))}", "target=predicted"]
    run("explain", *common_options(tmp_path), "explainer=random", *options)
    ended = run("evaluate", *common_options(tmp_path), "explainer=random", *options, "metric=truth_score")
    assert ended.status == 1
    assert "metric=truth_score needs the true evidence, which no clip of video_folder has" in ended.err


def test_video_that_failed_or_changed_after_its_map_was_made(tmp_path, write_video):
    for name in ("changed", "good"):
        write_video(tmp_path / "videos" / f"{name}.avi", 16)
    (tmp_path / "videos" / "bad.avi").touch()
    options = ["dataset=video_folder", f"dataset.root={quoted(str(tmp_path / 'videos'))}", "target=predicted"]
    options += ["explainer=random", "metric.steps=4"]
    run("explain", *common_options(tmp_path), *options[:-1])
    write_video(tmp_path / "videos" / "changed.avi", 17)
    write_video(tmp_path / "videos" / "late.avi", 16)
    assert run("evaluate", *common_options(tmp_path), *options).status == 3
    assert list(records(tmp_path)) == ["good"]
    reasons = failures(tmp_path)
    assert "has changed since its map was made; run explain again" in reasons["changed"]
    assert reasons["bad"].startswith("it has no map: ")
    assert "zero bytes" in reasons["bad"]
    assert reasons["late"] == "it has no map; run explain again"
