"""Every key of every config against values that it cannot have: one message that names the key, or a right use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from aosa.cli import STAGES
from aosa.config import build, check, compose, config_dir, plain
from aosa.data.base import VideoDataset
from aosa.errors import ConfigError, MissingDataError
from aosa.experiment import grid
from aosa.experiment.grid import Experiment
from aosa.explainers.base import Explainer
from aosa.metrics.base import Metric
from aosa.models import VideoModel
from aosa.stages import benchmark, reproduce, train
from aosa.stages.keys import check_common
from aosa.tracking.dashboards import Untracked

# What no key takes.
NEVER = [math.nan, math.inf, -math.inf, 10**30, {"_target_": "os.system", "command": "exit 3"}, [[math.nan]]]
# What some take: each is refused by its name, or used.
SOMETIMES = [-1, 0, 3, 0.5, 3.0, True, "3", "", "unknown", "../../evil", "a\0b", None, [], [1], ["a", "a"], {"a": 1}]
KINDS = {
    "dataset": VideoDataset,
    "model": VideoModel,
    "explainer": Explainer,
    "metric": (Metric,),
    "tracking": Untracked,
}
# Where only their types are looked at: files, networks and packages of their own are needed to build them.
UNBUILT = ("model", "tracking")


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted keys below a node that hold a plain value, a list or null."""
    for key in node:
        below = node._get_node(key)
        if isinstance(below, DictConfig) and not below._is_interpolation() and not below._is_none():
            yield from leaves(below, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def changed(config: DictConfig, key: str, value: Any) -> DictConfig:
    """A copy with another value."""
    copy = config.copy()
    with open_dict(copy):
        OmegaConf.update(copy, key, value, merge=False)
    return copy


def judge(config: DictConfig, key: str, use: Callable[[DictConfig], object], said: str = "") -> None:
    """Each wrong value of a key is refused by a message that names it, or used without another error."""
    for value in (*NEVER, *SOMETIMES):
        message = None
        try:
            use(changed(config, key, value))
        except ConfigError as error:
            message = str(error)
        except Exception as error:
            pytest.fail(f"{key}={value!r}: {type(error).__name__}: {error}")
        if message is None:
            assert value not in NEVER, f"{key}={value!r} passes"
        else:
            assert (said or key) in message, f"{key}={value!r}: {message}"


def names(group: str) -> list[str]:
    """Those that do not inherit from another."""
    files = sorted((config_dir() / group).glob("*.yaml"))
    return [p.stem for p in files if "_target_" in p.read_text()]


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in KINDS for n in names(g)])
def test_part(group, name):
    explainer = ["explainer=step"] if name == "preservation_ratio" else []
    whole = compose("evaluate", [f"{group}={name}", *explainer])
    config = OmegaConf.create({group: plain(whole[group])})

    def use(config: DictConfig) -> None:
        if group == "model" and config.model.spec is not None:
            check(config.model, VideoModel)
            build(config.model.spec)
        elif group == "dataset":
            with suppress(MissingDataError):  # options are checked before the data is looked for
                build(config.dataset, VideoDataset)
        elif group in UNBUILT:
            extra = {"output_root": "out"} if group == "tracking" else {}
            check(config[group], KINDS[group], **extra)
        else:
            build(config[group], KINDS[group])

    for key in leaves(config[group], f"{group}."):
        _, _, inner = key.partition(".")
        # A part within a part names its keys as it does by itself.
        judge(config, key, use, said=inner if inner.partition(".")[0] in KINDS else "")


@pytest.mark.parametrize("stage", STAGES)
def test_key_of_a_script(stage, monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    config = compose(stage)

    def use(config: DictConfig) -> None:
        check_common(config)
        if stage == "train":
            train._check(config)
        if stage == "benchmark":
            benchmark._wanted(config)

    parts = (*KINDS, "experiment", "accuracy")
    for key in leaves(config):
        # What a part of train may say is for the data set to know.
        if key.partition(".")[0] not in parts and not key.startswith("train.parts."):
            judge(config, key, use)


GRID = ("dataset", "models", "explainers", "metrics", "overrides", "explainer_options", "metric_options", "variants")


@pytest.mark.parametrize("key", [*leaves(compose("tabulate").experiment), *(f"grids.0.{key}" for key in GRID)])
def test_key_of_an_experiment(key, monkeypatch):
    once = cache(lambda stage, overrides: compose(stage, overrides))
    monkeypatch.setattr(grid, "compose", lambda stage, overrides: once(stage, tuple(overrides)).copy())
    small = {"dataset": "moving_shapes", "models": ["r3d_tiny"], "explainers": ["random"], "metrics": ["truth_score"]}
    config = changed(compose("reproduce"), "experiment.grids", [small])

    def use(config: DictConfig) -> None:
        reproduce._check(Experiment(config))

    judge(config, f"experiment.{key}", use, said=key.rpartition(".")[2])
