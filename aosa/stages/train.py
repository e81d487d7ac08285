"""The training stage: any data set with class names, any model, one process or several."""

from __future__ import annotations

import inspect
import logging
import math
import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict

import torch
from hydra.core.hydra_config import HydraConfig
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn
from torch.multiprocessing import ProcessRaisedException
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

import aosa.errors
from aosa.config import build, plain, quoted
from aosa.data.base import VideoDataset
from aosa.data.choose import limited
from aosa.engine.job import choice, model_class
from aosa.engine.work import FAILED
from aosa.environment import environment
from aosa.errors import AosaError, CheckpointError, ConfigError
from aosa.files import whole_file, write_atomic, write_csv
from aosa.hints import check_type
from aosa.models import VideoModel, randomise
from aosa.models.base import pick_device
from aosa.models.checkpoint_files import torch_load
from aosa.models.checkpoints import replace_head
from aosa.options import check_choice, check_range, check_whole
from aosa.rng import key_seed
from aosa.stages.keys import check_common
from aosa.store.folders import digest
from aosa.store.shareable import as_cell, shareable_yaml
from aosa.tracking.tracker import Tracker, dashboard, track
from aosa.training.clips import Clips
from aosa.training.trainer import Trainer, accuracy

# What precision it uses is in the config.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_STATE = {"settings", "network", "optimizer", "scaler", "log", "failures", "lengths"}  # of last.pt


class _Parts(TypedDict, total=False):
    parts: Mapping[str, Mapping[str, Any]] | None


class _Options(_Parts):
    """``config.train``; see ``configs/train.yaml``."""

    epochs: int
    clips_per_epoch: int | None
    batch_size: int
    accumulate: int
    devices: int
    optimizer: str
    momentum: float
    lr: float
    warmup_epochs: float
    schedule: str
    milestones: list[float]
    gamma: float
    weight_decay: float
    label_smoothing: float
    clip_norm: float | None
    flip: bool
    crop: str
    crop_scale: tuple[float, float]
    window: str
    freeze: str
    new_head: bool
    workers: int
    restart: bool


def run(cfg: DictConfig) -> int:
    """Train as the block ``train`` of the config says; resume when the folder holds an unfinished run.

    Writes ``last.pt`` (for resuming), ``best.safetensors`` (highest validation accuracy, the first of
    equals), ``classes.txt`` (the names of its outputs), ``log.csv``, ``config.yaml`` and, where clips could not be
    read, ``failures.csv``. An epoch that is cut short is trained again from its start, with the same draws.

    With ``train.devices`` = n, n processes (one per GPU, or on the CPU) share each batch, by Lightning Fabric.
    ``dry_run`` prints what it would train on, and makes nothing.

    Raises:
        ConfigError: a value out of range, a class the model lacks, a folder trained with other settings.
        CheckpointError: ``last.pt`` cannot be read, or the best weights beside it are missing.
        AosaError: the loss is not finite; no clip for training, or for validation, could be read.
    """
    check_common(cfg)
    _check(cfg)
    dashboard(cfg)  # refused before processes start
    if cfg.dry_run:
        return _plan(cfg)
    try:
        code, folder = _fabric(cfg).launch(_train, cfg)  # type: ignore[arg-type]
    except ProcessRaisedException as error:
        raise _told(error) from None
    print(f"use them with: {_usage(cfg, folder)}")
    return code


