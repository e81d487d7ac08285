"""One model's training: the optimiser, its schedule, the order of the clips, one epoch, and how good it is."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from aosa.data.base import VideoDataset
from aosa.errors import AosaError, ConfigError
from aosa.models import VideoModel
from aosa.models.checkpoints import head
from aosa.rng import generator, key_seed
from aosa.training.clips import Augmentation, Batch, Clips, Features, in_batches
from aosa.video.decode import probed


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


def accuracy(
    model: VideoModel,
    clips: VideoDataset | Clips,
    batch_size: int = 32,
    workers: int = 0,
    fabric: Fabric | None = None,
) -> Accuracy:
    """Share of the clips whose top class is the true one. The network is left in evaluation mode.

    Args:
        fabric: of several processes, each judges its share; all get the same result.

    Raises:
        ConfigError: a class that the model lacks.
    """
    if isinstance(clips, VideoDataset):
        clips = Clips(clips, model)
    model.network.eval()
    right = total = 0
    failures: list[tuple[str, str]] = []
    with torch.no_grad(), _bar(fabric, len(clips), "judged") as bar:
        for batch in clips.batches(in_batches(_share(fabric, range(len(clips))), batch_size), workers):
            _advance(bar, fabric, batch)
            failures += batch.failures
            if batch.ids:
                right += int((model.logits(batch.x).argmax(1).cpu() == batch.labels).sum())
                total += len(batch.ids)
    parts = _gathered(fabric, (right, total, failures))
    return Accuracy(sum(p[0] for p in parts), sum(p[1] for p in parts), [f for p in parts for f in p[2]])


class Replay(nn.Module):
    """The end of a network from its head on, where only a mean over the head's places follows: B×C×… → B×K."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        return y.flatten(2).mean(2) if y.ndim > 2 else y


