"""Top-1 and top-5 accuracy of a model, over one or several views of each video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import torch

from aosa.clip import Clip
from aosa.data.base import Views
from aosa.engine.job import Place
from aosa.engine.work import Sample, Saved, Task
from aosa.errors import ConfigError
from aosa.fields import option
from aosa.models.base import VideoModel
from aosa.models.outputs import activate
from aosa.schema import NUMBER, TEXT, WHOLE, Kind
from aosa.store.folders import RecordFolder, digest


@dataclass
class Accuracy(Views):
    """Whether a model classifies a video rightly.

    The predictions of all views of a video are averaged; the class with the largest average is the predicted one, ties
    by index.

    Of a model of several classes at once (head ``sigmoid``) it asks whether the label is among those with the highest
    scores.

    Record:
        predicted class; top1 and top5, 1 when the label is the predicted class, or among the five largest, else 0;
        probability of the label (of the averaged scores with ``average="score"``); views, their number.
    """

    name: ClassVar[str] = "accuracy"
    columns: ClassVar[dict[str, str]] = {"top1": "higher", "top5": "higher"}
    titles: ClassVar[dict[str, str]] = {"top1": "Top-1", "top5": "Top-5"}

    average: str = option(
        "probability",
        "average each view's probability, or its score before the softmax (TSN)",
        choices=("probability", "score"),
    )

    def __call__(self, model: VideoModel, clips: Iterable[Clip], label: int) -> dict[str, object]:
        """The record of one video.

        Args:
            clips: its views; taken as they are needed, so that a generator holds few of them at a time.
            label: index of the true class among the model's.

        Raises:
            ConfigError: a model without classes to choose from.
        """
        self.check(model)
        total, views, waiting = torch.zeros((), dtype=torch.float64), 0, iter(clips)
        with torch.no_grad(), model.frozen():
            while batch := list(islice(waiting, model.batch_size)):
                scores = model.logits(torch.stack([clip.tensor(model.spec) for clip in batch]))
                if scores.shape[1] == 1:
                    raise ConfigError(f"accuracy chooses among classes, and {model.name} has a single output")
                values = activate(scores, model.head) if self.average == "probability" else scores
                total = total + values.double().sum(dim=0).cpu()
                views += len(batch)
        mean = total / views
        order = torch.argsort(mean, descending=True, stable=True)[:5].tolist()
        probabilities = mean if self.average == "probability" else activate(mean[None], model.head)[0]
        return {
            "predicted": order[0],
            "top1": int(order[0] == label),
            "top5": int(label in order),
            "probability": float(probabilities[label]),
            "views": views,
        }

    def schema(self) -> dict[str, Kind]:
        hit = Kind("0 or 1", lambda v: WHOLE.fits(v) and v <= 1)
        return {"predicted": WHOLE, "top1": hit, "top5": hit, "probability": NUMBER, "views": WHOLE}

    def check(self, model: VideoModel) -> None:
        """Refuse a model that does not classify.

        Raises:
            ConfigError: its head is ``identity``.
        """
        if model.head == "identity":
            raise ConfigError(
                f"accuracy is for models that classify, and {model.name} (model.head=identity) gives numbers"
            )


class AccuracyTask(Task):
    """Whether a model classifies a video rightly: of those whose class it knows."""

    stage = "accuracy"

    def __init__(self, place: Place, accuracy: Accuracy) -> None:
        self.records = accuracy_records(place, accuracy)
        super().__init__(place.config, self.records, f"accuracy of {place.model.name} on {place.dataset.name}")
        self.place, self.accuracy = place, accuracy

    def is_done(self, sample: Sample) -> bool:
        return bool(self.records.find(sample.entry.id).get("fingerprint") == sample.fingerprint)

    def make(self, sample: Sample) -> Saved:
        place, entry = self.place, sample.entry
        label = place.label(entry.class_name)
        assert label is not None
        clips = place.dataset.load_views(entry, place.model.spec, self.accuracy)
        record = {
            "clip": entry.id,
            "group": entry.group,
            "class_name": entry.class_name,
            "label": label,
            "fingerprint": sample.fingerprint,
            **self.accuracy(place.model, clips, label),
        }
        return partial(self.records.save, entry.id, record), {}


def accuracy_records(place: Place, accuracy: Accuracy) -> RecordFolder:
    """Where a model's records lie: ``<output_root>/records/<dataset>/<model>/accuracy-<digest>/``."""
    identity: dict[str, object] = {
        "dataset": place.dataset.identity(),
        "model": place.model_identity,
        "metric": accuracy.identity(),
    }
    path = Path(place.config.output_root) / "records" / place.dataset.name / place.model.name
    schema = {**place.record_schema, "fingerprint": TEXT, **accuracy.schema()}
    return RecordFolder(path / f"{accuracy.name}-{digest(identity)}", identity, schema)