def _train(fabric: Fabric, cfg: DictConfig) -> tuple[int, Path]:
    options = cfg.train
    check_common(cfg)  # a new process has its own number of threads
    parts = {part: _dataset(cfg, part) for part in ("train", "val", "test")}
    model = _model(cfg, parts["train"], fabric)
    # Labels first: a class that the model lacks is found before hours of work.
    loaded = {part: Clips(dataset, model, cfg.limit) for part, dataset in parts.items()}

    folder = Path(cfg.output_root) / "train" / parts["train"].name / model.name
    settings = _settings(cfg)
    state = None if options.restart else _resume(folder, settings)
    fabric.barrier()  # all have read the folder before one writes
    if state is not None:
        for part, clips in loaded.items():
            clips.know(state["lengths"][part])
    trainer = Trainer(fabric, model, options, cfg.seed, loaded["train"])
    log: list[dict[str, float]] = []
    failures: dict[str, str] = {}
    if fabric.is_global_zero:
        write_atomic(folder / "config.yaml", shareable_yaml(cfg))
        write_atomic(folder / "classes.txt", "".join(f"{name}\n" for name in model.class_names or ()))
    if state is not None:
        trainer.load(state)
        log, failures = state["log"], state["failures"]
        fabric.print(f"{folder}: going on after epoch {len(log)} of {options.epochs}")

    title, about = f"{model.name} / {parts['train'].name}", environment(model)
    tracked = track(cfg, "train", title, parts["train"].name, environment=about)
    with tracked if fabric.is_global_zero else nullcontext(Tracker()) as tracker:
        for epoch in range(len(log), options.epochs):
            start = time.perf_counter()
            row = {"epoch": epoch + 1, **trainer.train(epoch, failures)}
            result = trainer.validate(loaded["val"])
            failures.update(result.failures)
            if not result.total:
                if fabric.is_global_zero:
                    _write_failures(folder, failures)
                fabric.barrier()  # the first to raise ends the others
                raise AosaError(
                    f"no validation clip could be read, so no epoch is the best; the first reason: "
                    f"{result.failures[0][1]}; all of them: {folder / 'failures.csv'}"
                )
            row["val_accuracy"] = result.share
            best = max((r["val_accuracy"] for r in log), default=-1.0)
            log.append(row)
            if fabric.is_global_zero:
                if result.share > best:
                    _save_weights(folder / "best.safetensors", model.network)
                write_csv(folder / "log.csv", list(log[0]), log)
                lengths = {part: clips.lengths() for part, clips in loaded.items()}
                progress = {"settings": settings, "log": log, "failures": failures, "lengths": lengths}
                with whole_file(folder / "last.pt") as path:
                    torch.save({**trainer.state(), **progress}, path)
                tracker.log("train", **row, seconds=time.perf_counter() - start)
                tqdm.write(
                    f"epoch {epoch + 1}/{options.epochs}: loss {row['train_loss']:.4f}, "
                    f"train {row['train_accuracy']:.4f}, val {row['val_accuracy']:.4f}"
                )

        fabric.barrier()  # the best weights are written
        model.network.load_state_dict(load_file(folder / "best.safetensors"))
        result = accuracy(model, loaded["test"], trainer.forward_size, options.workers, fabric)
        failures.update(result.failures)
        tracker.table("train/epochs", log)
        tracker.summary("train", test_accuracy=result.share, clips_judged=result.total, failed=len(failures))
    if fabric.is_global_zero:
        _write_failures(folder, failures)
        if failures:
            print(f"{len(failures)} clips could not be read; see {folder / 'failures.csv'}")
    fabric.print(f"test accuracy {result}; weights: {folder / 'best.safetensors'}")
    fabric.barrier()  # who leaves first closes connections that the others may still use
    return FAILED if failures else 0, folder


def _plan(cfg: DictConfig) -> int:
    """Print clips, steps and parameters; what is not there is told, and the rest is planned all the same."""
    options, network = cfg.train, build(_merged(cfg.model, {"checkpoint": "random"}), VideoModel).network
    print(f"plan: {choice(cfg, 'model')}, {sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters")
    for part in ("train", "val", "test"):
        try:
            clips = len(limited(_dataset(cfg, part).entries, cfg.limit))
        except ConfigError as error:
            print(f"  {part}: {str(error).splitlines()[0]}")
            continue
        if part == "train":
            epoch = min(options.clips_per_epoch or clips, clips)
            steps = options.epochs * math.ceil(epoch / options.batch_size)
            print(f"  train: {clips} clips, {epoch} in an epoch, {steps} steps of {options.batch_size} in all")
        else:
            print(f"  {part}: {clips} clips")
    if cfg.checkpoint not in (None, "pretrained", "random") and not Path(cfg.checkpoint).is_file():
        print(f"  checkpoint={cfg.checkpoint}: no such file")
    print(f"  results: {Path(cfg.output_root) / 'train' / choice(cfg, 'dataset') / choice(cfg, 'model')}")
    return 0


