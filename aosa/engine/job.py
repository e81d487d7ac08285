"""What a config describes: a place (data set × model), a job there (an explainer), and where its results lie."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from aosa.clip import Clip
from aosa.config import build, plain
from aosa.data.base import Entry, VideoDataset
from aosa.data.choose import limited
from aosa.errors import ConfigError, VideoError
from aosa.explainers.base import Explainer
from aosa.memory import is_out_of_memory
from aosa.metrics.base import Metric
from aosa.models.base import PLAIN_CALL, VideoModel
from aosa.options import check_name
from aosa.schema import SHA256, TEXT, Kind, index, optional
from aosa.store.folders import RecordFolder, digest
from aosa.store.maps import MapFolder


def choice(config: DictConfig, group: str) -> str:
    """The config name chosen for a group ("aosa_single"): its ``name`` key, or what Hydra's command line chose."""
    named = config[group].get("name")
    if named is None:
        named = OmegaConf.select(config, f"choices.{group}") or HydraConfig.get().runtime.choices[group]
        check_name(group, named)
    check_name(f"{group}.name", named)
    return str(named)


class Loaded:
    """The data sets and models of one run: lists and weights are read once, whoever asks for them."""

    def __init__(self) -> None:
        self._datasets: dict[str, VideoDataset] = {}
        self._models: dict[str, VideoModel] = {}

    def dataset(self, config: DictConfig) -> VideoDataset:
        """The data set of ``config.dataset``."""
        key = repr(plain(config.dataset))
        if key not in self._datasets:
            self._datasets[key] = build(config.dataset, VideoDataset)
        return self._datasets[key]

    def model(self, config: DictConfig) -> VideoModel:
        """The model of ``config.model``, after its trial pass."""
        key = repr(plain(config.model))
        if key not in self._models:
            model: VideoModel = build(config.model, VideoModel)
            model.trial()
            self._models[key] = model
        return self._models[key]


@dataclass
class Place:
    """One data set × model: its videos and their labels.

    Built from a composed config; nothing is loaded before it is asked for.
    """

    config: DictConfig
    loaded: Loaded = field(default_factory=Loaded)

    @cached_property
    def dataset(self) -> VideoDataset:
        return self.loaded.dataset(self.config)

    @cached_property
    def model(self) -> VideoModel:
        return self.loaded.model(self.config)

    @property
    def title(self) -> str:
        """Model / data set."""
        return f"{self.model.name} / {self.dataset.name}"

    @property
    def model_identity(self) -> dict[str, object]:
        """The model's own identity, and its config but for what that knows better (weights, names) and what changes
        no map."""
        known = ("device", "batch_size", "checkpoint", "weights", "weights_key", "class_names", "hint", *PLAIN_CALL)
        options = OmegaConf.to_container(self.config.model, resolve=True)
        assert isinstance(options, dict)
        return {**self.model.identity(), "options": _values({k: v for k, v in options.items() if k not in known})}

    @property
    def record_schema(self) -> dict[str, Kind]:
        """What records of each kind hold of their clip."""
        return {
            "clip": TEXT,
            "group": optional(TEXT),
            "class_name": optional(TEXT),
            "label": optional(self.class_index),
        }

    @property
    def class_index(self) -> Kind:
        """What an index of a class must be."""
        names = self.model.class_names
        return index(None if names is None else len(names))

    def videos(self) -> list[Entry]:
        """The videos to work on, cut to `limit`."""
        return limited(self.dataset.entries, self.config.limit)

    def load(self, entry: Entry) -> Clip:
        """Decode an entry and give it its label among the model's classes (None when it has none there)."""
        try:
            clip = self.dataset.load(entry, self.model.spec)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise VideoError(f"{entry.id}: there is not the memory to read it") from None
        clip.label = self.label(clip.class_name)
        return clip

    def label(self, class_name: str | None) -> int | None:
        """Index among the model's classes of a class of the data set; None when it is none of them."""
        names = self.model.class_names or []
        name = None if class_name is None else model_class(self.dataset, class_name)
        return names.index(name) if name in names else None


