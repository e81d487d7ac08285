"""Top-1 and top-5 accuracy of a model, over one or several views of each video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch

from aosa.clip import Clip
from aosa.data.base import Views
from aosa.errors import ConfigError
from aosa.fields import Options, option
from aosa.models.base import VideoModel
from aosa.models.outputs import activate
from aosa.schema import NUMBER, WHOLE, Kind


@dataclass
class Accuracy(Options):
    """Whether a model classifies a video rightly. It needs no map: ``metric(model, clips, label)``.

    The predictions of all views of a video are averaged; the class with the largest average is the predicted one, ties
    by index.

    Of a model of several classes at once (head ``sigmoid``) it asks whether the label is among those with the highest
    scores.

    Record:
        predicted class; top1 and top5, 1 when the label is the predicted class, or among the five largest, else 0;
        probability of the label (of the averaged scores with ``average="score"``); views, their number.
    """

    owner: ClassVar[str] = "metric"
    name: ClassVar[str] = "accuracy"
    columns: ClassVar[dict[str, str]] = {"top1": "higher", "top5": "higher"}
    titles: ClassVar[dict[str, str]] = {"top1": "Top-1", "top5": "Top-5"}

    clips: int | str = option(1, "windows of a video, see `aosa.data.base.Views`")
    crops: int = option(1, "crops of a window")
    sampling: str = option("uniform", "where the windows lie")
    average: str = option(
        "probability",
        "average each view's probability, or its score before the softmax (TSN)",
        choices=("probability", "score"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.views = Views(self.clips, self.crops, self.sampling)

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
                    raise ConfigError(f"metric=accuracy chooses among classes, and {model.name} has a single output")
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
                f"metric=accuracy is for models that classify, and {model.name} (model.head=identity) gives numbers"
            )