def _write_failures(folder: Path, failures: dict[str, str]) -> None:
    """All of them; where there are none, none of an earlier try either."""
    if failures:
        rows = [{"clip": i, "reason": as_cell(reason)} for i, reason in sorted(failures.items())]
        write_csv(folder / "failures.csv", ["clip", "reason"], rows)
    else:
        (folder / "failures.csv").unlink(missing_ok=True)


def _check(cfg: DictConfig) -> None:
    options, infinity = cfg.train, math.inf
    check_type("train", plain(options), _Options)
    check_whole(
        "train",
        epochs=(options.epochs, 1),
        clips_per_epoch=(options.clips_per_epoch, 1),
        batch_size=(options.batch_size, 1),
        accumulate=(options.accumulate, 1),
        devices=(options.devices, 1, 256),
        workers=(options.workers, 0, 256),
    )
    check_range(
        "train",
        lr=(options.lr, 0, infinity),
        momentum=(options.momentum, 0, 1),
        gamma=(options.gamma, 0, 1),
        warmup_epochs=(options.warmup_epochs, 0, options.epochs),
        weight_decay=(options.weight_decay, 0, infinity),
        clip_norm=(options.clip_norm, 0, infinity),
        label_smoothing=(options.label_smoothing, 0, 1),
    )
    check_choice(
        "train",
        optimizer=(options.optimizer, ("adamw", "sgd")),
        schedule=(options.schedule, ("cosine", "multistep", "constant")),
        freeze=(options.freeze, ("none", "backbone")),
        crop=(options.crop, ("none", "random")),
        window=(options.window, ("centre", "random")),
    )
    if not 0 < options.crop_scale[0] <= options.crop_scale[1] <= 1:
        raise ConfigError(f"train.crop_scale={options.crop_scale}: give [low, high], above 0 and at most 1")
    if options.schedule == "multistep" and not options.milestones:
        raise ConfigError("train.schedule=multistep: give the epochs at which the rate falls, as train.milestones=[…]")
    device = pick_device(cfg.device)
    if cfg.precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision=fp16: training on a CPU needs fp32 or bf16")
    if options.devices > 1 and device.type == "cuda":
        there = torch.cuda.device_count()
        if device.index is not None or options.devices > there:
            raise ConfigError(
                f"train.devices={options.devices} with device={cfg.device}: it takes the first GPUs of the {there} "
                f"that there are; leave device=auto, and choose them by CUDA_VISIBLE_DEVICES"
            )


def _fabric(cfg: DictConfig) -> Fabric:
    device, number = pick_device(cfg.device), cfg.train.devices
    alone = [device.index or 0] if device.type == "cuda" else 1
    # Batch norm's statistics are averaged once an epoch, not sent with each forward pass. PyTorch 2.13 renamed the key.
    known = inspect.signature(DistributedDataParallel).parameters
    key = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return Fabric(
        accelerator=device.type,
        devices=number if number > 1 else alone,
        strategy=DDPStrategy(start_method="spawn", **{key: False}) if number > 1 else "auto",  # type: ignore[arg-type]
        precision=_PRECISIONS[cfg.precision],  # type: ignore[arg-type]
        plugins=LightningEnvironment(),  # this machine alone, also inside a cluster's job
    )


