"""Tables from records: whole and in part, class by class and video by video, and where a cell comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from aosa import load_map, save_map
from aosa.config import quoted
from tests.running import Ended, common_options, own_configs, run, snapshot

CLAIMS = """
claims:
  - {text: The gradient beats chance, column: truth, best: grad_cam, than: [random]}
  - {text: Chance beats the gradient, column: truth, better: [random, grad_cam], model: own_net}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with the user's network, config, and an experiment that claims something."""
    folder = tmp_path_factory.mktemp("home")
    configs = own_configs(folder)
    text = (configs / "experiment" / "own.yaml").read_text().replace("gallery: 2", "gallery: 1")
    text = text.replace("[deletion_insertion, spatial_pointing, truth_score]", "[spatial_pointing, truth_score]")
    (configs / "experiment" / "own.yaml").write_text(text + CLAIMS)
    return folder


@pytest.fixture(scope="module")
def stage(home):
    """Runs a stage with the user's network importable and their configs given."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(home))

    def call(name: str, *more: str) -> Ended:
        return run(name, "--config-dir", str(home / "configs"), *common_options(home / "out"), "experiment=own", *more)

    yield call
    patch.undo()


@pytest.fixture(scope="module")
def out(home, stage) -> Path:
    """Where the results of the whole experiment lie."""
    ended = stage("reproduce")
    assert ended.status == 0, ended.err
    return home / "out"


def test_writes_every_form_of_the_table(out):
    found = {p.name for p in (out / "own").iterdir() if p.is_file()}
    table = {f"own{suffix}" for suffix in (".md", ".tex", ".csv", ".html", ".png", ".pdf", "_pairs.csv")}
    assert found == {*table, "own_verdicts.csv", "own_verdicts.tex", "scores.csv"}
    pairs = pd.read_csv(out / "own" / "own_pairs.csv")
    values = pd.read_csv(out / "own" / "own.csv").set_index(["explainer", "column"])["ours"]
    assert list(pairs["column"]) == ["spt", "truth"]
    for pair in pairs.to_dict("records"):
        assert (pair["first"], pair["second"], pair["n"]) == ("grad_cam", "random", 6)
        difference = values["grad_cam", pair["column"]] - values["random", pair["column"]]
        assert pair["difference"] == pytest.approx(difference, abs=1e-5)


def test_verdicts_are_beside_the_table_and_in_the_report(out):
    verdicts = pd.read_csv(out / "own" / "own_verdicts.csv")
    assert list(verdicts["claim"]) == ["The gradient beats chance", "Chance beats the gradient"]
    pair = pd.read_csv(out / "own" / "own_pairs.csv").query("column == 'truth'").iloc[0]
    expected = ["undecided"] * 2
    if pair["adjusted"] < 0.05:
        expected = ["holds", "does not hold"] if pair["difference"] > 0 else ["does not hold", "holds"]
    assert list(verdicts["verdict"]) == expected
    assert set(verdicts["n"]) == {6}
    assert f"| The gradient beats chance | own\\_net on Moving shapes | {expected[0]} |" in (
        out / "own" / "own.md"
    ).read_text(encoding="utf-8")
    latex = (out / "own" / "own_verdicts.tex").read_text(encoding="utf-8")
    assert rf"The gradient beats chance & own\_net on Moving shapes & {expected[0]} & 6 & " in latex
    assert "<td>The gradient beats chance</td>" in (out / "own" / "report" / "index.html").read_text(encoding="utf-8")


def test_a_part_does_not_take_the_place_of_the_whole(out, stage):
    before = snapshot(out / "own", "")
    for option, name in (("explainers=[random]", "own-random"), ("limit=3", "own-limit3")):
        assert stage("tabulate", option).status == 0
        assert {p.name for p in (out / name).iterdir()} >= {"own.md", "own.csv", "scores.csv"}
    assert set(pd.read_csv(out / "own-limit3" / "own.csv")["n"]) == {3}
    assert stage("tabulate", "explainers=[random,grad_cam]").status == 0  # all there are, in another order
    assert snapshot(out / "own", "") == before
    assert {p.name for p in out.iterdir()} >= {"own", "own-random", "own-limit3"}


def test_class_by_class(out, stage):
    ended = stage("tabulate", "breakdown=class")
    assert ended.status == 0, ended.err
    table = pd.read_csv(out / "own" / "own_by_class.csv")
    scores = pd.read_csv(out / "own" / "scores.csv")
    for row in table.query("column == 'truth'").to_dict("records"):
        mine = scores[(scores["column"] == "truth") & (scores["explainer"] == row["explainer"])]
        mine = mine[mine["class_name"] == row["part"].removeprefix("class ")]
        assert (row["ours"], row["n"]) == (pytest.approx(mine["value"].mean(), rel=1e-5), len(mine))
    assert set(table["part"]) == {f"class {name}" for name in scores["class_name"]}
    assert "own\\_net on Moving shapes, class " in (out / "own" / "own_by_class.md").read_text(encoding="utf-8")


def test_video_by_video(out, stage):
    assert stage("tabulate", "breakdown=video").status == 0
    wide = pd.read_csv(out / "own" / "own_by_video.csv").query("column == 'truth'").set_index("clip")
    scores = pd.read_csv(out / "own" / "scores.csv").query("column == 'truth'")
    long = scores.pivot(index="clip", columns="explainer", values="value")
    assert len(wide) == 6
    for clip, row in long.iterrows():
        assert tuple(wide.loc[clip, ["grad_cam", "random"]]) == pytest.approx((row["grad_cam"], row["random"]))
        assert wide.loc[clip, "spread"] == pytest.approx(abs(row["grad_cam"] - row["random"]))


@pytest.mark.parametrize("cell", ["grad_cam/truth", "moving_shapes/own_net/grad_cam/truth"])
def test_a_cell_says_where_it_comes_from(out, stage, cell):
    before = snapshot(out, "")
    ended = stage("tabulate", f"explain_cell={cell}")
    assert ended.status == 0, ended.err
    value = pd.read_csv(out / "own" / "own.csv").set_index(["explainer", "column"])["ours"]["grad_cam", "truth"]
    assert f"{value:.3f} ±" in ended.out
    (maps,) = (out / "maps" / "moving_shapes" / "own_net").glob("grad_cam-*")
    (records,) = (out / "records" / "moving_shapes" / "own_net" / maps.name).glob("truth_score-*")
    for text in (f"maps: {maps}\n", f"records: {records}\n", "  6 by aosa ", ", commit ", ", torch ", "relu: false"):
        assert text in ended.out, text
    assert (
        "  python scripts/evaluate.py dataset=moving_shapes model=own_net explainer=grad_cam metric=truth_sc"
        in ended.out
    )
    scores = pd.read_csv(out / "own" / "scores.csv").query("column == 'truth' and explainer == 'grad_cam'")
    listed = ended.out.partition("clip,value,")[2].splitlines()[1:]
    found = {line.split(",")[0]: float(line.split(",")[1]) for line in listed if line}
    assert found == pytest.approx(dict(zip(scores["clip"], scores["value"], strict=True)))
    assert snapshot(out, "") == before


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("grad_cam", "give explainer/column, or dataset/model/explainer/column"),
        ("gradcam/truth", "there is no such cell; choose one of moving_shapes/own_net/grad_cam/spt"),
        ("grad_cam/deletion", "there is no such cell; choose one of moving_shapes/own_net/grad_cam/spt"),
        ("ucf101/own_net/grad_cam/truth", "there is no such cell"),
    ],
)
def test_a_cell_that_there_is_not(stage, cell, message):
    ended = stage("tabulate", f"explain_cell={cell}")
    assert ended.status == 1
    assert ended.err.startswith(f"error: explain_cell={cell}: {message}")


def test_a_cell_of_several_networks_must_name_its_own(home, stage):
    text = (home / "configs" / "experiment" / "own.yaml").read_text().replace("[own_net]", "[own_net, r3d_tiny]")
    (home / "configs" / "experiment" / "two.yaml").write_text(text)
    ended = stage("tabulate", "experiment=two", "explain_cell=random/truth")
    assert ended.status == 1
    assert "there are several such cells; choose one of moving_shapes/own_net/random/truth, moving_s" in ended.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("breakdown=group", "breakdown=group: choose one of null, class, video"),
        ("experiment.columns=[truht]", "the metrics of own give no truht; did you mean truth?"),
        (
            "experiment.claims=[{text: t, column: truth, best: gradcam}]",
            "experiment.claims[0].best: there is no explainer gradcam",
        ),
    ],
)
def test_refuses(out, stage, option, message):
    ended = stage("tabulate", option)
    assert ended.status == 1
    assert message in ended.err


def test_claims_are_checked_before_any_work(stage, tmp_path):
    root = f"output_root={quoted(str(tmp_path))}"
    ended = stage("reproduce", "experiment.claims=[{text: t, column: truth, bset: aosa}]", root)
    assert ended.status == 1
    assert "experiment.claims[0]: there is no key bset; did you mean best?" in ended.err
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


def test_without_records_it_says_what_to_run(tmp_path):
    ended = run("tabulate", *common_options(tmp_path), "experiment=demo")
    assert ended.status == 1
    assert "there are no records for experiment demo with these options" in ended.err
    assert "python scripts/reproduce.py experiment=demo" in ended.err
    assert not (tmp_path / "demo").exists()


def test_experiment_that_does_not_exist(tmp_path):
    ended = run("tabulate", *common_options(tmp_path), "experiment=dmo")
    assert ended.status == 1
    assert ended.err.startswith("error: there is no experiment=dmo; did you mean experiment=demo?\n  choices: ")


DAMAGES = {
    "records/*/*/grad_cam-*/truth_score-*": [
        lambda record: {k: v for k, v in record.items() if k != "truth"},
        lambda record: {**record, "truth": "0.5"},
        lambda record: {**record, "truth": True},
        lambda record: {**record, "target": 17},
        lambda record: {**record, "clip": "another"},
        lambda record: [record],
    ],
    "records/*/*/random-*/spatial_pointing-*": [
        lambda record: {**record, "spt": float("nan")},
        lambda record: {**record, "frames": None},
        lambda record: {**record, "group": 5},
        lambda record: {**record, "label": "1"},
        lambda record: {},
        lambda record: None,
    ],
    "maps/*/*/random-*": [lambda note: {"clip": note["clip"], "stage": "explain"}] * 2,
}


def test_what_is_damaged_is_named_with_what_makes_it_again_and_then_is_made_again(out, stage):
    before = snapshot(out / "maps", ".b2nd") | snapshot(out / "records", ".json")
    table, damaged = (out / "own" / "own.csv").read_bytes(), []
    for pattern, damages in DAMAGES.items():
        (folder,) = out.glob(pattern)
        files = sorted(folder.rglob("*.json")) or [p.with_suffix(".failure") for p in sorted(folder.rglob("*.b2nd"))]
        for file, damage in zip(files, damages, strict=False):
            known = json.loads(file.read_text()) if file.exists() else {"clip": file.stem}
            file.write_text(json.dumps(damage(known)))
            damaged.append(file)
    file = sorted(out.glob("maps/*/*/grad_cam-*/*/*.b2nd"))[3]
    saliency, meta = load_map(file)
    save_map(file, saliency.with_values(saliency.values[:2]), meta)
    damaged.append(file)
    ended = stage("tabulate")
    assert ended.status == 1
    assert ended.err.startswith(f"error: {len(damaged)} stored results cannot be used:\n")
    lines, commands = ended.err.split("these commands make them again:\n")
    assert {line.split(": ")[0].strip() for line in lines.splitlines()[1:]} == {str(file) for file in damaged}
    place = "dataset=moving_shapes model=own_net"
    assert [c.partition(" dataset.size")[0].strip() for c in commands.splitlines()] == [
        f"python scripts/explain.py {place} explainer=grad_cam",
        f"python scripts/evaluate.py {place} explainer=grad_cam metric=truth_score",
        f"python scripts/explain.py {place} explainer=random",
        f"python scripts/evaluate.py {place} explainer=random metric=spatial_pointing",
    ]
    assert stage("reproduce").status == 0
    assert snapshot(out / "maps", ".b2nd") | snapshot(out / "records", ".json") == before
    assert (out / "own" / "own.csv").read_bytes() == table
