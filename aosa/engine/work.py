"""The work at a place: each clip is read once, and all that is asked of it is made before the next one comes."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

from omegaconf import DictConfig
from tqdm import tqdm

from aosa.clip import Clip
from aosa.data.base import Entry
from aosa.engine.clock import explain_timed
from aosa.engine.job import Job, Place
from aosa.environment import environment
from aosa.errors import AosaError, CheckpointError, ConfigError
from aosa.files import write_csv
from aosa.memory import out_of_memory
from aosa.metrics.base import Metric
from aosa.saliency import SaliencyMap
from aosa.store.folders import Folder
from aosa.store.shareable import as_cell

FAILED = 3  # exit status: finished, but some videos failed

Saved = tuple[Callable[[], None], Mapping[str, Any]]


class Sample:
    """A video in hand: it is read when its clip is first asked for, once for all that is made of it."""

    def __init__(self, place: Place, entry: Entry) -> None:
        self.place, self.entry = place, entry
        self._clip: Clip | Exception | None = None

    @property
    def clip(self) -> Clip:
        """
        Raises:
            VideoError: it cannot be read; no second try is made.
        """
        if self._clip is None:
            try:
                self._clip = self.place.load(self.entry)
            except Exception as error:
                self._clip = error
        if isinstance(self._clip, Exception):
            raise self._clip
        return self._clip

    @cached_property
    def fingerprint(self) -> str:
        """Of the video's present content."""
        return self.place.dataset.fingerprint(self.entry)


@dataclass
class Task(ABC):
    """One kind of result that every clip of a place gets.

    Args:
        config: kept beside the results.
        folder: where they lie.
        title: what is done, for the progress bar.

    Attributes:
        stage: the stage that makes such results alone; failures name it.
    """

    stage: ClassVar[str]
    config: DictConfig
    folder: Folder
    title: str

    @abstractmethod
    def is_done(self, sample: Sample) -> bool:
        """Whether the result of the video's present content is there.

        Raises:
            AosaError: it cannot be made.
        """

    @abstractmethod
    def make(self, sample: Sample) -> Saved:
        """Make the result. Returns what saves it, and what to keep with its time."""


class MapTask(Task):
    """The map of a job's explainer."""

    stage = "explain"

    def __init__(self, job: Job) -> None:
        super().__init__(job.config, job.maps, f"explain {job.title}")
        self.job = job

    def is_done(self, sample: Sample) -> bool:
        maps = self.job.maps
        return maps.file(sample.entry.id).exists() and maps.valid(sample.entry.id, sample.fingerprint)

    def make(self, sample: Sample) -> Saved:
        job, entry, clip = self.job, sample.entry, sample.clip
        target = job.target(clip)
        saliency, parts = explain_timed(job.explainer, job.model, clip, target)
        names = job.model.class_names
        meta = {
            "clip": entry.id,
            "fingerprint": sample.fingerprint,
            "target_name": names[target] if names else None,
            "label": clip.label,
            "class_name": clip.class_name,
            "group": clip.group,
            "source": clip.source,
        }
        times = {"parts": {name: round(seconds, 6) for name, seconds in parts.items()}}
        return partial(job.maps.save, entry.id, saliency, meta), times


class RecordTask(Task):
    """The record of a metric on the map of a job's explainer."""

    stage = "evaluate"

    def __init__(self, job: Job, metric: Metric, name: str, config: DictConfig) -> None:
        self.records = job.records(metric, name)
        super().__init__(config, self.records, f"evaluate {name} of {job.title}")
        self.job, self.metric = job, metric

    def _load_map(self, sample: Sample) -> tuple[SaliencyMap, dict[str, Any]]:
        maps, clip = self.job.maps, sample.entry.id
        if not maps.file(clip).exists():
            reason = maps.failure(clip)
            raise AosaError(f"it has no map: {reason}" if reason else "it has no map; run explain again")
        saliency, meta = maps.load(clip)
        if meta["fingerprint"] != sample.fingerprint:
            raise AosaError(f"the video of {clip!r} has changed since its map was made; run explain again")
        return saliency, meta

    def is_done(self, sample: Sample) -> bool:
        return bool(self.records.find(sample.entry.id).get("map") == self._load_map(sample)[1]["sha256"])

    def make(self, sample: Sample) -> Saved:
        saliency, meta = self._load_map(sample)
        clip = sample.clip
        record = {
            "clip": sample.entry.id,
            "group": clip.group,
            "class_name": clip.class_name,
            "label": clip.label,
            "map": meta["sha256"],
            **self.metric(self.job.model, clip, saliency),
        }
        return partial(self.records.save, sample.entry.id, record), {}


