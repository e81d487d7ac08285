"""The training stage: any data set with class names, any model, one process."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from aosa.config import build
from aosa.data.base import Entry, VideoDataset
from aosa.errors import AosaError, CheckpointError, ConfigError, VideoError
from aosa.files import whole_file, write_atomic, write_csv
from aosa.models import VideoModel, randomise
from aosa.options import check_choice, check_range, check_whole
from aosa.pipeline.common import FAILED, check_common, mapped
from aosa.pipeline.store import digest
from aosa.rng import generator, key_seed

Batch = tuple[Tensor, Tensor, list[tuple[str, str]]]


@dataclass(frozen=True)
class Accuracy:
    """Clips predicted right, clips judged, and the (id, reason) of those that could not be read."""

    right: int
    total: int
    failures: list[tuple[str, str]]

    @property
    def share(self) -> float:
        return self.right / self.total if self.total else math.nan

    def __str__(self) -> str:
        return f"{self.share:.4f} ({self.right} / {self.total})"


def run(cfg: DictConfig) -> int:
    """Train as the block ``train`` of the config says; resume when the folder holds an unfinished run.

    Writes ``last.pt`` (for resuming), ``best.safetensors`` (highest validation accuracy, the first of
    equals), ``log.csv``, ``config.yaml`` and, where clips could not be read, ``failures.csv``. An epoch
    that is cut short is trained again from its start, with the same draws.

    Raises:
        ConfigError: a value out of range, a class the model lacks, a folder trained with other settings.
        CheckpointError: ``last.pt`` cannot be read.
        AosaError: the loss is not finite; no clip could be read.
    """
    options = cfg.train
    check_common(cfg)
    _check(options, cfg.precision)
    parts = {part: _dataset(cfg, part) for part in ("train", "val", "test")}
    model = _model(cfg, parts["train"])
    # Labels first: a class that the model lacks is found before hours of work.
    loaded = {part: _Clips(dataset, model, cfg.limit) for part, dataset in parts.items()}

    folder = Path(cfg.output_root) / "train" / parts["train"].name / model.name
    settings = _settings(cfg)
    state = None if options.restart else _resume(folder, settings)
    write_atomic(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    trainer = _Trainer(model, options, cfg.seed, len(loaded["train"]))
    log: list[dict[str, float]] = []
    failures: dict[str, str] = {}
    if state is not None:
        model.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        log = state["log"]
        failures = state["failures"]
        print(f"{folder}: going on after epoch {len(log)} of {options.epochs}")

    for epoch in range(len(log), options.epochs):
        clips = loaded["train"].epoch(trainer.indices(epoch), key=(cfg.seed, epoch), flip=options.flip)
        row = {"epoch": epoch + 1, **trainer.train(clips, epoch, failures)}
        result = accuracy(model, loaded["val"], options.batch_size, options.workers)
        failures.update(result.failures)
        row["val_accuracy"] = result.share
        best = max((r["val_accuracy"] for r in log), default=-1.0)
        log.append(row)
        if result.share > best:
            _save_weights(folder / "best.safetensors", model.network)
        write_csv(folder / "log.csv", list(log[0]), log)
        with whole_file(folder / "last.pt") as path:
            torch.save(
                {
                    "settings": settings,
                    "network": model.network.state_dict(),
                    "optimizer": trainer.optimizer.state_dict(),
                    "log": log,
                    "failures": failures,
                },
                path,
            )
        tqdm.write(
            f"epoch {epoch + 1}/{options.epochs}: loss {row['train_loss']:.4f}, "
            f"train {row['train_accuracy']:.4f}, val {row['val_accuracy']:.4f}"
        )

    model.network.load_state_dict(load_file(folder / "best.safetensors"))
    result = accuracy(model, loaded["test"], options.batch_size, options.workers)
    failures.update(result.failures)
    if failures:
        rows = [{"clip": i, "reason": reason} for i, reason in sorted(failures.items())]
        write_csv(folder / "failures.csv", ["clip", "reason"], rows)
        print(f"{len(failures)} clips could not be read; see {folder / 'failures.csv'}")
    print(f"test accuracy {result}; weights: {folder / 'best.safetensors'}")
    return FAILED if failures else 0


def accuracy(model: VideoModel, clips: VideoDataset | _Clips, batch_size: int = 32, workers: int = 0) -> Accuracy:
    """Share of the clips whose top class is the true one. The network is left in evaluation mode.

    Raises:
        ConfigError: a class that the model lacks.
    """
    if isinstance(clips, VideoDataset):
        clips = _Clips(clips, model, None)
    model.network.eval()
    right = total = 0
    failures: list[tuple[str, str]] = []
    with torch.no_grad():
        for x, labels, failed in _batches(clips, batch_size, workers):
            failures += failed
            if len(labels):
                right += int((model.logits(x).argmax(1).cpu() == labels).sum())
                total += len(labels)
    return Accuracy(right, total, failures)


class _Clips(Dataset[tuple[Tensor, int] | tuple[str, str]]):
    """Labelled input tensors, or (id, reason) for a clip that cannot be used."""

    def __init__(self, dataset: VideoDataset, model: VideoModel, limit: int | None) -> None:
        self.dataset, self.spec = dataset, model.spec
        self.entries: list[Entry] = list(dataset.entries[:limit])
        if not self.entries:
            raise ConfigError(f"dataset {dataset.name} has no videos to train or judge on")
        unnamed = [e.id for e in self.entries if e.class_name is None]
        if unnamed:
            raise ConfigError(f"dataset {dataset.name}: {unnamed[0]!r} has no class, so it cannot be trained on")
        index = {name: model.class_index(mapped(dataset, name)) for name in {str(e.class_name) for e in self.entries}}
        self.labels = [index[str(e.class_name)] for e in self.entries]
        self.flip_key: tuple[object, ...] | None = None

    def epoch(self, indices: list[int], key: tuple[object, ...], flip: bool) -> _Clips:
        """The same with these entries in this order, some of them mirrored by draws of `key`."""
        other = copy.copy(self)
        other.entries = [self.entries[i] for i in indices]
        other.labels = [self.labels[i] for i in indices]
        other.flip_key = key if flip and self.dataset.flip_keeps_class else None
        return other

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> tuple[Tensor, int] | tuple[str, str]:
        entry = self.entries[i]
        try:
            x = self.dataset.load(entry, self.spec).tensor(self.spec)
        except VideoError as error:
            return entry.id, str(error)
        if self.flip_key is not None and torch.rand(1, generator=generator(*self.flip_key, entry.id)) < 0.5:
            x = x.flip(-1)
        return x, self.labels[i]


def _collate(items: list[tuple[Tensor, int] | tuple[str, str]]) -> Batch:
    good = [(x, y) for x, y in items if isinstance(x, Tensor)]
    failed = [(str(x), str(y)) for x, y in items if not isinstance(x, Tensor)]
    x = torch.stack([x for x, _ in good]) if good else torch.empty(0)
    return x, torch.tensor([int(y) for _, y in good], dtype=torch.long), failed


def _batches(clips: _Clips, batch_size: int, workers: int) -> Iterator[Batch]:
    yield from DataLoader(
        clips, batch_size, num_workers=workers, collate_fn=_collate, worker_init_fn=_single_thread if workers else None
    )


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


class _Trainer:
    """Optimiser, schedule and order of the clips; all draws are keyed by (seed, epoch)."""

    def __init__(self, model: VideoModel, options: DictConfig, seed: int, clips: int) -> None:
        self.model, self.options, self.seed, self.clips = model, options, seed, clips
        self.per_epoch = min(options.clips_per_epoch or clips, clips)
        self.steps = math.ceil(self.per_epoch / options.batch_size)
        if options.freeze == "backbone":
            model.network.requires_grad_(False)
            _head(model).requires_grad_(True)
        learning = [p for p in model.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer: torch.optim.Optimizer
        if options.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(groups, lr=options.lr)
        else:
            self.optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=0.9, nesterov=True)

    def indices(self, epoch: int) -> list[int]:
        """Entries of one epoch: a window of an endless series of permutations of all entries."""
        first = epoch * self.per_epoch
        chosen: list[int] = []
        while len(chosen) < self.per_epoch:
            turn, offset = divmod(first + len(chosen), self.clips)
            order = torch.randperm(self.clips, generator=generator(self.seed, "order", turn)).tolist()
            chosen += order[offset : offset + self.per_epoch - len(chosen)]
        return chosen

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from the start of training."""
        warmup = self.options.warmup_epochs * self.steps
        if step < warmup:
            return self.options.lr * (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, self.options.epochs * self.steps - warmup)
        return self.options.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def train(self, clips: _Clips, epoch: int, failures: dict[str, str]) -> dict[str, float]:
        """One epoch; returns its mean loss and accuracy."""
        network, options = self.model.network, self.options
        network.train(options.freeze != "backbone")
        total, right, seen = 0.0, 0, 0
        with (
            torch.random.fork_rng(),
            tqdm(total=len(clips), desc=f"epoch {epoch + 1}/{options.epochs}", unit="clip", leave=False) as bar,
        ):
            torch.manual_seed(key_seed(self.seed, "dropout", epoch))
            for i, (x, labels, failed) in enumerate(_batches(clips, options.batch_size, options.workers)):
                failures.update(failed)
                bar.update(len(labels) + len(failed))
                # Batch norm cannot learn from a lone clip.
                if len(labels) < min(2, self.per_epoch):
                    continue
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate(epoch * self.steps + i)
                logits = self.model.logits(x)
                labels = labels.to(logits.device)
                loss = F.cross_entropy(logits, labels, label_smoothing=options.label_smoothing)
                if not torch.isfinite(loss):
                    raise AosaError(
                        f"the loss is {loss.item()} in step {i + 1} of epoch {epoch + 1}; lower train.lr "
                        f"(now {options.lr}) or lengthen train.warmup_epochs, and start again with train.restart=true"
                    )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(labels)
                right += int((logits.argmax(1) == labels).sum())
                seen += len(labels)
                bar.set_postfix(loss=f"{total / seen:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
        if not seen:
            raise AosaError(f"no training clip could be read; the first reason: {next(iter(failures.values()))}")
        return {"train_loss": total / seen, "train_accuracy": right / seen}


def _check(options: DictConfig, precision: str) -> None:
    infinity = math.inf
    check_whole(
        "train",
        epochs=(options.epochs, 1),
        clips_per_epoch=(options.clips_per_epoch, 1),
        batch_size=(options.batch_size, 1),
        workers=(options.workers, 0),
    )
    check_range(
        "train",
        lr=(options.lr, 0, infinity),
        warmup_epochs=(options.warmup_epochs, 0, options.epochs),
        weight_decay=(options.weight_decay, 0, infinity),
        label_smoothing=(options.label_smoothing, 0, 1),
    )
    check_choice(
        "train",
        optimizer=(options.optimizer, ("adamw", "sgd")),
        freeze=(options.freeze, ("none", "backbone")),
        flip=(options.flip, (True, False)),
        new_head=(options.new_head, (True, False)),
        restart=(options.restart, (True, False)),
    )
    if precision == "fp16":
        raise ConfigError("precision=fp16: training needs fp32 or bf16")


def _dataset(cfg: DictConfig, part: str) -> VideoDataset:
    keys = OmegaConf.select(cfg, f"train.parts.{part}")
    known = [str(k) for k in cfg.dataset if k != "_target_"]
    if keys is None:
        raise ConfigError(
            f"train.parts.{part} is missing: say which keys of the data set make its {part} part, "
            f"as +train.parts.{part}.<key>=<value>; keys: {', '.join(known)}"
        )
    unknown = [str(k) for k in keys if k not in known]
    if unknown:
        raise ConfigError(f"train.parts.{part}.{unknown[0]}: the data set has no such key; keys: {', '.join(known)}")
    return build(_merged(cfg.dataset, keys))


def _merged(config: DictConfig, keys: DictConfig | dict[str, object]) -> DictConfig:
    merged = OmegaConf.merge(config, keys)
    assert isinstance(merged, DictConfig)
    return merged


def _model(cfg: DictConfig, dataset: VideoDataset) -> VideoModel:
    from_scratch = cfg.checkpoint is None
    model: VideoModel = build(_merged(cfg.model, {"checkpoint": "random"}) if from_scratch else cfg.model)
    if from_scratch:
        randomise(model.network, cfg.seed)
    with torch.random.fork_rng():
        torch.manual_seed(key_seed(cfg.seed, "head"))
        if cfg.train.new_head:
            old = _head(model)
            names = list(dict.fromkeys(mapped(dataset, name) for name in dataset.class_names))
            new = nn.Linear(old.in_features, len(names)).to(model.device)
            owner, _, attribute = next(n for n, m in model.network.named_modules() if m is old).rpartition(".")
            setattr(model.module(owner), attribute, new)
            model.class_names = names
    return model


def _head(model: VideoModel) -> nn.Linear:
    layers = [m for m in model.network.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ConfigError(f"model {model.name} has no linear layer: use train.freeze=none and train.new_head=false")
    return layers[-1]


def _settings(cfg: DictConfig) -> str:
    """Digest of all that changes the training: not the device, the workers, or where it is written."""
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return digest(
        {
            "train": {k: v for k, v in plain["train"].items() if k not in ("workers", "restart")},
            "model": {k: v for k, v in plain["model"].items() if k not in ("device", "batch_size")},
            **{k: plain[k] for k in ("dataset", "seed", "limit")},
        }
    )


def _resume(folder: Path, settings: str) -> dict[str, Any] | None:
    path = folder / "last.pt"
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read ({reason}); begin anew with train.restart=true") from error
    if state.get("settings") != settings:
        raise ConfigError(
            f"{folder} was trained with other settings (see its config.yaml): give these, begin anew with "
            f"train.restart=true, or choose another output_root"
        )
    return state


def _save_weights(path: Path, network: nn.Module) -> None:
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(weights, temporary)