@dataclass
class Job(Place):
    """A place × explainer: the class that is explained of each video, and where the results lie."""

    @cached_property
    def explainer(self) -> Explainer:
        return build(self.config.explainer, Explainer)

    @cached_property
    def explainer_name(self) -> str:
        return choice(self.config, "explainer")

    @property
    def title(self) -> str:
        """Explainer / model / data set."""
        return f"{self.explainer_name} / {super().title}"

    @cached_property
    def identity(self) -> dict[str, object]:
        """All that changes a map, but for the clip's own content, which each map holds."""
        return {
            "dataset": self.dataset.identity(),
            "model": self.model_identity,
            "explainer": self.explainer.identity(),
            "target": str(self.config.target),
        }

    @cached_property
    def maps(self) -> MapFolder:
        name = f"{self.explainer_name}-{digest(self.identity)}"
        spec = self.model.spec
        path = Path(self.config.output_root) / "maps" / self.dataset.name / self.model.name / name
        return MapFolder(path, self.identity, (spec.frames, *spec.size), self.model.class_names)

    def records(self, metric: Metric, metric_name: str) -> RecordFolder:
        """Where the records of a metric on these maps lie."""
        identity = metric.identity()
        path = Path(self.config.output_root) / "records" / self.dataset.name / self.model.name / self.maps.path.name
        name = f"{metric_name}-{digest(identity)}"
        schema = {**self.record_schema, "map": SHA256, **metric.schema(), "target": self.class_index}
        return RecordFolder(path / name, {**self.identity, "metric": identity}, schema)

    def entries(self) -> list[Entry]:
        """The videos to work on, cut to `limit`.

        Raises:
            ConfigError: target=label, and a video has no class or one that is none of the model's; or a target
                that is none of its classes.
        """
        entries = self.videos()
        if self.config.target == "label":
            self._check_labels(entries)
        else:
            self.fixed_target  # noqa: B018  checked before any work
        return entries

    def _check_labels(self, entries: list[Entry]) -> None:
        model, unknown = self.model, []
        bare = [e.id for e in entries if e.class_name is None]
        if bare:
            raise ConfigError(
                f"target=label: {len(bare)} videos of {self.dataset.name} have no class ({bare[0]!r} …); use "
                f"target=predicted, or a class's index or name"
            )
        for name in sorted({str(e.class_name) for e in entries}):
            try:
                model.class_index(model_class(self.dataset, name))
            except ConfigError as error:
                unknown.append((name, error))
        if unknown:
            listed = ", ".join(n for n, _ in unknown[:5]) + (" …" if len(unknown) > 5 else "")
            raise ConfigError(f"{len(unknown)} classes of {self.dataset.name} ({listed}): {unknown[0][1]}")

    def target(self, clip: Clip) -> int:
        """The class to explain, by the rule ``target``: label | predicted | index | class name.

        Raises:
            ConfigError: out of range, an unknown name, or target=label on a clip without one.
        """
        if self.fixed_target is not None:
            return self.model.resolve_target(clip, self.fixed_target)
        if self.config.target == "label":
            if clip.label is None:
                raise ConfigError(f"clip {clip.id!r} has no label that {self.model.name} knows; use target=predicted")
            return clip.label
        with torch.no_grad():
            return int(self.model.logits(clip.tensor(self.model.spec)[None]).argmax())

    @cached_property
    def fixed_target(self) -> int | None:
        """The class to explain when it is the same for all clips; None when each has its own.

        A number is an index, or a class's name where the model has a class of this name and no other at this index;
        ``index:30`` and ``class:30`` say which is meant.

        Raises:
            ConfigError: out of range, an unknown name, or a number that is the index of one class and the name of
                another.
        """
        rule, model = self.config.target, self.model
        if rule in ("label", "predicted"):
            return None
        if isinstance(rule, bool) or not isinstance(rule, int | str):
            raise ConfigError(f"target={rule}: give label, predicted, an index or a class name")
        text, names = str(rule), model.class_names or []
        kind, _, value = text.partition(":")
        if text not in names and kind in ("index", "class"):
            return self._class_at(value) if kind == "index" else self._class_of(value)
        if not re.fullmatch("-?[0-9]+", text):
            return self._class_of(text)
        if text not in names:
            return self._class_at(text)
        named, index = names.index(text), int(text)
        if index != named and 0 <= index < len(names):
            raise ConfigError(
                f"target={text} is the index of class {names[index]!r} and the name of class {named} of model "
                f"{model.name}: give target=index:{text} or target=class:{text}"
            )
        return named

    def _class_at(self, index: str) -> int:
        names = self.model.class_names
        if not re.fullmatch("-?[0-9]+", index):
            raise ConfigError(f"target={self.config.target}: give a whole number after index:")
        if names is not None and not 0 <= int(index) < len(names):
            raise ConfigError(
                f"target={self.config.target} is out of range: model {self.model.name} has classes 0 to "
                f"{len(names) - 1}"
            )
        return int(index)

    def _class_of(self, name: str) -> int:
        names = self.model.class_names
        if names is None or name in names:
            return self.model.class_index(name)
        folded = {n.casefold(): n for n in names}
        close = difflib.get_close_matches(name.casefold(), folded, n=1)
        hint = (
            f"did you mean {folded[close[0]]!r}?"
            if close
            else f"it has {', '.join(names[:10])}" + " …" * (len(names) > 10)
        )
        raise ConfigError(f"target={self.config.target}: model {self.model.name} has no such class; {hint}")


def _values(config: Any) -> Any:
    """A plain config without the paths of its classes: moving a class changes no identity."""
    if isinstance(config, dict):
        return {key: _values(value) for key, value in config.items() if key != "_target_"}
    return [_values(value) for value in config] if isinstance(config, list) else config


def model_class(dataset: VideoDataset, class_name: str) -> str:
    """The model's name of a class, by the data set's class map if it has one."""
    return dataset.model_classes.get(class_name, class_name)


def describe_missing(dataset: VideoDataset) -> str:
    """One line on the listed videos that are not there or were refused; empty when there are none."""
    if not dataset.problems:
        return ""
    listed = len(dataset.entries) + len(dataset.problems)
    return (
        f"{dataset.name}: {len(dataset.problems)} of {listed} listed videos are missing or refused; "
        f"scripts/prepare.py names them"
    )
