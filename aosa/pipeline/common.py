"""What the stages share: build what the config names, walk over its videos, report."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from tqdm import tqdm

from aosa.clip import Clip
from aosa.config import build, folder_text, plain
from aosa.data.base import Entry, VideoDataset
from aosa.data.choose import limited
from aosa.data.window import WindowOptions
from aosa.errors import AosaError, CheckpointError, ConfigError, VideoError
from aosa.explainers.base import Explainer
from aosa.files import write_csv
from aosa.hints import check_type, fits
from aosa.memory import is_out_of_memory, out_of_memory
from aosa.metrics.base import Metric
from aosa.models.base import MOST_CLIPS, PLAIN_CALL, VideoModel
from aosa.options import LARGEST, as_text, check_choice, check_name, is_whole
from aosa.pipeline.shareable import as_cell
from aosa.pipeline.store import Folder, MapFolder, RecordFolder, digest
from aosa.schema import SHA256, TEXT, Kind, index, optional

FAILED = 3  # exit status: finished, but some videos failed

# The keys of the scripts that stand alone; one name means the same in all of them.
_KEYS: dict[str, Any] = {
    "data_root": str,
    "output_root": str,
    "checkpoint": str | None,
    "device": str,
    "precision": str,
    "batch_size": int | Literal["auto"],
    "seed": int,
    "threads": int | None,
    "limit": int | None,
    "target": int | str,
    "dry_run": bool,
    # tabulate, reproduce
    "models": list[str] | None,
    "explainers": list[str] | None,
    "clips": str,
    "breakdown": str | None,
    "explain_cell": str | None,
    "engine": str,
    "accuracy_margin": float,
    # sweep
    "name": str,
    "column": str,
    # explain_video
    "video": str | None,
    "windows": str,
    "window_stride": int | None,
    "scale": str,
    **{part.name: get_type_hints(WindowOptions)[part.name] for part in fields(WindowOptions)},
    "fps": float | None,
    # prepare
    "workers": int | None,
    # download
    "weights": str | None,
    "table": str | None,
    "list": bool,
    # benchmark
    "what": str | list[str],
    "videos": list[str] | None,
    "repeats": int,
    "stride": int,
    "box": int,
    "neighbours": int,
    "model_repeats": int,
    "reference": str | None,
    "explainer_repeats": int,
    "memory_stride": int,
}

# Of those that all stages have: what would be right, where the type does not say it all, and the range of a number.
_EXPECTED = {
    "target": ("label, predicted, an index or a class name", -LARGEST, LARGEST),
    "limit": ("a whole number of at least 1, or null", 1, LARGEST),
    "threads": ("a whole number from 1 to 1024, or null", 1, 1024),
    "seed": ("a whole number of at least 0", 0, LARGEST),
    "batch_size": (f"auto or a whole number from 1 to {MOST_CLIPS}", 1, MOST_CLIPS),
}

_models: dict[str, VideoModel] = {}
_datasets: dict[str, VideoDataset] = {}


def check_common(config: DictConfig) -> None:
    """Refuse keys of a script of another type, and the common ones out of range, before any work; and set the number of
    threads. Parts that are built (``dataset``, ``model``, …) are checked by `aosa.config.build`.

    Raises:
        ConfigError: naming the key.
    """
    for key in config:
        if key not in _KEYS:
            continue
        value = config[key]
        if isinstance(value, ListConfig | DictConfig):
            value = plain(value)
        if key in _EXPECTED:
            expect, low, high = _EXPECTED[str(key)]
            if not fits(value, _KEYS[str(key)]) or (is_whole(value) and not low <= value <= high):
                raise ConfigError(f"{key}={as_text(value)}: give {expect}")
        check_type(str(key), value, _KEYS[str(key)])
        if value == []:
            raise ConfigError(f"{key}=[]: name at least one")
        if value == "":
            raise ConfigError(f"{key} is empty: give a value")
    for key in ("data_root", "output_root"):
        if key in config:
            folder_text(key, config[key], home=key == "data_root")
    check_choice("", precision=(config.get("precision", "fp32"), ("fp32", "bf16", "fp16")))
    if config.get("threads"):
        torch.set_num_threads(config.threads)


def choice(config: DictConfig, group: str) -> str:
    """The config name chosen for a group ("aosa_single"): its ``name`` key, or what Hydra's command line chose."""
    named = config[group].get("name")
    if named is None:
        named = OmegaConf.select(config, f"choices.{group}") or HydraConfig.get().runtime.choices[group]
        check_name(group, named)
    check_name(f"{group}.name", named)
    return str(named)