def _told(error: ProcessRaisedException) -> Exception:
    """What a process raised, which reaches this one as text."""
    found = re.search(r"^aosa\.errors\.(\w+): (.*)", str(error), re.MULTILINE | re.DOTALL)
    return getattr(aosa.errors, found[1])(found[2].strip()) if found else error


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
    # Resolved first: a part's root may name the data set's own.
    return build(_merged(cfg.dataset, OmegaConf.to_container(keys, resolve=True)), VideoDataset)


def _merged(config: DictConfig, keys: Any) -> DictConfig:
    merged = OmegaConf.merge(config, keys)
    assert isinstance(merged, DictConfig)
    return merged


def _model(cfg: DictConfig, dataset: VideoDataset, fabric: Fabric) -> VideoModel:
    """With the weights that ``checkpoint`` names: none = drawn from the seed; ``pretrained`` = the model's own."""
    from_scratch, config = cfg.checkpoint is None, cfg.model
    if from_scratch or cfg.checkpoint == "pretrained":
        config = _merged(config, {"checkpoint": "random" if from_scratch else None})
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        config = _merged(config, {"device": str(fabric.device)})
    fresh = cfg.train.new_head
    model: VideoModel = build(config, VideoModel, **({"new_head": True} if fresh and not from_scratch else {}))
    if from_scratch:
        randomise(model.network, cfg.seed)
    if fresh:
        names = list(dict.fromkeys(model_class(dataset, name) for name in dataset.class_names))
        with torch.random.fork_rng():
            torch.manual_seed(key_seed(cfg.seed, "head"))
            replace_head(model.network, len(names))
        model.class_names = names
    if model.head not in ("softmax", "probabilities"):
        raise ConfigError(f"model.head={model.head}: training is for one class of several, model.head=softmax")
    model.trial()
    return model


def _settings(cfg: DictConfig) -> str:
    """Digest of all that changes the training: not the device, the workers, or where it is written."""
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return digest(
        {
            "train": {k: v for k, v in plain["train"].items() if k not in ("workers", "restart")},
            "model": {k: v for k, v in plain["model"].items() if k not in ("device", "batch_size")},
            **{k: plain[k] for k in ("dataset", "seed", "limit", "precision", "checkpoint")},
        }
    )


def _resume(folder: Path, settings: str) -> dict[str, Any] | None:
    path = folder / "last.pt"
    if not path.exists():
        return None
    try:
        state = torch_load(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; begin anew with train.restart=true") from None
    if not isinstance(state, dict) or not state.keys() >= _STATE:
        raise CheckpointError(f"{path} is no training to go on with; begin anew with train.restart=true")
    if state["settings"] != settings:
        raise ConfigError(
            f"{folder} was trained with other settings (see its config.yaml): give these, begin anew with "
            f"train.restart=true, or choose another output_root"
        )
    best = folder / "best.safetensors"
    if not best.exists():
        raise CheckpointError(f"{best}, the best weights until now, is missing; begin anew with train.restart=true")
    return state


def _save_weights(path: Path, network: nn.Module) -> None:
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(weights, temporary)


def _usage(cfg: DictConfig, folder: Path) -> str:
    """The overrides with which any script takes the trained model."""
    name, given = str(cfg.model.get("name")), []
    if HydraConfig.initialized():
        name = HydraConfig.get().runtime.choices["model"]
        given = [o for o in HydraConfig.get().overrides.task if o.startswith("model.")]
    used = [f"model={name}", *given, f"checkpoint={_plain(folder / 'best.safetensors')}"]
    if cfg.train.new_head:
        if "num_classes" in (cfg.model.get("network") or {}):
            used.append(f"model.network.num_classes={len((folder / 'classes.txt').read_text().splitlines())}")
        used.append(f"model.class_names={_plain(folder / 'classes.txt')}")
    return " ".join(used)


def _plain(path: Path) -> str:
    return str(path) if re.fullmatch(r"[\w./-]+", str(path)) else f"'{quoted(str(path))}'"
