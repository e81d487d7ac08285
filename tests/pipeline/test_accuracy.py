"""Accuracy as a stage: records, resume, the published figure beside it, and the warning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from aosa.config import compose, quoted
from aosa.downloads.table import Published, Weights
from aosa.engine.accuracy import Accuracy
from aosa.engine.job import Place
from aosa.experiment.accuracy import Measured, gate
from tests.running import Ended, common_options, own_configs, run


def folder_of_videos(root: Path, write_video) -> None:
    rng = np.random.default_rng(0)
    for name in ("vertical/1", "vertical/2", "clockwise/3", "unknown/4"):
        write_video(root / "videos" / f"{name}.avi", rng.integers(0, 256, (8, 32, 40, 3), np.uint8))


@pytest.fixture
def evaluate(tmp_path, write_video, monkeypatch):
    """Runs accuracy of a small network on four videos of three classes, one of which it does not know."""
    folder_of_videos(tmp_path, write_video)
    (tmp_path / "home").mkdir()
    configs = own_configs(tmp_path / "home")
    monkeypatch.syspath_prepend(str(tmp_path / "home"))
    options = ["model=own_net", "dataset=video_folder", f"data_root={quoted(str(tmp_path))}"]

    def call(*more: str) -> Ended:
        return run("accuracy", "--config-dir", str(configs), *common_options(tmp_path / "out"), *options, *more)

    call.options = [*common_options(tmp_path / "out"), *options]
    call.configs = str(configs)
    return call


@pytest.fixture
def gate_config(evaluate):
    """The config that an experiment makes of the same."""

    def make(*more: str) -> DictConfig:
        return compose("accuracy", [*evaluate.options, *more], [evaluate.configs])

    return make


@pytest.fixture
def publish(monkeypatch):
    """Makes a figure that of the weights in use."""

    def make(figure: Published, model: str = "own_net") -> None:
        weights = Weights(file="w", model=model, dataset=figure.dataset, num_classes=6, published=figure)
        monkeypatch.setattr("aosa.experiment.accuracy.published_weights", lambda checkpoint: weights)

    return make


KNOWN = "dataset.classes=[clockwise,vertical]"


def records(root: Path) -> dict[str, dict]:
    paths = (root / "out" / "records" / "video_folder" / "own_net").glob("accuracy-*/*/*.json")
    return {f"{p.parent.name}/{p.stem}": json.loads(p.read_text()) for p in paths}


def test_accuracy_needs_no_maps_and_is_that_of_its_records(evaluate, tmp_path):
    ended = evaluate(KNOWN)
    assert ended.status == 0, ended.err
    found = records(tmp_path)
    assert sorted(found) == ["clockwise/3", "vertical/1", "vertical/2"]
    assert {k: r["label"] for k, r in found.items()} == {"clockwise/3": 0, "vertical/1": 3, "vertical/2": 3}
    assert all(r["top1"] == (r["predicted"] == r["label"]) for r in found.values())
    top1, top5 = (np.mean([r[key] for r in found.values()]) for key in ("top1", "top5"))
    assert f"accuracy of own_net on video_folder: top-1 {top1:.3f} [" in ended.out
    assert f"top-5 {top5:.3f} [" in ended.out
    assert "n = 3, 1 clip × 1 crop; no published figure is known" in ended.out
    assert not (tmp_path / "out" / "maps").exists()


def test_again_classifies_only_what_is_new_or_changed(evaluate, tmp_path, write_video, monkeypatch):
    called, original = [], Accuracy.__call__

    def counting(self, model, clips, label):
        called.append(label)
        return original(self, model, clips, label)

    monkeypatch.setattr(Accuracy, "__call__", counting)
    first = evaluate(KNOWN)
    assert called == [0, 3, 3]
    again = evaluate(KNOWN)
    assert called == [0, 3, 3]
    assert again.out == first.out
    before = records(tmp_path)
    write_video(tmp_path / "videos" / "clockwise" / "3.avi", np.full((8, 32, 40, 3), 99, np.uint8))
    evaluate(KNOWN)
    assert called == [0, 3, 3, 0]
    after = records(tmp_path)
    assert after["vertical/1"] == before["vertical/1"]
    assert after["clockwise/3"]["fingerprint"] != before["clockwise/3"]["fingerprint"]
    evaluate(KNOWN, "explainer=random")
    assert len(called) == 4


def test_other_views_are_other_records(evaluate, tmp_path):
    assert evaluate(KNOWN, "accuracy.clips=2", "accuracy.crops=3").status == 0
    assert {r["views"] for r in records(tmp_path).values()} == {6}
    ended = evaluate(KNOWN, "accuracy.clips=all")
    assert "n = 3, all clips × 1 crop" in ended.out
    assert len(list((tmp_path / "out").rglob("accuracy-*/identity.yaml"))) == 2


def test_classes_that_the_model_does_not_know(evaluate, tmp_path):
    ended = evaluate()
    assert ended.status == 0
    assert "n = 3 (1 videos of classes that it does not know left out)" in ended.out
    ended = evaluate("dataset.classes=[unknown]")
    assert ended.status == 1
    assert "none of the 1 videos of video_folder has a class that own_net knows" in ended.err


def test_videos_that_fail_are_listed_and_not_counted(evaluate, tmp_path):
    (tmp_path / "videos" / "vertical" / "2.avi").write_bytes(b"")
    ended = evaluate(KNOWN)
    assert ended.status == 3
    assert "n = 2 (1 videos failed)" in ended.out
    (failures,) = (tmp_path / "out").rglob("failures.csv")
    assert "vertical/2" in failures.read_text()


MAPPED = "dataset.class_map={unknown: clockwise}"  # every video has a class that the model knows


@pytest.mark.parametrize(
    ("about", "options", "said"),
    [
        ({}, [], None),
        ({"sampling": "uniform", "average": "probability"}, ["dataset.interval=1"], None),
        ({"views": "10x3"}, [], "(10x3 views), not like with like: 1x1 views here"),
        ({"protocol": "all frames"}, [], "there: all frames"),
        ({"sampling": "dense"}, [], "accuracy.sampling=uniform here"),
        (
            {"views": "2x1", "sampling": "uniform"},
            ["accuracy.clips=2", "accuracy.sampling=dense"],
            "accuracy.sampling=dense",
        ),
        ({"average": "probability"}, ["accuracy.average=score"], "accuracy.average=score here"),
        ({}, ["model.spec.frames=4"], "model.spec.frames=4 here"),
        ({}, ["+model.spec.resize=squash"], "model.spec.resize=squash here"),
        ({}, ["precision=bf16"], "precision=bf16 here"),
        ({}, ["dataset.window=start"], "another window of frames here"),
        ({}, ["dataset.interval=2", "model.spec.frames=4"], "another window of frames here"),
        ({}, ["limit=2"], "a part of the videos here"),
        ({}, ["dataset.classes=[vertical]"], "a part of the videos here"),
        ({}, ["dataset.class_map=null"], "a part of the videos here"),
    ],
)
def test_published_figure_is_compared_like_with_like(evaluate, publish, about, options, said):
    publish(Published("video_folder", **{"top1": 50.0, "source": "a paper", "top5": 99.0, "views": "1x1", **about}))
    out = evaluate(MAPPED, *options).out
    assert "published 0.500 / 0.990 (" in out
    assert ("not like with like: " in out) == (said is not None)
    assert (said or "views), like with like: ") in out


def test_videos_that_fail_or_are_refused_are_missing_from_the_comparison(evaluate, publish, tmp_path):
    publish(Published("video_folder", top1=50.0, source="a paper", views="1x1"))
    (tmp_path / "videos" / "vertical" / "deeper").mkdir()
    assert ", not like with like: a part of the videos here" in evaluate(MAPPED).out
    (tmp_path / "videos" / "vertical" / "deeper").rmdir()
    assert "views), like with like: " in evaluate(MAPPED).out
    (tmp_path / "videos" / "vertical" / "2.avi").write_bytes(b"")
    assert ", not like with like: a part of the videos here" in evaluate(MAPPED).out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["dataset.per_class=null"], None),
        ([], "a part of the videos here"),
        (["dataset.per_class=2"], "a part of the videos here"),
        (["dataset.per_class=null", "dataset.manifest={root}/chosen.csv"], "a part of the videos here"),
        (["dataset.per_class=null", "dataset.subset=train"], "dataset.subset=train here"),
        (["dataset.per_class=null", "dataset.subset=test"], "dataset.subset=test here, a part of the videos here"),
    ],
)
def test_published_figure_rests_on_all_the_listed_videos(evaluate, publish, tmp_path, options, said):
    publish(Published("kinetics400", top1=50.0, source="a paper", views="1x1"))
    root = tmp_path / "kinetics400"
    root.mkdir()
    (tmp_path / "videos").rename(root / "val")
    rows = [f"vertical,{i},0,10" for i in (1, 2)]
    for subset, more in (("val", []), ("train", []), ("test", ["vertical,9,0,10"])):
        (root / f"{subset}.csv").write_text("\n".join(["label,youtube_id,time_start,time_end", *rows, *more]))
    given = [option.format(root=root) for option in options]
    out = evaluate("dataset=kinetics400", "dataset.folder=val", *given).out
    assert f"not like with like: {said}" in out if said else "views), like with like: " in out


@pytest.mark.parametrize(
    "options",
    [
        ["accuracy.clips=all", "dataset.window=segments"],
        ["accuracy.clips=2", "dataset.window=start"],
        ["accuracy.clips=2", "dataset.window=index", "dataset.index=0"],
    ],
)
def test_views_that_the_window_has_not_are_refused_before_any_work(evaluate, tmp_path, options):
    ended = evaluate(KNOWN, "checkpoint=/none.pth", *options)
    assert ended.status == 1
    assert ended.err.startswith(f"error: {options[0]}")
    assert "window=" in ended.err
    assert not list(tmp_path.rglob("accuracy-*"))


def test_figure_of_another_data_set_is_not_shown(evaluate, publish):
    publish(Published("kinetics400", top1=50.0, source="a paper"))
    assert "no published figure is known" in evaluate(KNOWN).out


@pytest.mark.parametrize(("top1", "warned"), [(70.0, True), (60.0, False)])
def test_gate_warns_when_the_published_figure_is_far(gate_config, publish, monkeypatch, capsys, top1, warned):
    """None of 60 clips is right: by the rule of three the accuracy may be up to 3 / 60."""
    publish(Published("moving_shapes", top1=top1, source="a paper", views="1x1"), "r3d_tiny")
    monkeypatch.setattr(
        Accuracy, "__call__", lambda *_: {"predicted": 0, "top1": 0, "top5": 0, "probability": 0.1, "views": 1}
    )
    assert gate(Place(gate_config("dataset=moving_shapes", "dataset.size=60")), Accuracy(), 0.6) == 0
    out, err = capsys.readouterr()
    assert "top-1 0.000 [0.000, 0.000], top-5 0.000 [0.000, 0.000]; n = 60, 1 clip × 1 crop; published 0." in out
    line = "warning: top-1 of own_net on moving_shapes is 0.000: 0.700 is published, more than 0.6 outside the interval"
    assert (line in err) == warned


def test_gate_goes_on_where_there_is_no_accuracy(gate_config, capsys):
    assert gate(Place(gate_config("dataset.classes=[unknown]")), Accuracy(), 0.1) == 0
    assert "accuracy of own_net on video_folder is not measured: none of the 1 videos" in capsys.readouterr().out


def measured(interval: tuple[float, float], top1: float | None) -> Measured:
    published = None if top1 is None else Published("d", top1=top1, source="s")
    middle = sum(interval) / 2
    return Measured("m", "d", 10, 50, 20, 0, 0, middle, interval, 1.0, (1.0, 1.0), "1 clip × 1 crop", published, [])


NAN = float("nan")


@pytest.mark.parametrize(
    ("interval", "top1", "said"),
    [
        ((0.60, 0.70), 79.0, None),
        ((0.60, 0.70), 81.0, "0.810 is published, more than 0.1 outside the interval"),
        ((0.60, 0.70), 51.0, None),
        ((0.60, 0.70), 49.0, "0.490 is published"),
        ((0.05, 0.20), None, "no better than a guess among 10 classes"),
        ((0.11, 0.20), None, None),
        ((1.0, 1.0), 76.0, None),
        ((1.0, 1.0), 74.0, "0.740 is published"),
        ((NAN, NAN), 50.0, None),
        ((NAN, NAN), None, None),
    ],
)
def test_warning(interval, top1, said):
    warning = measured(interval, top1).warning(0.1)
    assert warning is None if said is None else said in str(warning)
