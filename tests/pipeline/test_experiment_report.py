"""The page of an experiment."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from aosa.clip import Clip
from aosa.data.base import Entry
from aosa.engine.job import Job
from aosa.errors import VideoError
from aosa.experiment.collect import Results
from aosa.experiment.report import _curves
from tests.running import common_options, own_configs, run


def reproduced(folder: Path, monkeypatch, **changes) -> Path:
    """The report of the user's own experiment, changed."""
    configs = own_configs(folder)
    monkeypatch.syspath_prepend(str(folder))
    path = configs / "experiment" / "own.yaml"
    experiment = OmegaConf.load(path)
    grid = {"metrics": [], "overrides": ["dataset.size=3"], **changes.pop("grid", {})}
    experiment = OmegaConf.merge(experiment, changes)
    experiment.grids = [{**experiment.grids[0], **grid}]
    OmegaConf.save(experiment, path)
    ended = run("reproduce", "--config-dir", str(configs), *common_options(folder / "out"), "experiment=own")
    assert ended.status == 0, ended.err
    assert f"report: {folder / 'out' / 'own' / 'report' / 'index.html'}" in ended.out
    return folder / "out" / "own" / "report"


def test_pictures_alone_make_a_report_that_can_be_moved(tmp_path, monkeypatch):
    report = reproduced(tmp_path, monkeypatch, figures=[{"kind": "maps"}], gallery=0)
    page = (report / "index.html").read_text()
    pictures = sorted(p.relative_to(report).as_posix() for p in (report / "figures").rglob("*.png"))
    assert len(pictures) == 3
    for picture in pictures:
        assert f'src="{picture}"' in page
        assert (report / picture).with_suffix(".pdf").is_file()
        assert (report / picture).read_bytes() == (report.parent / picture).read_bytes()
    assert "<h3>Maps</h3>" in page
    assert "1 more" in page
    for absent in ("scores", "verdicts", "curves", "gallery"):
        assert f'id="{absent}"' not in page
    assert not (report / "media").exists()


def test_each_kind_of_picture_has_its_heading(tmp_path, monkeypatch):
    figures = [{"kind": "stages"}, {"kind": "maps"}, {"kind": "times"}]
    grid = {
        "metrics": ["sanity"],
        "explainers": ["grad_cam"],
        "overrides": ["dataset.size=1"],
        "metric_options": {"sanity": ["metric.stages=[fc]"]},
    }
    columns = ["spearman", "seconds", "seconds_segmentation", "seconds_inference", "seconds_explanation"]
    report = reproduced(tmp_path, monkeypatch, figures=figures, columns=columns, gallery=1, grid=grid)
    page = (report / "index.html").read_text()
    headings = [page.index(f"<h3>{name}</h3>") for name in ("Weights drawn anew", "Maps", "Where the time goes")]
    assert headings == sorted(headings)
    assert 'id="gallery"' in page
    assert 'id="curves"' not in page


def test_curves_of_a_network_whose_name_holds_a_dot(tmp_path):
    about = {
        "explainer": "aosa",
        "dataset": "d",
        "model": "x3d.s",
        "clip": "c",
        "deletion": [1, 0],
        "insertion": [0, 1],
    }
    assert _curves(Results(pd.DataFrame(), [about], {}), tmp_path) == ["curves-d-x3d.s.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves-d-x3d.s.pdf", "curves-d-x3d.s.png"]


def test_a_video_that_cannot_be_read_any_more_is_in_no_picture(tmp_path, monkeypatch):
    load = Job.load

    def once(job: Job, entry: Entry) -> Clip:
        if entry.id.endswith("000001") and (tmp_path / "out" / "own" / "scores.csv").exists():
            raise VideoError(f"{entry.id}: gone")
        return load(job, entry)

    monkeypatch.setattr(Job, "load", once)
    grid = {"metrics": ["truth_score"]}
    report = reproduced(tmp_path, monkeypatch, figures=[{"kind": "maps"}], gallery=0, grid=grid)
    assert sorted(p.stem for p in (report / "figures").rglob("*.png")) == ["000000", "000002"]
