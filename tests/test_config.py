"""The configs are the registry: each is named as its class, lists all options, composes, and builds."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from aosa.cli import STAGES
from aosa.clip import InputSpec
from aosa.config import build, compose, config_dir
from aosa.data.base import VideoDataset
from aosa.engine.accuracy import Accuracy
from aosa.errors import ConfigError
from aosa.experiment.grid import Experiment
from aosa.explainers.base import Explainer
from aosa.fields import Part
from aosa.metrics.base import Metric
from aosa.models import VideoModel, load_model
from tests.running import NETWORK, own_configs

GROUPS = ("dataset", "model", "explainer", "metric")


def names(group: str) -> list[str]:
    return sorted(p.stem for p in (config_dir() / group).glob("*.yaml"))


def composed(group: str, name: str):
    return compose("evaluate", [f"{group}={name}", "checkpoint=random", "device=cpu"])[group]


def options(target: str) -> set[str]:
    try:
        thing = get_class(target)
    except ValueError:
        thing = get_method(target)
    return set(inspect.signature(thing).parameters)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_composes(stage):
    config = compose(stage)
    assert OmegaConf.to_container(config, resolve=True)
    assert {"data_root", "output_root", "seed", "limit", "device"} <= set(config)


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in GROUPS for n in names(g)])
def test_every_option_is_listed_and_nothing_else(group, name):
    config = composed(group, name)
    unlisted = {
        "model": {
            "hint",
            "new_head",  # for the trainer alone: a head drawn at random explains nothing
            *("layout", "output", "output_layout"),  # for networks of users' own (docs/extending.md)
        }
    }
    assert set(config) - {"_target_"} <= options(config._target_) | {"hint"}
    assert options(config._target_) - set(config) <= unlisted.get(group, set())
    if group == "model":
        for part in ("network", "spec"):
            assert set(config[part]) - {"_target_"} == options(config[part]._target_)


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in ("dataset", "explainer", "metric") for n in names(g)])
def test_file_module_and_class_have_one_name(group, name):
    own = yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text())
    target = composed(group, name)._target_
    cls = get_class(target)
    if "_target_" in own:
        assert cls.__name__.lower() == name.replace("_", "")
        assert cls.__module__.rpartition(".")[2] == name
    else:
        # A variant inherits, and its name begins with its parent's.
        parent = own["defaults"][0]
        assert name.startswith(f"{parent}_")
        assert set(own) - {"defaults"} <= set(composed(group, parent))


@pytest.mark.parametrize("name", names("explainer"))
def test_explainer_builds_with_the_options_of_its_config(name):
    config = composed("explainer", name)
    explainer = build(config)
    assert isinstance(explainer, Explainer)
    given = OmegaConf.to_container(config, resolve=True)
    options = {k: v.spelled() if isinstance(v, Part) else v for k, v in explainer.options().items()}
    assert options == {k: v for k, v in given.items() if k != "_target_"}
    assert set(options) <= set(explainer.identity())


@pytest.mark.parametrize("name", names("metric"))
def test_metric_builds(name):
    explainer = ["explainer=step"] if name == "preservation_ratio" else []  # one that learns masks
    metric = build(compose("evaluate", [f"metric={name}", *explainer]).metric)
    assert isinstance(metric, Metric)
    assert metric.columns
    assert set(metric.columns.values()) <= {"higher", "lower"}


@pytest.mark.parametrize("name", names("model"))
def test_model_builds_with_random_weights(name, monkeypatch):
    monkeypatch.setattr("aosa.models.settle", lambda network, spec, layout: None)  # no forward pass is needed here
    model = build(composed("model", name))
    assert isinstance(model, VideoModel)
    assert isinstance(model.spec, InputSpec)
    assert model.name == name
    assert model.target_layers
    for layer in model.target_layers:
        model.module(layer)
    assert len(model.class_names) == model.network.num_classes


def test_random_weights_are_the_same_each_time():
    assert load_model("r3d_tiny", checkpoint="random").digest() == load_model("r3d_tiny", checkpoint="random").digest()


def ucf101(root: Path) -> None:
    (root / "ucf101" / "UCF-101" / "Archery").mkdir(parents=True)
    (root / "ucf101" / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi").touch()
    lists = root / "ucf101" / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n")
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    (lists / "trainlist01.txt").write_text("")


@pytest.mark.parametrize("name", ["moving_shapes", "ucf101", "video_folder"])
def test_dataset_builds(tmp_path, name):
    ucf101(tmp_path)
    (tmp_path / "videos" / "a").mkdir(parents=True)
    (tmp_path / "videos" / "a" / "1.mp4").touch()
    config = compose("prepare", [f"dataset={name}", f"data_root='{tmp_path}'"])
    dataset = build(config.dataset)
    assert isinstance(dataset, VideoDataset)
    assert dataset.name == name
    assert len(dataset) == (300 if name == "moving_shapes" else 1)


@pytest.mark.parametrize("name", [n for n in names("dataset") if n != "moving_shapes"])  # made on the fly
def test_dataset_that_is_not_there_names_the_key(tmp_path, name):
    config = compose("prepare", [f"dataset={name}", f"data_root='{tmp_path / 'gone'}'"])
    with pytest.raises(ConfigError, match=r"dataset\.(root|annotations)=.*gone"):
        build(config.dataset)


@pytest.mark.slow
@pytest.mark.parametrize("name", names("experiment"))
def test_experiment_composes_and_its_parts_build(name):
    config = compose("reproduce", [f"experiment={name}", "checkpoint=random"])
    assert config.experiment.name == name
    experiment = Experiment(config)
    assert experiment.sites
    for site in experiment.sites:
        assert isinstance(site.accuracy, Accuracy)
    for unit in experiment.units:
        assert isinstance(unit.job.explainer, Explainer)
        for metric in unit.metrics:
            assert isinstance(unit.metric(metric), Metric)


def test_what_the_interpolations_give_reaches_the_parts():
    config = compose("explain", ["explainer=random", "seed=7", "precision=bf16", "data_root=/d", "model=i3d"])
    assert config.explainer.seed == 7
    assert config.model.precision == "bf16"
    assert config.model.weights.startswith("/d/")


def test_own_configs_are_found_in_a_folder_of_any_name(tmp_path, monkeypatch):
    folder = tmp_path / "my (configs), [1]"
    folder.mkdir()
    configs = own_configs(folder)
    monkeypatch.syspath_prepend(str(folder))
    model = build(compose("explain", ["model=own_net"], [str(configs)]).model)
    assert model.name == "own_net"
    assert type(model.network).__module__ == "own_network"
    assert "class Net" in NETWORK


def test_build_names_the_part_that_an_option_is_wrong_of():
    config = compose("explain", ["+explainer.strid=3"])
    with pytest.raises(ConfigError, match=r"there is no key explainer\.strid; did you mean stride\?"):
        build(config.explainer)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("explainer.stride=null", "explainer.stride=null: give a whole number"),
        ("model.spec.frames=null", "model.spec.frames=null: give a whole number"),
    ],
)
def test_null_is_refused_where_an_option_needs_a_value(override, message):
    config = compose("explain", ["explainer=aosa", override])
    with pytest.raises(ConfigError, match=message):
        build(config[override.partition(".")[0]])
    assert build(compose("explain", ["explainer=aosa", "explainer.temporal_stride=null"]).explainer)
