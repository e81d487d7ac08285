"""Every experiment, from its config to its table and figures: with its own explainers, metrics and options, on small
networks and clips under the names of its models and data sets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml
from omegaconf import DictConfig, open_dict

from aosa import cli
from aosa import config as configs
from aosa.config import compose, config_dir
from aosa.errors import ConfigError
from aosa.experiment.figures import read_figures
from aosa.experiment.grid import Experiment
from aosa.experiment.table import claims, table_columns
from aosa.report.tables import paper_values
from tests.running import Ended, common_options, run

EXPERIMENTS = sorted(p.stem for p in (config_dir() / "experiment").glob("*.yaml"))
PAPERS = [name for name in EXPERIMENTS if name not in ("demo", "demo_step", "real_i3d", "truth")]
# Their tables on other data and another network.
STAND_INS = tuple(name for name in PAPERS if name.startswith(("demo_", "i3d_")))

# Two clips of moving shapes under another data set's name and options, and a network with the layers that are named.
CODE = """
from torch import nn

from aosa.data.moving_shapes import MovingShapes


class Clips(MovingShapes):
    def __init__(self, name, **options):
        super().__init__(size=2)
        self.name = name


class Net(nn.Module):
    def __init__(self, names=("layer1", "layer2", "layer3", "layer4", "fc"), **options):
        super().__init__()
        self.num_classes = 6
        self.names = names
        for name, channels in zip(names[:4], (3, 4, 4, 4)):
            setattr(self, name, nn.Conv3d(channels, 4, 3, padding=1, stride=(1, 2, 2) if channels == 3 else 1))
        setattr(self, names[4], nn.Linear(4, 6))

    def forward(self, x):
        for name in self.names[:4]:
            x = self.get_submodule(name)(x).relu()
        return self.get_submodule(self.names[4])(x.mean((2, 3, 4)))
"""
# What makes an explainer slow, smaller.
SMALL = {"iterations": 2, "samples": 12, "segments": 12, "grid": [2, 2, 2]}
TIMESFORMER = {
    "_target_": "aosa.models.timesformer.TimeSformer",
    **{"num_classes": 6, "frames": 8, "size": [32, 32], "patch": 16, "width": 12, "heads": 2, "depth": 1},
}
# Experiments whose rows run in another one as well.
PART = {
    **{name: ["aosa", "random"] for name in ("table2", "table4", "wacv_table2")},
    **{name: ["osa", "aosa"] for name in ("fig5", "i3d_fig5", "demo_fig5")},
    **{name: ["grad_cam", "aosa", "random"] for name in ("demo_table1", "demo_table4")},
    "demo_table5": ["grad_cam", "aosa"],
    "revex": ["lime3d", "rise3d", "sos"],
    "step_table3": ["saliency_tubes", "step"],
    "step_table4": ["ep3d_evenly", "ep3d_gaussian"],
    "table3": ["smooth_grad", "aosa_approx"],
}
MODELS = (
    "r3d50",
    "r2plus1d50",
    "slowfast_r50",
    "timesformer",
    "r2plus1d18",
    "vgg16_lstm",
    "tanet_r50",
    "tpn_r50",
    "i3d",
)
I3D_LAYERS = ["conv3d_1a_7x7", "mixed_3b", "mixed_4b", "mixed_5c", "logits"]


@cache
def experiment(name: str) -> DictConfig:
    """The config of an experiment as the package has it."""
    return compose("reproduce", [f"experiment={name}"])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with the package's configs, whose models and data sets are small ones."""
    home = tmp_path_factory.mktemp("small")
    (home / "small_parts.py").write_text(CODE)
    shutil.copytree(config_dir(), home / "configs")
    for path in (home / "configs" / "model").glob("*.yaml"):
        text = yaml.safe_load(path.read_text())
        if path.stem in MODELS:
            text["network"] = TIMESFORMER if path.stem == "timesformer" else {"_target_": "small_parts.Net"}
            text["spec"] |= {"frames": 8, "interval": 1, "size": [32, 32], "short": None}
            layer = {"timesformer": "blocks.0.spatial.norm", "i3d": "mixed_5c"}.get(path.stem, "layer4")
            if path.stem == "i3d":  # whose experiments have boxes of 32 pixels
                text["network"]["names"] = I3D_LAYERS
                text["spec"]["size"] = [64, 64]
            text |= {"class_names": "moving_shapes", "target_layer": layer}
            path.write_text(yaml.safe_dump(text))
    for path in (home / "configs" / "dataset").glob("*.yaml"):
        if path.stem != "moving_shapes":
            text = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump(text | {"_target_": "small_parts.Clips"}, sort_keys=False))
    for path in (home / "configs" / "explainer").glob("*.yaml"):
        text = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(text | {k: v for k, v in SMALL.items() if k in text}, sort_keys=False))
    places = home / "configs" / "defaults" / "places.yaml"
    for path in (places, *(home / "configs" / "experiment").glob("*.yaml")):
        text = path.read_text()
        head = text.splitlines(keepends=True)[0]  # may say the package
        path.write_text(head + yaml.safe_dump(without_large_parts(yaml.safe_load(text)), sort_keys=False))
    return home