class Trainer:
    """Trains on the clips of one data set; all draws are keyed by (seed, epoch).

    With a frozen backbone and nothing drawn for the clips, a clip gives the same features in each epoch: they are
    computed once, and then the head alone is trained on them. This is left where more than a mean over places
    follows the head.

    Args:
        options: the block ``train`` of the config.

    Raises:
        ConfigError: steps of one clip for a network whose batch norm trains; no views to draw from.
    """

    def __init__(self, fabric: Fabric, model: VideoModel, options: DictConfig, seed: int, clips: Clips) -> None:
        self.fabric, self.model, self.options, self.seed, self.clips = fabric, model, options, seed, clips
        self.per_epoch = min(options.clips_per_epoch or len(clips), len(clips))
        self.steps = math.ceil(self.per_epoch / options.batch_size)
        self.forward_size = math.ceil(options.batch_size / (options.accumulate * fabric.world_size))
        # Batch norm cannot learn from a lone clip; where there is but one, from it or not at all.
        self.least = min(2, self.per_epoch) if options.freeze != "backbone" and _has_batch_norm(model.network) else 1
        if options.batch_size < self.least:
            raise ConfigError(
                f"train.batch_size={options.batch_size}: the batch norm of {model.name} cannot learn from a lone clip; "
                f"give at least 2, or train.freeze=backbone"
            )
        if options.crop == "random" or options.window == "random":
            clips.take([0], self._augmentation(0))[0]  # a data set without other views says so here, not in a worker
        self.judged = model  # what gives the logits of clips, or of their features
        if options.freeze == "backbone":
            model.network.requires_grad_(False)
            _, last = head(model.network)
            last.requires_grad_(True)
            if not self._augments() and (replay := _replay(model)):
                self.judged = replay
                clips.features = Features()
        learning = [p for p in model.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer: torch.optim.Optimizer
        if options.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(groups, lr=options.lr)
        else:
            momentum = options.momentum
            self.optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=momentum, nesterov=momentum > 0)
        # Saved and judged is the network itself, trained is what the library wraps around it.
        module, self.stepper = fabric.setup(self.judged.network, self.optimizer, move_to_device=False)
        self.learner = copy.copy(self.judged)
        self.learner.network = module

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "network": self.model.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.model.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])

    def indices(self, epoch: int) -> list[int]:
        """Clips of one epoch: a window of an endless series of permutations of all clips."""
        first, clips = epoch * self.per_epoch, len(self.clips)
        chosen: list[int] = []
        while len(chosen) < self.per_epoch:
            turn, offset = divmod(first + len(chosen), clips)
            order = torch.randperm(clips, generator=generator(self.seed, "order", turn)).tolist()
            chosen += order[offset : offset + self.per_epoch - len(chosen)]
        return chosen

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from the start of training."""
        options = self.options
        warmup = options.warmup_epochs * self.steps
        if step < warmup:
            return options.lr * (step + 1) / (warmup + 1)
        if options.schedule == "constant":
            return options.lr
        if options.schedule == "multistep":
            return options.lr * options.gamma ** sum(step >= m * self.steps for m in options.milestones)
        done = (step - warmup) / max(1, options.epochs * self.steps - warmup)
        return options.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def train(self, epoch: int, failures: dict[str, str]) -> dict[str, float]:
        """One epoch; returns its mean loss and accuracy, and adds to the failures.

        Raises:
            AosaError: the loss is not finite; no clip could be read.
        """
        options, rank = self.options, self.fabric.global_rank
        order = self.indices(epoch)
        clips = self.clips.take(order, self._augmentation(epoch))
        if clips.features is not None:
            self.compute_features(clips)
        places = [_share(self.fabric, batch) for batch in in_batches(range(len(order)), options.batch_size)]
        self.learner.network.train(options.freeze != "backbone")
        total, right, seen = 0.0, 0, 0
        with torch.random.fork_rng(), _bar(self.fabric, len(order), f"epoch {epoch + 1}/{options.epochs}") as bar:
            torch.manual_seed(key_seed(self.seed, "dropout", epoch, *([rank] if rank else [])))
            for i, batch in enumerate(clips.batches(places, self._workers(clips))):
                _advance(bar, self.fabric, batch)
                failures.update(batch.failures)
                used = int(self._sum(len(batch.ids))[0])
                if used < self.least:
                    continue
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate(epoch * self.steps + i)
                self.optimizer.zero_grad()
                loss, hits = self._sum(*self._backward(batch, used))
                if not math.isfinite(loss):
                    raise AosaError(
                        f"the loss is {loss / used} in step {i + 1} of epoch {epoch + 1}; lower train.lr "
                        f"(now {options.lr}) or lengthen train.warmup_epochs, and start again with train.restart=true"
                    )
                if options.clip_norm is not None:
                    self.fabric.clip_gradients(
                        self.learner.network, self.stepper, max_norm=options.clip_norm, error_if_nonfinite=False
                    )
                self.stepper.step()
                total, right, seen = total + loss, right + int(hits), seen + used
                bar.set_postfix(loss=f"{total / seen:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
        for part in _gathered(self.fabric, failures):
            failures.update(part)
        if not seen:
            raise AosaError(f"no training clip could be read; the first reason: {next(iter(failures.values()))}")
        self._average_statistics()
        return {"train_loss": total / seen, "train_accuracy": right / seen}

    def validate(self, clips: Clips) -> Accuracy:
        """Accuracy on clips of which nothing is drawn."""
        if self.clips.features is not None:
            clips.features = clips.features if clips.features is not None else Features()
            self.compute_features(clips)
        result = accuracy(self.judged, clips, self.forward_size, self._workers(clips), self.fabric)
        for part in _gathered(self.fabric, probed):  # the next epoch's shares are others
            probed.update(part)
        return result

    @torch.no_grad()
    def compute_features(self, clips: Clips) -> None:
        """Features of those clips that have none yet; each process computes a share, all get all."""
        assert clips.features is not None
        found = clips.features.found
        missing = [i for i, e in enumerate(clips.entries) if e.id not in found]
        if not missing:
            return
        self.model.network.eval()
        new: dict[str, Tensor | str] = {}
        with _bar(self.fabric, len(missing), "features") as bar:
            batches = in_batches(_share(self.fabric, missing), self.forward_size)
            for batch in clips.batches(batches, self.options.workers):
                new.update(batch.failures)
                if batch.ids:
                    (inputs,) = _head_inputs(self.model, batch.x)[0]
                    new.update(zip(batch.ids, inputs.cpu().unbind(), strict=True))
                _advance(bar, self.fabric, batch)
        for part in _gathered(self.fabric, new):
            found.update(part)

    def _backward(self, batch: Batch, used: int) -> tuple[float, int]:
        """Gradients of this process's share of a step; returns its loss, summed over clips, and its hits."""
        loss_sum, right = 0.0, 0
        x, labels = batch.x, batch.labels
        if not batch.ids:
            # The processes step together: one without a clip takes part with a blank one that counts nothing.
            x, labels = self._blank(), torch.zeros(1, dtype=torch.long)
            self.learner.network.eval()
        parts = list(zip(x.split(self.forward_size), labels.split(self.forward_size), strict=True))
        for i, (part, truth) in enumerate(parts):
            with self.fabric.no_backward_sync(self.learner.network, enabled=i < len(parts) - 1):  # type: ignore[arg-type]
                logits = self.learner.logits(part)
                truth = truth.to(logits.device)
                loss = F.cross_entropy(logits, truth, label_smoothing=self.options.label_smoothing)
                count = len(truth) if batch.ids else 0
                # The processes' gradients are averaged.
                self.fabric.backward(loss * (count * self.fabric.world_size / used))
            if count:
                loss_sum += loss.item() * count
                right += int((logits.argmax(1) == truth).sum())
        self.learner.network.train(self.options.freeze != "backbone")
        return loss_sum, right

    def _blank(self) -> Tensor:
        if self.clips.features is not None:
            some = next(f for f in self.clips.features.found.values() if isinstance(f, Tensor))
            return torch.zeros_like(some)[None]
        return torch.zeros(1, 3, self.model.spec.frames, *self.model.spec.size)

    def _augments(self) -> bool:
        options, keeps = self.options, self.clips.dataset.flip_keeps_class
        return options.crop == "random" or options.window == "random" or (options.flip and keeps)

    def _augmentation(self, epoch: int) -> Augmentation:
        options = self.options
        low, high = options.crop_scale
        return Augmentation(
            key=(self.seed, epoch),
            flip=options.flip,
            window=options.window == "random",
            zoom=(low, high) if options.crop == "random" else None,
        )

    def _average_statistics(self) -> None:
        """Batch norm's running statistics: those of all processes."""
        if self.fabric.world_size > 1:
            for buffer in self.model.network.buffers():
                if buffer.is_floating_point():
                    self.fabric.all_reduce(buffer, reduce_op="mean")  # in place

    def _workers(self, clips: Clips) -> int:
        return self.options.workers if clips.features is None else 0

    def _sum(self, *values: float) -> list[float]:
        """Each value, summed over the processes."""
        return self.fabric.all_reduce(torch.tensor(values, dtype=torch.float64), reduce_op="sum").tolist()  # type: ignore[union-attr]


