"""An experiment from end to end, on a network and an experiment that are not part of the package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aosa.config import quoted
from aosa.experiment.collect import Results, _only_correct
from tests.running import Ended, common_options, own_configs, run, snapshot


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with the user's network, config and experiment."""
    folder = tmp_path_factory.mktemp("home")
    own_configs(folder)
    return folder


@pytest.fixture(scope="module")
def stage(home):
    """Runs a stage with the user's network importable and their configs given."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(home))

    def call(name: str, *more: str) -> Ended:
        return run(name, "--config-dir", str(home / "configs"), *common_options(home / "out"), *more)

    yield call
    patch.undo()


@pytest.fixture(scope="module")
def whole(stage) -> Ended:
    """How the whole experiment ended, run for the first time."""
    ended = stage("reproduce", "experiment=own")
    assert ended.status == 0, ended.err
    return ended


@pytest.fixture(scope="module")
def done(home, whole) -> Path:
    """Results of the whole experiment."""
    return home / "out"


def records(out: Path) -> pd.DataFrame:
    """All records of maps, read without the package."""
    rows = []
    for path in (out / "records").rglob("*.json"):
        if "accuracy-" not in str(path) and not path.name.endswith((".time", ".failure")):
            explainer, metric = (name.rpartition("-")[0] for name in path.relative_to(out).parts[3:5])
            rows.append({"explainer": explainer, "metric": metric, **json.loads(path.read_text())})
    return pd.DataFrame(rows)


def test_every_clip_is_explained_and_scored(done):
    counts = records(done).groupby(["explainer", "metric"]).size()
    assert counts.to_dict() == {
        (e, m): 6 for e in ("grad_cam", "random") for m in ("deletion_insertion", "spatial_pointing", "truth_score")
    }


def test_numbers_of_the_table_are_those_of_the_records(done):
    table = pd.read_csv(done / "own" / "own.csv")
    found = records(done)
    for explainer, mine in found.groupby("explainer"):
        expected = {column: mine[column].mean() for column in ("deletion", "insertion", "overall", "truth")}
        expected["spt"] = mine["hits"].sum() / mine["frames"].sum()
        for column, value in expected.items():
            (row,) = table[(table["explainer"] == explainer) & (table["column"] == column)].to_dict("records")
            assert row["ours"] == pytest.approx(value, abs=1e-6)
            assert row["n"] == 6
            assert row["low"] <= row["ours"] <= row["high"]


def test_pointing_is_averaged_over_frames_classes_and_videos(done, stage):
    columns = "experiment.columns=[spt,spt_class,spt_video]"
    assert stage("tabulate", "experiment=own", "experiment.name=pointing", columns).status == 0
    table = pd.read_csv(done / "pointing" / "pointing.csv").set_index(["explainer", "column"])["ours"]
    for explainer, mine in records(done).query("metric == 'spatial_pointing'").groupby("explainer"):
        classes = mine.groupby("class_name")[["hits", "frames"]].sum()
        assert table[explainer, "spt"] == pytest.approx(mine["hits"].sum() / mine["frames"].sum(), abs=1e-6)
        assert table[explainer, "spt_class"] == pytest.approx((classes["hits"] / classes["frames"]).mean(), abs=1e-6)
        assert table[explainer, "spt_video"] == pytest.approx((mine["hits"] / mine["frames"]).mean(), abs=1e-6)


def test_only_correctly_classified_clips(done, stage):
    scored = records(done).query("metric == 'deletion_insertion' and explainer == 'random'")
    right = scored[scored["predicted"] == scored["label"]]
    assert 0 < len(right) < len(scored)
    assert stage("tabulate", "experiment=own", "experiment.name=right", "clips=correct").status == 0
    rows = pd.read_csv(done / "right-correct" / "right.csv").query("explainer == 'random' and column == 'deletion'")
    assert rows["n"].tolist() == [len(right)]
    assert rows["ours"].tolist() == pytest.approx([right["deletion"].mean()], abs=1e-6)
    assert "Only clips that the model classifies correctly" in (done / "right-correct" / "right.md").read_text()
    ended = stage("tabulate", "experiment=own", "clips=some")
    assert ended.status == 1
    assert "clips=some: choose one of all, correct, correct_by_all" in ended.err


def test_clips_that_all_models_classify_correctly():
    """Of each data set its own models; the third clip was scored with one of them alone."""
    rows = [
        ("a", "m", "1", True), ("a", "n", "1", True), ("a", "m", "2", True), ("a", "n", "2", False),
        ("a", "m", "3", True), ("b", "m", "1", True), ("b", "m", "2", None),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["dataset", "model", "clip", "correct"])
    curves = [{"dataset": d, "model": m, "clip": c} for d, m, c, _ in rows]
    kept = {
        by_all: [tuple(c.values()) for c in _only_correct(Results(frame, curves, {}), by_all).curves]
        for by_all in (False, True)
    }
    assert kept[False] == [row[:3] for row in rows if row[3]]
    assert kept[True] == [("a", "m", "1"), ("a", "n", "1"), ("b", "m", "1")]


def test_report_shows_the_table_curves_gallery_and_where_they_come_from(done):
    report = done / "own" / "report"
    page = (report / "index.html").read_text(encoding="utf-8")
    truth = records(done).groupby("explainer")["truth"].mean()
    for explainer in ("grad_cam", "random"):
        assert f"{truth[explainer]:.3f}" in page
    assert "Two explainers of a network of one" in page
    assert "curves-moving_shapes-own_net.png" in page
    assert len(list((report / "media").rglob("*.mp4"))) == 2 * (2 + 1)  # two explainers, and the original
    assert "http://" not in page
    assert "https://" not in page
    for digest in {p.name for p in (done / "maps" / "moving_shapes" / "own_net").iterdir()}:
        assert digest in page


def test_options_of_the_experiment_reach_the_explainer(done):
    (identity,) = (done / "maps").rglob("grad_cam-*/identity.yaml")
    assert "relu: false" in identity.read_text()


def test_again_makes_nothing_anew(done, stage):
    stamps = {p: p.stat().st_mtime_ns for p in done.rglob("*.b2nd")}
    before = snapshot(done, ".b2nd", ".json", "own.md", "own.tex", "own.csv", "scores.csv")
    stamps |= {p: p.stat().st_mtime_ns for p in (done / "records").rglob("0*.json")}
    assert stage("reproduce", "experiment=own").status == 0
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert snapshot(done, ".b2nd", ".json", "own.md", "own.tex", "own.csv", "scores.csv") == before


def test_accuracy_comes_first_and_once(whole, done):
    """Random weights guess: the experiment says so before its first map, and goes on."""
    lines = whole.out.splitlines()
    assert lines[0].startswith("accuracy of own_net on moving_shapes: top-1 ")
    assert sum(line.startswith("accuracy of ") for line in lines) == 1
    hits = [json.loads(p.read_text())["top1"] for p in (done / "records").glob("*/*/accuracy-*/*/*.json")]
    assert len(hits) == 6
    assert f"top-1 {np.mean(hits):.3f} " in lines[0]
    assert "n = 6, 1 clip × 1 crop; no published figure is known" in lines[0]
    assert "no better than a guess among 6 classes" in whole.err


def test_accuracy_is_no_metric_of_a_table(home, stage):
    text = (home / "configs" / "experiment" / "own.yaml").read_text()
    (home / "configs" / "experiment" / "odd.yaml").write_text(text.replace("truth_score]", "accuracy]"))
    ended = stage("reproduce", "experiment=odd")
    assert ended.status == 1
    assert "there is no metric=accuracy" in ended.err


def test_margin_out_of_range(stage):
    ended = stage("reproduce", "experiment=own", "accuracy_margin=10")
    assert (ended.status, ended.err) == (1, "error: accuracy_margin=10: give a number from 0 to 1\n")


def test_tabulate_alone_and_cut_down(done, stage):
    files = ("own/own.md", "own/own.tex", "own/own.csv", "own/scores.csv")
    before = {name: (done / name).read_bytes() for name in files}
    for name in files:
        (done / name).unlink()
    ended = stage("tabulate", "experiment=own")
    assert ended.status == 0, ended.err
    assert {name: (done / name).read_bytes() for name in files} == before
    ended = stage("tabulate", "experiment=own", "explainers=[random]")
    assert "Random" in ended.out
    assert "Grad-CAM" not in ended.out
    stage("tabulate", "experiment=own")


def test_commands_that_are_printed_do_the_same(done, stage):
    ended = stage("reproduce", "experiment=own", "explainers=[grad_cam]")
    (line,) = (line for line in ended.out.splitlines() if line.startswith("python "))
    words = line.removeprefix("python ").split()
    assert words[:5] == [
        "scripts/explain.py", "dataset=moving_shapes", "model=own_net", "explainer=grad_cam", "dataset.size=6"
    ]  # fmt: skip
    before = len(snapshot(done, ".b2nd"))
    assert stage("explain", *(w for w in words[1:] if not w.startswith("output_root="))).status == 0
    assert len(snapshot(done, ".b2nd")) == before


def test_a_part_that_the_experiment_does_not_have(stage):
    ended = stage("reproduce", "experiment=own", "explainers=[gradcam]")
    assert ended.status == 1
    assert (
        ended.err == "error: explainers: gradcam is not part of own; did you mean grad_cam? (it has grad_cam, random)\n"
    )


def test_engine_that_there_is_not(stage):
    ended = stage("reproduce", "experiment=own", "engine=cloud")
    assert ended.status == 1
    assert "engine=cloud: choose one of local" in ended.err


def test_bad_option_of_a_later_explainer_fails_before_any_work(home, stage, tmp_path):
    text = (home / "configs" / "experiment" / "own.yaml").read_text()
    for old, new, message in (
        ("grad_cam: [explainer.relu=false]", "random: [explainer.seed=-1]", "explainer.seed=-1: give a whole number"),
        (
            "grad_cam: [explainer.relu=false]",
            "random: [explainer.sed=1]",
            "no key 'explainer.sed' in the config of explain; did you mean explainer.seed?",
        ),
        ("truth_score]", "truth]", "there is no metric=truth; did you mean metric=truth_score?"),
        ("models: [own_net]", "models: [own_net2]", "there is no model=own_net2; did you mean model=own_net?"),
    ):
        assert old in text
        (home / "configs" / "experiment" / "bad.yaml").write_text(text.replace(old, new))
        ended = stage("reproduce", "experiment=bad", f"output_root={quoted(str(tmp_path))}")
        assert ended.status == 1
        assert message in ended.err
        assert "Traceback" not in ended.err
        assert list(tmp_path.rglob("*.b2nd")) == []


def test_failures_are_in_the_report_and_the_exit_status(home, stage, write_video, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("good", "also good"):
        write_video(tmp_path / "videos" / "vertical" / f"{name}.avi", rng.integers(0, 256, (8, 32, 32, 3), np.uint8))
    (tmp_path / "videos" / "vertical" / "bad.avi").touch()
    text = (home / "configs" / "experiment" / "own.yaml").read_text()
    text = text.replace("dataset: moving_shapes", "dataset: video_folder").replace("[dataset.size=6]", "[]")
    text = text.replace(", spatial_pointing, truth_score]", "]")  # which need boxes and the truth
    text = text.replace(", spatial_pointing, truth_score]", "]").replace("name: own", "name: folder")
    (home / "configs" / "experiment" / "folder.yaml").write_text(text)
    options = [f"data_root={quoted(str(tmp_path))}", f"output_root={quoted(str(tmp_path / 'out'))}"]
    ended = stage("reproduce", "experiment=folder", *options)
    assert ended.status == 3, ended.err
    table = pd.read_csv(tmp_path / "out" / "folder" / "folder.csv")
    assert set(table["n"]) == {2}
    page = (tmp_path / "out" / "folder" / "report" / "index.html").read_text()
    assert "bad.avi: the file is empty (zero bytes)" in page
    assert "Failures (1)" in page  # one video, though two explainers and a metric met it
    assert "own_net on Video folder" in page
    assert str(tmp_path) not in page  # what can be handed on says nothing of this machine


def test_a_table_of_accuracies_has_its_failures_in_the_report(home, stage, write_video, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    write_video(tmp_path / "videos" / "vertical" / "good.avi", noise)
    (tmp_path / "videos" / "vertical" / "bad.avi").touch()
    text = (home / "configs" / "experiment" / "own.yaml").read_text()
    text = text.replace("dataset: moving_shapes", "dataset: video_folder").replace("[dataset.size=6]", "[]")
    text = text.replace("explainers: [grad_cam, random]", "explainers: []").replace("name: own\n", "name: top\n")
    text = re.sub(r"metrics: .*", "metrics: []", re.sub(r"explainer_options: .*", "", text))
    text = text.replace("columns: null", "columns: [top1, top5]")
    (home / "configs" / "experiment" / "top.yaml").write_text(text)
    options = [f"data_root={quoted(str(tmp_path))}", f"output_root={quoted(str(tmp_path / 'out'))}"]
    ended = stage("reproduce", "experiment=top", *options)
    assert ended.status == 3, ended.err
    page = (tmp_path / "out" / "top" / "report" / "index.html").read_text()
    assert "bad.avi: the file is empty (zero bytes)" in page
    assert "Failures (1)" in page
    assert "<td>Network</td>" in page


def test_a_video_that_breaks_later_leaves_the_table(home, stage, write_video, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("first", "second", "third"):
        write_video(tmp_path / "videos" / "vertical" / f"{name}.avi", rng.integers(0, 256, (8, 32, 32, 3), np.uint8))
    text = (home / "configs" / "experiment" / "own.yaml").read_text()
    text = text.replace("dataset: moving_shapes", "dataset: video_folder").replace("[dataset.size=6]", "[]")
    text = text.replace(", spatial_pointing, truth_score]", "]").replace("name: own", "name: folder")
    (home / "configs" / "experiment" / "folder.yaml").write_text(text)
    options = [f"data_root={quoted(str(tmp_path))}", f"output_root={quoted(str(tmp_path / 'out'))}"]
    csv = tmp_path / "out" / "folder" / "folder.csv"
    for spoilt, status, n in ((None, 0, 3), ("second", 3, 2)):
        if spoilt:
            (tmp_path / "videos" / "vertical" / f"{spoilt}.avi").write_bytes(b"")
        assert stage("reproduce", "experiment=folder", *options).status == status
        assert set(pd.read_csv(csv)["n"]) == {n}
    # Taken away, it is no failure of this run any more.
    (tmp_path / "videos" / "vertical" / "second.avi").unlink()
    assert stage("reproduce", "experiment=folder", *options).status == 0
    assert "Failures (0)" in (tmp_path / "out" / "folder" / "report" / "index.html").read_text()
    for path in (tmp_path / "out").rglob("failures.csv"):
        assert path.read_text() == "clip,reason\n"


def test_no_video_that_can_be_used(home, stage, tmp_path):
    (tmp_path / "videos" / "vertical").mkdir(parents=True)
    (tmp_path / "videos" / "vertical" / "bad.avi").touch()
    text = (home / "configs" / "experiment" / "own.yaml").read_text()
    text = text.replace("dataset: moving_shapes", "dataset: video_folder").replace("[dataset.size=6]", "[]")
    text = text.replace(", spatial_pointing, truth_score]", "]")  # which need boxes and the truth
    (home / "configs" / "experiment" / "folder.yaml").write_text(text.replace("name: own", "name: folder"))
    options = [f"data_root={quoted(str(tmp_path))}", f"output_root={quoted(str(tmp_path / 'out'))}"]
    ended = stage("reproduce", "experiment=folder", *options)
    assert ended.status == 1
    assert "Traceback" not in ended.err
    assert "every video failed, the first, 'vertical/bad', since " in ended.err
    assert "bad.avi: the file is empty" in ended.err