def without_large_parts(node):
    """An experiment or its places, without what their own networks alone take."""
    if isinstance(node, list):
        return [without_large_parts(part) for part in node]
    if not isinstance(node, dict):
        return node
    found = {key: without_large_parts(part) for key, part in node.items()}
    if "explainers" in found:
        found["explainers"] = [e for e in found["explainers"] if e != "eb_r"]  # which serves VGG16-LSTM alone
    if "overrides" in found:
        large = ("model.network", "model.class_names", "target=")
        found["overrides"] = [o for o in found["overrides"] if not o.startswith(large)]
    return found


@pytest.fixture
def reproduce(small, monkeypatch, tmp_path) -> Callable[..., Ended]:
    """Runs an experiment with these configs, results below `tmp_path`."""
    monkeypatch.syspath_prepend(str(small))
    for module in (cli, configs):
        monkeypatch.setattr(module, "config_dir", lambda: small / "configs")

    def call(name: str, *more: str, stage: str = "reproduce") -> Ended:
        return run(stage, f"experiment={name}", *common_options(tmp_path), "experiment.gallery=0", *more)

    return call


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_composes(name):
    """One unit of each grid as the package has it; claims and figures name what is there."""
    composed = experiment(name)
    laid_out = Experiment(composed)
    firsts = list({(u.dataset, u.model): u for u in laid_out.units}.values())
    for unit in firsts:
        assert unit.config("explain").dataset.get("name", "moving_shapes") == unit.dataset
    laid_out.units = firsts
    claims(laid_out, list(table_columns(laid_out)))
    read_figures(laid_out)


@pytest.mark.parametrize("name", [n for n in PAPERS if not n.startswith("fig")])
def test_each_printed_row_is_run(name):
    """The rows that the papers print are those of the experiment; two of Table VII cannot be told."""
    composed = experiment(name)
    laid_out = Experiment(composed)
    ours = {(u.dataset, u.model, u.explainer, u.variant) for u in laid_out.units}
    if laid_out.has_accuracy:
        ours |= {(site.dataset, site.model, "", "") for site in laid_out.sites}
    if composed.experiment.paper:
        printed = paper_values(composed.experiment.paper, composed.experiment.table)
        theirs = set(printed[["dataset", "model", "explainer", "variant"]].itertuples(index=False, name=None))
        assert {row for row in theirs - ours if row[3] not in ("row 2", "row 3")} == set()
        assert set(printed["column"]) <= set(composed.experiment.columns)
    else:
        assert name == "revex" or name in STAND_INS


@pytest.mark.parametrize("name", STAND_INS)
def test_stand_ins_follow_the_table_they_stand_for(name):
    """The same explainers, columns and claims, but for what is named after a network or stride."""
    mine, theirs = experiment(name).experiment, experiment(name.partition("_")[2]).experiment
    assert mine.based_on == theirs.name
    assert set(mine.explainers) == set(theirs.explainers)
    assert (mine.columns, mine.figures) == (theirs.columns, theirs.figures)

    def without_strides(claims):
        bare = [{k: str(v) for k, v in c.items() if k in ("column", "best", "better")} for c in claims]
        return [re.sub(r" \([a-z0-9= ]*stride[^)]*\)", "", str(claim)) for claim in bare]

    assert set(without_strides(mine.claims)) <= set(without_strides(theirs.claims))


