"""What every metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.data.base import VideoDataset
from aosa.errors import AosaError, ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.fields import Options
from aosa.models.base import VideoModel
from aosa.schema import NUMBER, POSITIVE, WHOLE, Kind, optional

_NEEDED = {"boxes": "boxes", "segment": "the segment of the action", "truth": "the true evidence"}


@dataclass
class Metric(Options, ABC):
    """``metric(model, clip, saliency, target=None)`` gives a record: a dict of plain numbers and lists. A subclass is a
    dataclass whose fields are its options.

    `columns` names the record's numbers that a table can show, each with the direction that is better; `weights` names,
    for a column whose table value is a ratio of sums, the record's denominator; `needs` what clips must be annotated
    with: ``boxes``, ``segment`` or ``truth``.
    """

    owner: ClassVar[str] = "metric"
    needs: ClassVar[str] = ""
    columns: ClassVar[dict[str, str]] = {}
    weights: ClassVar[dict[str, str]] = {}

    def __call__(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int | None = None) -> dict[str, object]:
        """Score one map.

        Args:
            saliency: T×H×W, as an explainer gives it.
            target: the class explained; default the one kept with the map.

        Raises:
            ConfigError: `target` is not the class that the map explains.
            AosaError: the map is not finite, constant, or not of the clip's size.
        """
        explained = getattr(saliency, "target", None)
        if explained is not None and target is not None and explained != target:
            raise ConfigError(f"clip {clip.id!r}: target={target}, but the map explains class {explained}")
        if tuple(saliency.shape) != clip.size:
            raise AosaError(f"clip {clip.id!r}: the map is {tuple(saliency.shape)}, the clip {clip.size} (T, H, W)")
        if not torch.isfinite(saliency).all():
            raise AosaError(f"clip {clip.id!r}: the map holds NaN or infinity, so its voxels have no order")
        if saliency.max() == saliency.min():
            raise AosaError(f"clip {clip.id!r}: the map is constant ({saliency.min():g}), so its voxels have no order")
        target = model.resolve_target(clip, explained if target is None else target)
        with torch.no_grad(), model.frozen():
            return {"target": target, **self.score(model, clip, saliency.to(torch.float32).cpu(), target)}

    def schema(self) -> dict[str, Kind]:
        """What each key of a record holds; a metric adds those that its columns and weights do not name."""
        columns = dict.fromkeys(self.columns, optional(NUMBER))
        return {"target": WHOLE, **columns, **dict.fromkeys(self.weights.values(), POSITIVE)}

    def check(self, model: VideoModel, dataset: VideoDataset) -> None:
        """Refuse a data set or a model that the metric is not defined for. The stages ask before they read a clip.

        Raises:
            ConfigError: naming what is lacking.
        """
        if self.needs and dataset.annotated is not None and self.needs not in dataset.annotated:
            raise ConfigError(
                f"metric {type(self).__name__} needs {_NEEDED[self.needs]}, which no clip of {dataset.name} has"
            )

    @abstractmethod
    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        """The metric itself."""

    def passes(self, model: VideoModel, clip: Clip) -> Passes | None:
        """What a record costs at most; None where a metric does not say."""
        return None

    def identity(self) -> dict[str, object]:
        """Name, version and options, an explainer's own identity for an explainer: all that changes a record."""
        return {k: v.identity() if isinstance(v, Explainer) else v for k, v in super().identity().items()}
