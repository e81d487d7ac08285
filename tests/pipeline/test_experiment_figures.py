"""The pictures of an experiment."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import open_dict

from aosa.config import compose
from aosa.errors import AosaError, ConfigError
from aosa.experiment import figures
from aosa.experiment.figures import draw, read_figures
from aosa.experiment.grid import Experiment
from aosa.metrics import Sanity
from aosa.report.grids import picture_grid
from aosa.store.maps import MapFolder
from tests.running import run

GRID = {"dataset": "moving_shapes", "models": ["r3d_tiny"], "overrides": ["dataset.size=1"]}


def small(tmp_path, listed, **grid):
    """An experiment on one clip."""
    config = compose("reproduce", ["experiment=demo", "threads=1", "device=cpu"])
    config.output_root = str(tmp_path)
    with open_dict(config):
        config.experiment.figures = listed
        config.experiment.grids = [{**GRID, "metrics": [], **grid}]
    return Experiment(config)


def test_pictures_lie_in_rows_under_their_heads():
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)
    figure = picture_grid({"a": [black, white], "b": [white]}, heads=["x", "y"], notes={"a": ["", "ρ 0.5"]})
    drawn = [[image.get_array().max() for image in axes.images] for axes in figure.axes]
    assert drawn == [[0], [255], [255], []]
    assert [axes.get_title() for axes in figure.axes] == ["x", "y", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["a", "", "b", ""]
    assert figure.axes[1].get_xlabel() == "ρ 0.5"
    with pytest.raises(AosaError, match="no pictures"):
        picture_grid({"a": []})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "mask"}, r"figures\[0\].kind=mask: choose one of .*did you mean masks"),
        ({"kind": "maps", "column": 3}, "there is no key column"),
        ({"kind": "maps", "columns": 0}, r"experiment.figures\[0\].columns=0"),
        ({"kind": "masks"}, "masks are those of AOSA"),
        ({"kind": "stages"}, "needs the metric sanity"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, entry, message):
    experiment = small(tmp_path, [entry], explainers=["aosa", "grad_cam"])
    with pytest.raises(ConfigError, match=message):
        read_figures(experiment)


def test_clips_without_a_map_are_left_out(tmp_path):
    experiment = small(tmp_path, [{"kind": "maps"}], explainers=["grad_cam"])
    assert draw(experiment, None) == []


def test_stages_are_kept_and_drawn_again_when_the_map_changes(tmp_path, monkeypatch):
    options = {"sanity": ["metric.stages=[fc]"]}
    experiment = small(
        tmp_path, [{"kind": "stages"}], explainers=["grad_cam"], metrics=["sanity"], metric_options=options
    )
    (unit,) = experiment.units
    common = [f"output_root={tmp_path}", "threads=1", "device=cpu", "dataset.size=1", "explainer=grad_cam"]
    assert run("explain", *common).status == 0
    assert run("evaluate", *common, "metric=sanity", "metric.stages=[fc]").status == 0
    (picture,) = draw(experiment, None)
    assert picture.with_suffix(".pdf").exists()
    (name,) = (e.id for e in unit.job.entries())
    kept = MapFolder(unit.records("sanity").path / "stages", {})
    again, meta = kept.load(f"{name}/0")
    assert meta["fingerprint"] == unit.job.maps.digest(name)
    assert not again.values.equal(unit.job.maps.load(name)[0].values)

    def refuse(*_):
        raise AssertionError("made anew")

    monkeypatch.setattr(Sanity, "maps", refuse)
    assert draw(experiment, None) == [picture]
    kept.save(f"{name}/0", again, {"fingerprint": "of another map"})
    with pytest.raises(AssertionError, match="made anew"):
        draw(experiment, None)


def test_masks_hide_the_clip_under_the_mean_colour(tmp_path):
    experiment = small(tmp_path, [{"kind": "masks", "rows": 2, "columns": 3}], explainers=["aosa"])
    common = [f"output_root={tmp_path}", "threads=1", "device=cpu", "dataset.size=1"]
    assert run("explain", *common).status == 0
    drawn = []
    whole = figures.picture_grid

    def note(rows, **options):
        drawn.append(rows)
        return whole(rows, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "picture_grid", note)
        (picture,) = draw(experiment, None)
    assert picture.name.endswith("-aosa.png")
    ((frames, *hidden),) = (list(rows.values()) for rows in drawn)
    assert len(hidden) == 2
    grey = round(0.45 * 255)
    for row in hidden:
        for frame, original in zip(row, frames, strict=True):
            changed = (frame != original).any(axis=2)
            assert 0.02 < changed.mean() < 0.5  # K = 3: four boxes of 16 pixels on 64
            assert (frame[changed] == grey).all()
