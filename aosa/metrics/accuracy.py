"""Top-1 and top-5 accuracy of a model, over one or several views of each video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch

from aosa.clip import Clip
from aosa.data.base import Views
from aosa.models.base import VideoModel
from aosa.options import Options, option


@dataclass
class Accuracy(Options):
    """Whether a model classifies a video rightly. It needs no map: ``metric(model, clips, label)``.

    The predictions of all views of a video are averaged; the class with the largest average is the predicted one, ties
    by index.

    Record:
        predicted class; top1 and top5, 1 when the label is the predicted class, or among the five largest, else 0;
        probability of the label (of the averaged scores with ``average="score"``); views, their number.
    """

    owner: ClassVar[str] = "metric"
    name: ClassVar[str] = "accuracy"
    columns: ClassVar[dict[str, str]] = {"top1": "higher", "top5": "higher"}

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
        """
        total, views, waiting = torch.zeros((), dtype=torch.float64), 0, iter(clips)
        with torch.no_grad(), model.frozen():
            while batch := list(islice(waiting, model.batch_size)):
                scores = model.logits(torch.stack([clip.tensor(model.spec) for clip in batch]))
                values = scores.softmax(dim=1) if self.average == "probability" else scores
                total = total + values.double().sum(dim=0).cpu()
                views += len(batch)
        mean = total / views
        order = torch.argsort(mean, descending=True, stable=True)[:5].tolist()
        probabilities = mean if self.average == "probability" else mean.softmax(dim=0)
        return {
            "predicted": order[0],
            "top1": int(order[0] == label),
            "top5": int(label in order),
            "probability": float(probabilities[label]),
            "views": views,
        }
