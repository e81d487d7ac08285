"""The titles of explainers, models, data sets and metrics' columns, read from the classes that configs name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object

from aosa.config import choices, config_file, given_dirs
from aosa.engine.accuracy import Accuracy
from aosa.report.titles import Titles

_GROUPS = ("explainer", "model", "dataset")


def titles() -> Titles:
    """Titles of all that a config is there for, those of ``--config-dir`` included; looked up once each.

    A class says its own by ``title``, and that of a config made from its config by ``titles`` (config name → title).
    What inherits a title from its parent has none of its own: two rows would look alike.
    """
    return _titles(tuple(given_dirs()))


@cache
def _titles(dirs: tuple[Path, ...]) -> Titles:
    return Titles(cache(_of_name), cache(_of_column))


def _of_name(name: str) -> str | None:
    for group in _GROUPS:
        if found := _class_of(group, name):
            thing, own = found
            return vars(thing).get("title") if own else vars(thing).get("titles", {}).get(name)
    return None


def _of_column(name: str) -> str | None:
    if name in Accuracy.titles:
        return Accuracy.titles[name]
    for metric in choices("metric"):
        if (found := _class_of("metric", metric)) and name in (known := getattr(found[0], "titles", {})):
            return str(known[name])
    return None


def _class_of(group: str, name: str) -> tuple[Any, bool] | None:
    """The class that a config makes, and whether the config names it itself; of a model that of its network."""
    path = config_file(group, name)
    if path is None:
        return None
    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    part = config.get("network", config) if group == "model" else config
    if isinstance(part, dict) and "_target_" in part:
        return get_object(part["_target_"]), True
    parents = [p for p in config.get("defaults", []) if isinstance(p, str) and p != "_self_"]
    found = _class_of(group, parents[0]) if parents else None
    return found and (found[0], False)
