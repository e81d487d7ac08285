"""The minimum preservation ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.clip import Clip
from aosa.data.base import VideoDataset
from aosa.explainers.base import Passes
from aosa.explainers.ep3d import EP3D, minimum_preservation_ratio
from aosa.fields import option
from aosa.metrics.base import Metric
from aosa.models.base import VideoModel
from aosa.options import SHARES, check_shares

AREAS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass
class PreservationRatio(Metric):
    """The smallest share of a clip whose learnt mask keeps the class probability at least as high as the whole clip's.

    STEP (Li et al., WACV 2021), 4.2 and Table 2. It tells of the model and of how the masks are learnt, not of a map:
    the explainer learns a mask per share anew, whatever the map's values. The paper leaves open which shares it tries;
    the finer they are, the lower the ratio can be. Costs the explainer's ``iterations`` forward and backward passes
    per share.

    Record:
        min_preservation_ratio, 1 when no share keeps the probability; areas.

    Raises:
        ConfigError: an explainer that learns no masks, or areas that are no shares.
    """

    name: ClassVar[str] = "preservation_ratio"
    columns: ClassVar[dict[str, str]] = {"min_preservation_ratio": "lower"}
    titles: ClassVar[dict[str, str]] = {"min_preservation_ratio": "Min. preservation ratio"}

    explainer: EP3D = option(
        meaning="how masks are learnt: EP-3D (the paper's) or one of its kin; in a run, the run's own",
        expect="an explainer that learns masks: choose explainer=ep3d, ep3d_evenly, ep3d_gaussian or step",
    )
    areas: Sequence[float] = option(AREAS, "the shares to try, learnt together", expect=SHARES)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("metric", areas=self.areas)

    def check(self, model: VideoModel, dataset: VideoDataset) -> None:
        """Also: the explainer must be defined for the model."""
        super().check(model, dataset)
        self.explainer.check(model)

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        ratio = minimum_preservation_ratio(self.explainer, model, clip, target, self.areas)
        return {"min_preservation_ratio": ratio, "areas": sorted(self.areas)}

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        steps = self.explainer.iterations * len(self.areas)
        return Passes(steps + len(self.areas) + 1, steps)