def work(place: Place, entries: Sequence[Entry], tasks: Sequence[Task], title: str, log: Callable[..., None]) -> int:
    """Do every task for every video that is not done, with a progress bar; go on past those that fail, and list them.

    A failure costs neither the video's other tasks nor the run: it is kept with its reason in the folder's
    ``failures.csv``, and the exit status says so. What stops the whole run is an error of config or checkpoint, too
    little memory, or a result that cannot be written. The time of a result is saved before it, so that a result that
    is there has its time.

    Args:
        tasks: in the order in which they are done for each video; a later one may need what an earlier one made.
        log: is told the progress after each result that was made or failed now.

    Returns:
        exit status: 0, or `FAILED`.

    Raises:
        AosaError: too little memory, or a folder was removed meanwhile.
    """
    about = environment(place.model)
    for task in tasks:
        task.folder.describe(task.config)
    run = _Run(about, log)
    bar = tqdm(entries, desc=title, unit="clip", mininterval=0.5, dynamic_ncols=True)
    try:
        for entry in bar:
            sample = Sample(place, entry)
            reasons = {reason for task in tasks if (reason := run.do(task, sample)) is not None}
            for reason in sorted(reasons):
                tqdm.write(f"failed: {entry.id}: {reason}", file=sys.stderr)
    finally:
        bar.close()
    for task in tasks:
        task.folder.check()
        _list_failures(task.folder, entries)
        if failed := run.failed.get(task.folder):
            where = task.folder.path / "failures.csv"
            print(f"{failed} of {len(entries)} videos failed; reasons in {where}", file=sys.stderr)
    return FAILED if run.failed else 0


class _Run:
    """What was made and what failed so far."""

    def __init__(self, about: Mapping[str, Any], log: Callable[..., None]) -> None:
        self.about, self.log = about, log
        self.made = 0
        self.failed: dict[Folder, int] = {}

    def do(self, task: Task, sample: Sample) -> str | None:
        """One task for one video. Returns why it failed, None when it did not."""
        folder, clip, start = task.folder, sample.entry.id, time.perf_counter()
        seconds = None
        try:
            if not (task.is_done(sample) and folder.has_times(clip)):
                save, more = task.make(sample)
                seconds = round(time.perf_counter() - start, 6)
                folder.time(clip, seconds=seconds, **self.about, **more)
                save()
        except (ConfigError, CheckpointError):
            raise
        except Exception as error:
            own = isinstance(error, OSError) and str(error.filename).startswith(str(folder.path))
            if own or isinstance(error, BrokenPipeError):
                raise
            if memory := out_of_memory(error, self.about["batch_size"]):
                raise memory from None
            reason = str(error) if isinstance(error, AosaError) else f"{type(error).__name__}: {error}"
            folder.fail(clip, task.stage, str(as_cell(reason)))
            self.failed[folder] = self.failed.get(folder, 0) + 1
            self.log(made=self.made, failed=sum(self.failed.values()))
            return reason
        folder.clear_failure(clip)
        if seconds is not None:
            self.made += 1
            self.log(made=self.made, failed=sum(self.failed.values()), seconds=seconds)
            folder.check()
        return None


def _list_failures(folder: Folder, entries: Sequence[Entry]) -> None:
    """Gather the failures of these videos into the folder's ``failures.csv`` (clip, reason)."""
    failed = [{"clip": e.id, "reason": reason} for e in entries if (reason := folder.failure(e.id))]
    write_csv(folder.path / "failures.csv", ["clip", "reason"], failed)
