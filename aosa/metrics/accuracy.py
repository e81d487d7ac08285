"""Top-1 and top-5 accuracy of a model, over one or several views of each video."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import ClassVar

import torch

from aosa.clip import Clip
from aosa.data.base import Views
from aosa.errors import ConfigError
from aosa.models.base import VideoModel
from aosa.models.outputs import activate
from aosa.options import check_choice, options_of
from aosa.schema import NUMBER, WHOLE, Kind


class Accuracy:
    """Whether a model classifies a video rightly. It needs no map: ``metric(model, clips, label)``.

    The predictions of all views of a video are averaged; the class with the largest average is the predicted one, ties
    by index.

    Of a model of several classes at once (head ``sigmoid``) it asks whether the label is among those with the highest
    scores.

    Args:
        clips, crops, sampling: the views, see `aosa.data.base.Views`; one by default.
        average: of what the average is taken: each view's ``probability`` (after the head's softmax, as mmaction2 and
            3D-ResNets), or its ``score`` (before it, as TSN).

    Record:
        predicted class; top1 and top5, 1 when the label is the predicted class, or among the five largest, else 0;
        probability of the label (of the averaged scores with ``average="score"``); views, their number.
    """

    version = 1
    columns: ClassVar[dict[str, str]] = {"top1": "higher", "top5": "higher"}

    def __init__(
        self, clips: int | str = 1, crops: int = 1, sampling: str = "uniform", average: str = "probability"
    ) -> None:
        self.views = Views(clips, crops, sampling)
        check_choice("metric", average=(average, ("probability", "score")))
        self.clips, self.crops, self.sampling, self.average = clips, crops, sampling, average

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
        """See `Metric.schema`."""
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

    def identity(self) -> dict[str, object]:
        """Class, version and options: all that changes a record."""
        return options_of(self)