@pytest.mark.parametrize("name", PAPERS)
def test_runs_from_end_to_end(name, reproduce, tmp_path):
    composed = experiment(name)
    model = composed.experiment.grids[0].models[0]
    part = [f"explainers=[{','.join(PART[name])}]"] if name in PART else []
    ended = reproduce(name, f"models=[{model}]", *part, *["limit=2"] * name.startswith("demo_"))
    assert ended.status == 0, ended.err
    (out,) = tmp_path.glob(f"{name}*")
    pictures = list((out / "figures").rglob("*.png"))
    assert len(pictures) == len(list((out / "figures").rglob("*.pdf")))
    assert bool(pictures) == bool(composed.experiment.get("figures"))
    if name.endswith(("fig4", "fig5", "fig7")):
        assert "| " not in ended.out
        return
    table = pd.read_csv(out / f"{name}.csv", keep_default_na=False)
    ran = table[table["ours"] != ""]
    laid_out = Experiment(composed)
    mine = [u for u in laid_out.units if u.model == model and u.explainer in PART.get(name, [u.explainer])]
    rows = set(ran[["dataset", "explainer", "variant"]].itertuples(index=False, name=None))
    judged = {g.dataset for g in composed.experiment.grids if model in g.models} if laid_out.has_accuracy else ()
    assert rows == {(u.dataset, u.explainer, u.variant) for u in mine} | {(dataset, "", "") for dataset in judged}
    assert set(ran["column"]) == set(composed.experiment.columns)
    assert set(ran["n"]) == {2}
    assert (out / f"{name}_verdicts.csv").exists() == bool(composed.experiment.get("claims"))


def test_cells_of_variants_times_and_accuracies_are_traced(reproduce):
    assert reproduce("wacv_table3", "explainers=[aosa]").status == 0
    traced = reproduce("wacv_table3", 'explain_cell="aosa (stride=4 box=8)/seconds"', stage="tabulate")
    assert traced.status == 0, traced.err
    assert "explainer.stride=4 explainer.box=8" in traced.out
    assert "| AOSA (stride=4 box=8) | 2.548 |" in traced.out  # as printed in the paper
    assert "maps: " in traced.out
    assert "records: " not in traced.out
    assert reproduce("step_table1", "models=[vgg16_lstm]").status == 0
    traced = reproduce("step_table1", "explain_cell=epic_action/vgg16_lstm//top1", stage="tabulate")
    assert traced.status == 0, traced.err
    assert "scripts/accuracy.py dataset=epic_action model=vgg16_lstm" in traced.out
    assert "maps: " not in traced.out
    assert "records: " in traced.out


def test_pictures_alone_make_no_table(reproduce):
    ended = reproduce("fig4", stage="tabulate")
    assert ended.status == 1
    assert "experiment fig4 has pictures and no table; reproduce draws them" in ended.err


@pytest.mark.parametrize("key", ["variants", "explainer_options"])
def test_options_of_an_explainer_that_is_not_there_are_refused(key):
    composed = compose("reproduce", ["experiment=demo"])
    with open_dict(composed):
        composed.experiment.grids[0][key] = {"aosa_aprox": {} if key == "variants" else []}
    with pytest.raises(ConfigError, match="aosa_aprox is none of the explainers; did you mean aosa_approx"):
        Experiment(composed)


def test_accuracy_goes_without_explainers_and_metrics_with():
    for parts, message in (
        ({"metrics": ["deletion_insertion"]}, "give explainers, or experiment.columns="),
        ({"columns": ["top1"], "metrics": ["deletion_insertion"]}, "metrics need maps, and the grid has no explainers"),
    ):
        composed = compose("reproduce", ["experiment=demo"])
        with open_dict(composed):
            composed.experiment.update({"explainers": [], "metrics": [], **parts})
            composed.experiment.grids = [{"dataset": "moving_shapes", "models": ["r3d_tiny"]}]
        with pytest.raises(ConfigError, match=message):
            Experiment(composed)


def derived(**changes) -> DictConfig:
    """An experiment made from Table I, with R3D-50 alone."""
    composed = compose("reproduce", ["experiment=table1"])
    with open_dict(composed):
        composed.experiment.update({"name": "mine", "based_on": "table1", **changes})
    return composed


R3D50 = {"dataset": "ucf101", "models": ["r3d50"]}
UNPRINTED = {"paper": None, "table": None}
COLUMNS = {"deletion": "lower", "insertion": "higher", "overall": "higher"}


