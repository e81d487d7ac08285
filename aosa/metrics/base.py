"""What every metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa.clip import Clip
from aosa.data.base import VideoDataset
from aosa.errors import AosaError, ConfigError
from aosa.explainers.base import Passes
from aosa.fields import Options
from aosa.models.base import VideoModel
from aosa.saliency import SaliencyMap
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

    def __call__(
        self,
        model: VideoModel,
        clip: Clip,
        saliency: SaliencyMap | Tensor | NDArray[Any],
        target: int | None = None,
    ) -> dict[str, object]:
        """Score one map.

        Args:
            saliency: as an explainer gives it; or a bare tensor or array, T×H×W floating numbers.
            target: the class explained. A map has its own; a bare tensor or array does not, so it must be given.

        Raises:
            ConfigError: `target` is not the class that the map explains, or is missing.
            AosaError: the map is not finite, constant, or not of the clip's size.
        """
        if not isinstance(saliency, SaliencyMap):
            if target is None:
                raise ConfigError(
                    f"clip {clip.id!r}: a bare {type(saliency).__name__} does not say which class it explains: give "
                    f"target=, or a SaliencyMap as explainers give it (its with_values keeps the class)"
                )
            saliency = SaliencyMap(saliency, target)  # type: ignore[arg-type]
        elif target is not None and saliency.target != target:
            raise ConfigError(f"clip {clip.id!r}: target={target}, but the map explains class {saliency.target}")
        values = saliency.values
        if saliency.shape != clip.size:
            raise AosaError(f"clip {clip.id!r}: the map is {saliency.shape}, the clip {clip.size} (T, H, W)")
        if not torch.isfinite(values).all():
            raise AosaError(f"clip {clip.id!r}: the map holds NaN or infinity, so its voxels have no order")
        if values.max() == values.min():
            raise AosaError(f"clip {clip.id!r}: the map is constant ({values.min():g}), so its voxels have no order")
        target = model.resolve_target(clip, saliency.target)
        with torch.no_grad(), model.frozen():
            return {"target": target, **self.score(model, clip, values, target)}

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
            raise ConfigError(f"metric={self.name} needs {_NEEDED[self.needs]}, which no clip of {dataset.name} has")

    @abstractmethod
    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        """The metric itself.

        Args:
            saliency: the values of the map, float32 T×H×W on the CPU.
        """

    def passes(self, model: VideoModel, clip: Clip) -> Passes | None:
        """What a record costs at most; None where a metric does not say."""
        return None
