"""Labelled clips for training: which view of a video, in which order, and features kept instead of clips."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aosa.data.base import Entry, VideoDataset, View
from aosa.data.choose import limited
from aosa.engine.job import model_class
from aosa.errors import ConfigError, VideoError
from aosa.models import VideoModel
from aosa.rng import generator
from aosa.video.decode import VideoInfo, probed
from aosa.video.image_range import ImageRange

Item = tuple[str, Tensor, int] | tuple[str, str]
Probed = dict[tuple[Path | ImageRange, tuple[int, int]], VideoInfo]


class Batch(NamedTuple):
    """N inputs, their N labels and ids, the (id, reason) of the clips that could not be used, and what was probed."""

    x: Tensor
    labels: Tensor
    ids: list[str]
    failures: list[tuple[str, str]]
    probed: Probed


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each clip of an epoch, by the key (`key`, clip id) alone.

    Args:
        key: (seed, epoch).
        flip: mirror every other clip.
        window: let the window begin anywhere.
        zoom: range of the crop's side (see `aosa.data.base.View`), the crop anywhere; None = the centre crop.
    """

    key: tuple[object, ...]
    flip: bool = False
    window: bool = False
    zoom: tuple[float, float] | None = None

    def view(self, id: str) -> View | None:
        """The part of the video; None = the data set's own window and crop."""
        if not self.window and self.zoom is None:
            return None
        # All four are drawn always, so that one option does not change the others' draws.
        start, across, down, share = torch.rand(4, generator=generator(*self.key, "view", id)).tolist()
        begin = start if self.window else None
        if self.zoom is None:
            return View(start=begin)
        low, high = self.zoom
        return View(start=begin, across=across, down=down, zoom=min(high, low + share * (high - low)))

    def mirrored(self, id: str) -> bool:
        return self.flip and bool(torch.rand(1, generator=generator(*self.key, id)) < 0.5)


@dataclass
class Features:
    """What a frozen backbone gives for each clip, by id; or the reason why a clip has none."""

    found: dict[str, Tensor | str] = field(default_factory=dict)


class Clips(Dataset[Item]):
    """The labelled clips of a data set as input tensors.

    Args:
        limit: only so many of them, see `aosa.data.choose.limited`.

    Raises:
        ConfigError: no clips, a clip without a class, a class that the model lacks.
    """

    def __init__(self, dataset: VideoDataset, model: VideoModel, limit: int | None = None) -> None:
        self.dataset, self.spec = dataset, model.spec
        self.entries: list[Entry] = limited(dataset.entries, limit)
        if not self.entries:
            raise ConfigError(f"dataset {dataset.name} has no videos to train or judge on")
        unnamed = [e.id for e in self.entries if e.class_name is None]
        if unnamed:
            raise ConfigError(f"dataset {dataset.name}: {unnamed[0]!r} has no class, so it cannot be trained on")
        index = {
            name: model.class_index(model_class(dataset, name)) for name in {str(e.class_name) for e in self.entries}
        }
        self.labels = [index[str(e.class_name)] for e in self.entries]
        self.augmentation: Augmentation | None = None
        self.features: Features | None = None

    def take(self, indices: Iterable[int], augmentation: Augmentation | None = None) -> Clips:
        """These clips, in this order."""
        other, chosen = copy.copy(self), list(indices)
        other.entries = [self.entries[i] for i in chosen]
        other.labels = [self.labels[i] for i in chosen]
        other.augmentation = augmentation
        return other

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Item:
        entry = self.entries[i]
        if self.features is not None and entry.id in self.features.found:
            found = self.features.found[entry.id]
            return (entry.id, found) if isinstance(found, str) else (entry.id, found, self.labels[i])
        draws = self.augmentation
        view = None if draws is None else draws.view(entry.id)
        try:
            clip = self.dataset.load(entry, self.spec) if view is None else self.dataset.load(entry, self.spec, view)
        except VideoError as error:
            return entry.id, str(error)
        x = clip.tensor(self.spec)
        if draws is not None and self.dataset.flip_keeps_class and draws.mirrored(entry.id):
            x = x.flip(-1)
        return entry.id, x, self.labels[i]

    def __getitems__(self, places: Sequence[int]) -> tuple[list[Item], Probed]:
        """The items of a batch, and what was probed for them, which would end with the worker that found it."""
        before = len(probed)
        items = [self[i] for i in places]
        return items, dict(islice(reversed(probed.items()), len(probed) - before))

    def lengths(self) -> dict[str, list[Any]]:
        """What is known of the clips' videos, by id: size and time of change of the file, then the `VideoInfo`."""
        known = {path: [*state, *astuple(info)] for (path, state), info in probed.items()}
        return {e.id: known[e.path] for e in self.entries if e.path in known}

    def know(self, lengths: dict[str, list[Any]]) -> None:
        """Take over what `lengths` told: it holds for the files that have not changed."""
        for entry in self.entries:
            if entry.path is not None and entry.id in lengths:
                size, changed, *info = lengths[entry.id]
                if len(info) == len(fields(VideoInfo)):
                    probed[entry.path, (size, changed)] = VideoInfo(*info)

    def batches(self, order: Sequence[Sequence[int]], workers: int) -> Iterator[Batch]:
        """The clips at these places, batch by batch, made by so many processes; a video is probed by one of them."""
        loader: Iterable[Batch] = DataLoader(
            self,
            batch_sampler=order,  # type: ignore[arg-type]
            num_workers=workers,
            # A spawned process would spawn its own, which takes seconds each epoch.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            collate_fn=_collate,  # type: ignore[arg-type]
            worker_init_fn=partial(_begin, probed) if workers else None,
        )
        threads = cv2.getNumThreads()
        if workers:
            cv2.setNumThreads(1)  # a forked process would wait for OpenCV's threads, which it does not have
        batches = iter(loader)
        cv2.setNumThreads(threads)
        for batch in batches:
            probed.update(batch.probed)
            yield batch


def in_batches(places: Sequence[int], size: int) -> list[Sequence[int]]:
    """The places cut into batches, the last of which may be short."""
    return [places[i : i + size] for i in range(0, len(places), size)]


def _collate(made: tuple[list[Item], Probed]) -> Batch:
    items, found = made
    good = [item for item in items if len(item) == 3]
    return Batch(
        x=torch.stack([x for _, x, _ in good]) if good else torch.empty(0),
        labels=torch.tensor([label for _, _, label in good], dtype=torch.long),
        ids=[id for id, _, _ in good],
        failures=[item for item in items if len(item) == 2],
        probed=found,
    )


def _begin(known: Probed, worker: int) -> None:
    probed.update(known)  # a spawned worker begins with nothing
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