@pytest.mark.parametrize(
    ("changes", "columns", "absent"),
    [
        ({"grids": [R3D50]}, COLUMNS, ""),
        ({"grids": [R3D50]}, {"overall": "higher"}, "insertion|deletion"),
        ({"grids": [{**R3D50, "models": ["r2plus1d50"]}]}, COLUMNS, "Grad-CAM does"),
        (
            {"grids": [R3D50], "paper": None, "table": None, "explainers": ["aosa", "aosa_approx"]},
            COLUMNS,
            "best|conv|Grad",
        ),
        ({"grids": [{"dataset": "moving_shapes", "models": ["r3d_tiny"]}]}, COLUMNS, ""),
    ],
)
def test_an_experiment_has_the_claims_of_its_base_but_for_those_about_what_is_absent(changes, columns, absent):
    whole = [claim.text for claim in claims(Experiment(experiment("table1")), list(COLUMNS))]
    kept = [claim.text for claim in claims(Experiment(derived(**changes)), list(columns))]
    assert kept == [text for text in whole if not absent or not re.search(absent, text)]


def test_a_misspelt_claim_is_refused_in_an_experiment_that_is_based_on_another():
    claim = {"text": "t", "column": "overall", "better": ["aosa", "smoothgrad"]}
    with pytest.raises(
        ConfigError, match=r"claims\[0\].better: there is no explainer smoothgrad.*did you mean smooth_grad"
    ):
        claims(Experiment(derived(claims=[claim])), list(COLUMNS))
    claim = {"text": "t", "column": "overall", "best": "aosa", "model": "r3d5"}
    with pytest.raises(ConfigError, match=r"claims\[0\].model: there is no model r3d5 .*did you mean r3d50"):
        claims(
            Experiment(derived(grids=[{"dataset": "moving_shapes", "models": ["r3d_tiny"]}], claims=[claim])),
            list(COLUMNS),
        )


def test_without_a_base_a_claim_about_what_is_absent_is_refused():
    with pytest.raises(ConfigError, match="model: there is no model r3d50"):
        claims(Experiment(derived(based_on=None, grids=[{**R3D50, "models": ["r2plus1d50"]}])), list(COLUMNS))


def test_options_come_from_place_experiment_and_grid():
    more = ["explainer.neighbours=5"]
    small = {"explainer_options": {"aosa": more}, "overrides": ["dataset.per_class=1"], "explainers": ["aosa", "osa"]}
    kinetics = {"dataset": "kinetics700", "models": ["r3d50"], **small}
    found = Experiment(derived(grids=[R3D50, kinetics], explainer_options={"aosa": ["explainer.seed=1"]})).units
    place = ["model.weights=${data_root}/weights/r3d50_K_200ep.pth", "model.network.num_classes=700"]
    place += ["model.class_names=null", "target=predicted", "dataset.per_class=1"]
    wanted = {
        ("ucf101", "aosa"): ["model.weights=${data_root}/weights/save_200.pth", "explainer.seed=1"],
        ("kinetics700", "aosa"): [*place, "explainer.stride=4", "explainer.box=8", "explainer.seed=1", *more],
        ("kinetics700", "osa"): place,
    }
    assert {(u.dataset, u.explainer): u.overrides for u in found}.items() >= wanted.items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"places": {"ucf11": {}}}, r"experiment.places.ucf11: ucf11 is none of the datasets; did you mean ucf101"),
        ({"places": {"ucf101": {"r3d5": {}}}}, r"places.ucf101.r3d5: r3d5 is none of the models; did you mean r3d50"),
        (
            {"places": {"ucf101": {"r3d50": {"explainer_options": {"aosaa": []}}}}},
            r"places.ucf101.r3d50.explainer_options.aosaa: aosaa is none of the explainers; did you mean aosa",
        ),
        ({"based_on": "tabel1"}, r"there is no experiment=tabel1; did you mean experiment=table1"),
        ({"based_on": "mine"}, r"experiment.based_on=mine: an experiment cannot be based on itself"),
        ({"explainer_options": {"lime3d": []}}, r"explainer_options.lime3d: lime3d is none of the explainers"),
        ({"overrides": ["model=r3d50"]}, r"experiment.overrides: model=r3d50: choose it by experiment.grids, models"),
    ],
)
def test_wrong_names_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Experiment(derived(**changes))


def test_options_of_what_only_the_base_has_are_left_out():
    osa = {"osa": ["explainer.samples=2"]}
    (unit,) = Experiment(derived(grids=[R3D50], explainers=["random"], explainer_options=osa)).units
    assert unit.overrides == ["model.weights=${data_root}/weights/save_200.pth"]
