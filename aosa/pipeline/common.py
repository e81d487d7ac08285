"""What the stages share: build what the config names, walk over its videos, report."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from aosa.clip import Clip
from aosa.config import build
from aosa.data.base import Entry, VideoDataset
from aosa.errors import CheckpointError, ConfigError
from aosa.explainers.base import Explainer
from aosa.files import write_atomic
from aosa.metrics.base import Metric
from aosa.models.base import VideoModel
from aosa.options import check_range
from aosa.pipeline.store import Folder, MapFolder, RecordFolder, canonical, digest

FAILED = 3  # exit status: finished, but some videos failed

_models: dict[str, VideoModel] = {}
_datasets: dict[str, VideoDataset] = {}


def check_common(config: DictConfig) -> None:
    """Refuse common keys out of range before any work, and set the number of threads.

    Raises:
        ConfigError: naming the key.
    """
    inf = float("inf")
    for key, low in (("limit", 1), ("threads", 1), ("seed", 0)):
        value = config.get(key)
        if value is not None and not isinstance(value, int):
            raise ConfigError(f"{key}={value}: give a whole number of at least {low}, or null")
        check_range("config", **{key: (value, low, inf)})
    if config.get("threads"):
        torch.set_num_threads(config.threads)


def choice(config: DictConfig, group: str) -> str:
    """The config name chosen for a group ("aosa_single"): its ``name`` key, or what Hydra's command line chose."""
    named = config[group].get("name")
    if named:
        return str(named)
    return str(OmegaConf.select(config, f"choices.{group}") or HydraConfig.get().runtime.choices[group])


@dataclass
class Job:
    """One data set × model × explainer, and where its results lie.

    Built from a composed config; nothing is loaded before it is asked for.
    """

    config: DictConfig

    @cached_property
    def dataset(self) -> VideoDataset:
        key = canonical(OmegaConf.to_container(self.config.dataset, resolve=True))
        if key not in _datasets:
            _datasets[key] = build(self.config.dataset)
        return _datasets[key]

    @cached_property
    def model(self) -> VideoModel:
        # One model serves all explainers of a run; the weights are read once.
        key = canonical(OmegaConf.to_container(self.config.model, resolve=True))
        if key not in _models:
            _models.clear()
            _models[key] = build(self.config.model)
        return _models[key]

    @cached_property
    def explainer(self) -> Explainer:
        return build(self.config.explainer)

    @cached_property
    def explainer_name(self) -> str:
        return choice(self.config, "explainer")

    @cached_property
    def identity(self) -> dict[str, object]:
        """All that changes a map, but for the clip's own content, which each map holds."""
        return {
            "dataset": self.dataset.identity(),
            "model": self.model.identity(),
            "explainer": self.explainer.identity(),
            "target": str(self.config.target),
        }

    @cached_property
    def maps(self) -> MapFolder:
        name = f"{self.explainer_name}-{digest(self.identity)}"
        return MapFolder(
            Path(self.config.output_root) / "maps" / self.dataset.name / self.model.name / name, self.identity
        )

    def records(self, metric: Metric, metric_name: str) -> RecordFolder:
        """Where the records of a metric on these maps lie."""
        identity = metric.identity()
        path = Path(self.config.output_root) / "records" / self.dataset.name / self.model.name / self.maps.path.name
        return RecordFolder(path / f"{metric_name}-{digest(identity)}", {**self.identity, "metric": identity})

    def entries(self) -> list[Entry]:
        """The videos to work on, cut to `limit`.

        Raises:
            ConfigError: target=label, and a class of theirs is none of the model's.
        """
        entries = self.dataset.entries[: self.config.limit]
        if self.config.target == "label":
            self._check_classes({e.class_name for e in entries})
        return entries

    def _check_classes(self, names: Iterable[str | None]) -> None:
        unknown = []
        for name in sorted({n for n in names if n is not None}):
            try:
                self.model.class_index(self._mapped(name))
            except ConfigError as error:
                unknown.append((name, error))
        if unknown:
            listed = ", ".join(n for n, _ in unknown[:5]) + (" …" if len(unknown) > 5 else "")
            raise ConfigError(f"{len(unknown)} classes of {self.dataset.name} ({listed}): {unknown[0][1]}")

    def _mapped(self, class_name: str) -> str:
        return getattr(self.dataset, "class_map", {}).get(class_name, class_name)

    def load(self, entry: Entry) -> Clip:
        """Decode an entry and give it its label among the model's classes (None when it has none there)."""
        clip = self.dataset.load(entry, self.model.spec)
        if clip.class_name is not None and self.model.class_names is not None:
            mapped = self._mapped(clip.class_name)
            clip.label = self.model.class_names.index(mapped) if mapped in self.model.class_names else None
        return clip

    def target(self, clip: Clip) -> int:
        """The class to explain, by the rule ``target``: label | predicted | index | class name.

        Raises:
            ConfigError: out of range, an unknown name, or target=label on a clip without one.
        """
        rule = self.config.target
        if rule == "label":
            if clip.label is None:
                raise ConfigError(f"clip {clip.id!r} has no label that {self.model.name} knows; use target=predicted")
            return clip.label
        if rule == "predicted":
            with torch.no_grad():
                return int(self.model.logits(clip.tensor(self.model.spec)[None]).argmax())
        if isinstance(rule, int) or str(rule).isdigit():
            return self.model.resolve_target(clip, int(rule))
        return self.model.class_index(str(rule))


def walk(
    entries: list[Entry],
    folder: Folder,
    stage: str,
    title: str,
    done: Callable[[Entry], bool],
    do: Callable[[Entry], None],
) -> int:
    """Do every entry that is not done, with a progress bar; go on past those that fail, and list them.

    A failure is kept with its reason in the folder's ``failures.csv``; the exit status says so. What stops
    the whole run is an error of config or checkpoint, or a file that cannot be written.

    Returns:
        exit status: 0, or `FAILED`.
    """
    failed = 0
    bar = tqdm(entries, desc=title, unit="clip", mininterval=0.5, dynamic_ncols=True)
    for entry in bar:
        start = time.perf_counter()
        try:
            if done(entry):
                continue
            do(entry)
        except (ConfigError, CheckpointError, OSError):
            bar.close()
            raise
        except Exception as error:
            failed += 1
            reason = str(error) if type(error).__module__.startswith("aosa") else f"{type(error).__name__}: {error}"
            folder.fail(entry.id, stage, reason)
            tqdm.write(f"failed: {entry.id}: {reason}", file=sys.stderr)
            continue
        folder.forgive(entry.id)
        folder.time(entry.id, seconds=round(time.perf_counter() - start, 6))
    write_failures(folder)
    if failed:
        print(f"{failed} of {len(entries)} videos failed; reasons in {folder.path / 'failures.csv'}", file=sys.stderr)
    return FAILED if failed else 0


def write_failures(folder: Folder) -> None:
    """Gather the failures noted in a folder into its ``failures.csv`` (clip, stage, reason)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "stage", "reason"])
    writer.writerows([f["clip"], f["stage"], f["reason"]] for f in folder.failures())
    write_atomic(folder.path / "failures.csv", text.getvalue())


def environment(model: VideoModel) -> dict[str, Any]:
    """What ran a job, kept beside its results: versions, device, batch size, precision, threads."""
    import aosa

    return {
        "aosa": aosa.__version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device),
        "batch_size": model.batch_size,
        "precision": model.precision,
        "threads": torch.get_num_threads(),
    }