@dataclass
class Job:
    """One data set × model × explainer, and where its results lie.

    Built from a composed config; nothing is loaded before it is asked for.
    """

    config: DictConfig

    @cached_property
    def dataset(self) -> VideoDataset:
        key = repr(plain(self.config.dataset))
        if key not in _datasets:
            _datasets[key] = build(self.config.dataset, VideoDataset)
        return _datasets[key]

    @cached_property
    def model(self) -> VideoModel:
        # One model serves all explainers of a run; the weights are read once.
        key = repr(plain(self.config.model))
        if key not in _models:
            _models.clear()
            model: VideoModel = build(self.config.model, VideoModel)
            model.trial()
            _models[key] = model
        return _models[key]

    @cached_property
    def explainer(self) -> Explainer:
        return build(self.config.explainer, Explainer)

    @cached_property
    def explainer_name(self) -> str:
        return choice(self.config, "explainer")

    @property
    def title(self) -> str:
        """Explainer / model / data set."""
        return f"{self.explainer_name} / {self.model.name} / {self.dataset.name}"

    @cached_property
    def identity(self) -> dict[str, object]:
        """All that changes a map, but for the clip's own content, which each map holds."""
        return {
            "dataset": self.dataset.identity(),
            "model": self.model_identity,
            "explainer": self.explainer.identity(),
            "target": str(self.config.target),
        }

    @property
    def model_identity(self) -> dict[str, object]:
        """The model's own identity, and its config but for what that knows better (weights, names) and what changes
        no map."""
        known = ("device", "batch_size", "checkpoint", "weights", "weights_key", "class_names", "hint", *PLAIN_CALL)
        options = OmegaConf.to_container(self.config.model, resolve=True)
        assert isinstance(options, dict)
        return {**self.model.identity(), "options": _values({k: v for k, v in options.items() if k not in known})}

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
        schema = {**self.record_schema, "map": SHA256, **metric.schema(), "target": self._class}
        return RecordFolder(path / name, {**self.identity, "metric": identity}, schema)

    @property
    def record_schema(self) -> dict[str, Kind]:
        """What records of each kind hold of their clip."""
        return {"clip": TEXT, "group": optional(TEXT), "class_name": optional(TEXT), "label": optional(self._class)}

    @property
    def _class(self) -> Kind:
        names = self.model.class_names
        return index(None if names is None else len(names))

    def entries(self) -> list[Entry]:
        """The videos to work on, cut to `limit`.

        Raises:
            ConfigError: target=label, and a video has no class or one that is none of the model's; or a target
                that is none of its classes.
        """
        entries = limited(self.dataset.entries, self.config.limit)
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
                model.class_index(mapped(self.dataset, name))
            except ConfigError as error:
                unknown.append((name, error))
        if unknown:
            listed = ", ".join(n for n, _ in unknown[:5]) + (" …" if len(unknown) > 5 else "")
            raise ConfigError(f"{len(unknown)} classes of {self.dataset.name} ({listed}): {unknown[0][1]}")

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
        name = None if class_name is None else mapped(self.dataset, class_name)
        return names.index(name) if name in names else None

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


def mapped(dataset: VideoDataset, class_name: str) -> str:
    """The model's name of a class, by the data set's class map if it has one."""
    return dataset.model_classes.get(class_name, class_name)


def absent(dataset: VideoDataset) -> str:
    """One line on the listed videos that are not there or were refused; empty when there are none."""
    if not dataset.problems:
        return ""
    listed = len(dataset.entries) + len(dataset.problems)
    return (
        f"{dataset.name}: {len(dataset.problems)} of {listed} listed videos are missing or refused; "
        f"scripts/prepare.py names them"
    )


def walk(
    entries: list[Entry],
    folder: Folder,
    stage: str,
    title: str,
    done: Callable[[Entry], bool],
    do: Callable[[Entry], tuple[Callable[[], None], Mapping[str, Any]]],
    about: dict[str, Any],
    log: Callable[..., None],
) -> int:
    """Do every entry that is not done, with a progress bar; go on past those that fail, and list them.

    A failure is kept with its reason in the folder's ``failures.csv``; the exit status says so. What stops
    the whole run is an error of config or checkpoint, too little memory, or a result that cannot be written.
    `do` gives back what saves the result, and more to keep with its time, as `about` (what ran) is; the time is saved
    first, so that a result that is there has its time. `log` is told the progress after each clip that was done or
    failed now.

    Returns:
        exit status: 0, or `FAILED`.

    Raises:
        AosaError: too little memory, or the folder was removed meanwhile.
    """
    failed = made = 0
    bar = tqdm(entries, desc=title, unit="clip", mininterval=0.5, dynamic_ncols=True)
    for entry in bar:
        start = time.perf_counter()
        try:
            already = done(entry) and folder.has_times(entry.id)
            if not already:
                save, more = do(entry)
                seconds = round(time.perf_counter() - start, 6)
                folder.time(entry.id, seconds=seconds, **about, **more)
                save()
        except (ConfigError, CheckpointError):
            bar.close()
            raise
        except Exception as error:
            own = isinstance(error, OSError) and str(error.filename).startswith(str(folder.path))
            if own or isinstance(error, BrokenPipeError):
                bar.close()
                raise
            if memory := out_of_memory(error, about.get("batch_size")):
                bar.close()
                raise memory from None
            failed += 1
            reason = str(error) if isinstance(error, AosaError) else f"{type(error).__name__}: {error}"
            folder.fail(entry.id, stage, str(as_cell(reason)))
            log(made=made, failed=failed)
            tqdm.write(f"failed: {entry.id}: {reason}", file=sys.stderr)
            continue
        folder.forgive(entry.id)
        if not already:
            made += 1
            log(made=made, failed=failed, seconds=seconds)
            folder.check()
    folder.check()
    write_failures(folder, entries)
    if failed:
        print(f"{failed} of {len(entries)} videos failed; reasons in {folder.path / 'failures.csv'}", file=sys.stderr)
    return FAILED if failed else 0


def write_failures(folder: Folder, entries: list[Entry]) -> None:
    """Gather the failures of these videos into the folder's ``failures.csv`` (clip, reason)."""
    failed = [{"clip": e.id, "reason": reason} for e in entries if (reason := folder.failure(e.id))]
    write_csv(folder.path / "failures.csv", ["clip", "reason"], failed)


def environment(model: VideoModel) -> dict[str, Any]:
    """What runs a job: versions, commit, device, batch size, precision, threads."""
    import aosa

    return {
        "aosa": aosa.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device),
        "batch_size": model.batch_size,
        "precision": model.precision,
        "threads": torch.get_num_threads(),
    }


@cache
def commit() -> str:
    """The commit of the checkout that runs, with a mark when files were changed since; "unknown" for a wheel."""
    here = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return result.stdout.strip()

    try:
        changed = " (with uncommitted changes)" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + changed if (here / ".git").exists() else "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