def _has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def _head_inputs(model: VideoModel, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """What the head was called with, once per call, and the logits."""
    inputs: list[Tensor] = []
    _, last = head(model.network)
    with last.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach())):
        logits = model.logits(x)
    return inputs, logits


@torch.no_grad()
def _replay(model: VideoModel) -> VideoModel | None:
    """A model of the head's inputs that gives the same logits as the whole one gives for clips; None where there is
    no such model, as a try with noise shows."""
    x = torch.rand(2, 3, model.spec.frames, *model.spec.size, generator=generator("replay"))
    inputs, logits = _head_inputs(model, x)
    if len(inputs) != 1 or model.output_layout != "BK":
        return None
    replay = copy.copy(model)
    replay.network = Replay(head(model.network)[1]).eval()
    replay.layout, replay.memory_format = "BCTHW", torch.contiguous_format
    again = replay.logits(inputs[0])
    tolerance = (1e-4 if model.precision == "fp32" else 2e-2) * logits.abs().max()
    same = again.shape == logits.shape and bool((again - logits).abs().max() <= tolerance)
    return replay if same else None


def _share(fabric: Fabric | None, places: Any) -> Any:
    """This process's share of a sequence: every n-th."""
    return places if fabric is None else places[fabric.global_rank :: fabric.world_size]


def _gathered(fabric: Fabric | None, value: Any) -> list[Any]:
    """The value of each process, on all of them."""
    if fabric is None or fabric.world_size == 1:
        return [value]
    return [fabric.broadcast(value, src=rank) for rank in range(fabric.world_size)]


def _bar(fabric: Fabric | None, total: int, title: str) -> tqdm:
    hidden = fabric is not None and not fabric.is_global_zero
    return tqdm(total=total, desc=title, unit="clip", leave=False, disable=hidden)


def _advance(bar: tqdm, fabric: Fabric | None, batch: Batch) -> None:
    """By the clips of all processes: their shares differ by one at most."""
    clips = (len(batch.ids) + len(batch.failures)) * (1 if fabric is None else fabric.world_size)
    bar.update(min(clips, int(bar.total or 0) - int(bar.n)))
