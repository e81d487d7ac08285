"""The clips of a report."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from aosa import SaliencyMap
from aosa.config import compose
from aosa.errors import VideoError
from aosa.experiment import gallery as page
from aosa.experiment.gallery import gallery
from aosa.experiment.grid import Experiment
from aosa.report.html import write_report
from tests.running import run

SIZE = (4, 8, 8)


def ramp() -> torch.Tensor:
    return torch.arange(4 * 8 * 8, dtype=torch.float32).view(SIZE)


def disagreement(maps: list[Tensor]) -> float | None:
    return page.disagreement([SaliencyMap(values, 0) for values in maps])


def test_disagreement_of_maps_that_rank_alike_against_or_apart():
    assert disagreement([ramp(), ramp().sqrt(), ramp() * 3 - 1]) == pytest.approx(0)
    assert disagreement([ramp(), -ramp()]) == pytest.approx(2)
    # Pairs: 1, −1, −1.
    assert disagreement([ramp(), ramp() + 1, -ramp()]) == pytest.approx(1 - (1 - 1 - 1) / 3)
    noise = torch.rand((16, 56, 56), generator=torch.Generator().manual_seed(0))
    assert disagreement([noise, noise.roll(1, 2).flip(0)]) == pytest.approx(1, abs=0.1)


def test_disagreement_needs_two_maps_that_say_something():
    assert disagreement([]) is None
    assert disagreement([ramp()]) is None
    assert disagreement([ramp(), torch.ones(SIZE)]) is None
    assert disagreement([ramp(), torch.ones(SIZE), ramp()]) == pytest.approx(0)


def test_maps_are_compared_on_a_grid():
    fine = torch.zeros(8, 28, 28)
    fine[:, :14] = 1
    # Noise finer than the grid's cells goes away in their means.
    noisy = fine.repeat_interleave(4, 1).repeat_interleave(4, 2)
    noisy[:, ::2] += 5
    noisy[:, 1::2] -= 5
    smooth = fine.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert disagreement([noisy, smooth]) == pytest.approx(0, abs=1e-3)


@pytest.fixture
def explained(tmp_path):
    """An experiment of two explainers, of which one lacks the map of the second of four clips."""
    config = compose("reproduce", ["experiment=demo", "threads=1", "device=cpu", "explainers=[grad_cam,random]"])
    config.output_root = str(tmp_path)
    config.experiment.overrides = ["dataset.size=4"]
    common = [f"output_root={tmp_path}", "threads=1", "device=cpu", "dataset.size=4"]
    for name in ("grad_cam", "random"):
        assert run("explain", *common, f"explainer={name}").status == 0
    laid_out = Experiment(config)
    all_units = laid_out.units
    clips = [e.id for e in all_units[0].job.entries()]
    all_units[0].job.maps.file(clips[1]).unlink()
    return laid_out, clips


@pytest.mark.parametrize("wanted", [0, 1, 3, 9])
def test_clips_with_all_maps_come_first(explained, tmp_path, wanted):
    experiment, clips = explained
    experiment.options["gallery"] = wanted
    entries = list(gallery(experiment, None, (), tmp_path / "report"))
    assert len(entries) == min(wanted, 4)
    partial = [e for e in entries if e["clip"] == clips[1]]
    assert [[i["explainer"] for i in e["items"]] for e in partial] == [["random"]] * (wanted > 3)
    assert all(len(e["items"]) == 2 for e in entries if e["clip"] != clips[1])


def test_media_are_whole_and_the_original_is_there_once(explained, tmp_path):
    experiment, clips = explained
    experiment.options["gallery"] = 4
    out = tmp_path / "report"
    entries = list(gallery(experiment, None, (), out))
    write_report(out, title="t", tables=[], gallery=entries)  # every file is there
    originals = {p: p.stat().st_ino for p in (out / "media" / "originals").iterdir()}
    assert len(originals) == 4 * 2
    list(gallery(experiment, None, (), out))  # as of another model that sees the same frames
    assert {p: p.stat().st_ino for p in (out / "media" / "originals").iterdir()} == originals
    entry = next(e for e in entries if e["clip"] == clips[0])
    clip = experiment.units[0].job.load(experiment.units[0].job.entries()[0])
    assert entry["size"] == clip.size
    for video in (entry["original"]["video"], entry["items"][0]["video"]):
        with av.open(str(out / video)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            assert (len(frames), container.streams.video[0].average_rate) == (clip.size[0], entry["fps"])
        if video == entry["original"]["video"]:
            small = np.array(frames)[:, 2::4, 2::4].astype(int)
            assert np.abs(small - clip.frames.numpy()).mean() < 8
    # Random maps tell nothing of where explainers disagree, and here but one is left.
    assert {e["disagreement"] for e in entries} == {None}


def test_an_unreadable_clip_is_passed_over(explained, tmp_path, monkeypatch):
    experiment, clips = explained
    experiment.options["gallery"] = 4
    load = experiment.units[0].job.load

    def broken(entry):
        if entry.id == clips[0]:
            raise VideoError("gone")
        return load(entry)

    monkeypatch.setattr(experiment.units[0].job, "load", broken)
    entries = list(gallery(experiment, None, (), tmp_path / "report"))
    assert sorted(e["clip"] for e in entries) == sorted(clips[1:])
