"""dry_run of single stages: what would be done is told, and nothing is made."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from aosa.config import quoted
from tests.running import Ended, common_options, run


@pytest.fixture
def dry(tmp_path, monkeypatch):
    """Runs a stage with dry_run=true, which must leave nothing behind but its log."""

    def call(stage: str, *overrides: str) -> Ended:
        before = made(tmp_path)
        ended = run(stage, *common_options(tmp_path / "out"), "dry_run=true", *overrides)
        assert made(tmp_path) == before
        return ended

    return call


def made(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and "logs" not in p.parts]


def test_explain_counts_what_is_not_there(dry, tmp_path):
    options = [*common_options(tmp_path / "out"), "explainer=grad_cam"]
    assert run("explain", *options, "limit=2").status == 0
    ended = dry("explain", "explainer=grad_cam", "limit=5")
    assert ended.status == 0, ended.err
    assert re.search(r"moving_shapes / r3d_tiny / grad_cam +5 +3 +1 f", ended.out)
    assert "in all: 3 maps and 0 records to make" in ended.out


def test_evaluate_counts_records_and_the_maps_they_need(dry):
    ended = dry("evaluate", "explainer=random", "limit=4", "metric=deletion_insertion", "metric.steps=9")
    assert ended.status == 0, ended.err
    assert "in all: 4 maps and 4 records to make\n  forward passes: 84 clips" in ended.out
    alone = dry("accuracy", "limit=4")
    assert re.search(r"moving_shapes / r3d_tiny / accuracy +4 +0 ", alone.out)
    assert "in all: 0 maps and 4 records to make\n  forward passes: 4 clips" in alone.out


def test_a_pair_that_is_not_defined_is_refused(dry):
    ended = dry("explain", "explainer=attention_rollout", "limit=1")
    assert ended.status == 1
    assert "attention" in ended.err


def test_without_the_videos_one_clip_is_planned(dry, tmp_path):
    ended = dry("explain", "dataset=ucf101", "explainer=grad_cam", f"data_root={quoted(str(tmp_path / 'none'))}")
    assert ended.status == 0, ended.err
    assert re.search(r"ucf101 / r3d_tiny / grad_cam +\? +\? +1 f", ended.out)
    assert "no such folder" in ended.out


def test_a_sweep_plans_each_setting_and_writes_no_table(dry):
    ended = dry("sweep", "explainer=grad_cam", "explainer.relu=true,false", "limit=2", "name=x")
    assert ended.status == 0, ended.err
    assert ended.out.count("in all: 2 maps and 2 records to make") == 2
    assert '"explainer.relu":false' in ended.out
    assert '"dry_run"' not in ended.out
    assert dry("sweep", "explainer=grad_cam", "column=nothing", "name=x").status == 1


def test_windows_of_a_video(dry, tmp_path, write_video):
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    video = f"video={quoted(str(write_video(tmp_path / 'clip.avi', frames)))}"
    one = dry("explain_video", video, "explainer=random")
    assert (one.status, "plan: 1 window of clip\n  forward passes: 1\n" in one.out) == (0, True), one.err
    whole = dry("explain_video", video, "explainer=grad_cam", "windows=sliding")
    # 16 frames each, from 0, 8, 16 and 24.
    assert "plan: 4 windows of clip\n  forward passes: 8" in whole.out, whole.err


def test_training(dry):
    ended = dry("train", "limit=100", "train.epochs=3", "train.batch_size=32", "train.clips_per_epoch=70")
    assert ended.status == 0, ended.err
    assert "train: 100 clips, 70 in an epoch, 9 steps of 32 in all\n  val: 100 clips\n  test: 100 clips" in ended.out
    gone = dry("train", "dataset=video_folder", "dataset.root=gone", "checkpoint=none.pth")
    assert gone.status == 0
    assert "train: dataset.root=gone/train: no such folder" in gone.out
    assert "checkpoint=none.pth: no such file" in gone.out
    assert dry("train", "train.lr=-1").status == 1


def test_preparing(dry, tmp_path, write_video):
    for name in ("a", "b", "c"):
        write_video(tmp_path / "clips" / "x" / f"{name}.avi", 4)
    root = f"dataset.root={quoted(str(tmp_path / 'clips'))}"
    options = [o for o in common_options(tmp_path / "out") if o.startswith(("output", "threads"))]
    assert run("prepare", *options, "dataset=video_folder", root, "limit=1").status == 0
    ended = dry("prepare", "dataset=video_folder", root)
    assert ended.status == 0, ended.err
    assert "plan: video_folder has 3 videos, 2 of them to decode\n" in ended.out


def test_downloads(dry, tmp_path):
    data = f"data_root={quoted(str(tmp_path / 'data'))}"
    ended = dry("download", "weights=slowfast_r50_kinetics400", data)
    assert ended.status == 0, ended.err
    assert re.search(r"would fetch https://\S+slowfast\S+ \(.+\) to .+/data/weights/slowfast\S+\.pth\n", ended.out)
    videos = dry("download", "dataset=ucf101", data)
    assert videos.out.count("would fetch https://") == 2
    assert dry("download", "weights=nothing", data).status == 1
