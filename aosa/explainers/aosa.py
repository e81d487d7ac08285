"""AOSA: adaptive occlusion sensitivity analysis."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from aosa.clip import Clip, InputSpec
from aosa.explainers.base import Explainer, Passes
from aosa.fields import option
from aosa.models.base import VideoModel
from aosa.removal.boxes import BoxUnions
from aosa.removal.draws import PatchDraws
from aosa.removal.fills import FILLS, make_fill
from aosa.removal.forward import masked_scores
from aosa.removal.tubes import AdaptiveMasks
from aosa.removal.weighting import WEIGHTINGS, weighted_map


@dataclass
class AOSA(AdaptiveMasks, Explainer):
    """Occlude tubes that follow the motion, joined with those that move alike; weigh them by the score's drop.

    Uchiyama et al., journal III-A, III-B (eq. 1, 2) and WACV 2023 3.1 to 3.3. Costs one forward pass per
    anchor (N = 196 for 112×112 and a stride of 8), plus one; N·samples with the fill ``sampled``.
    ``neighbours=0`` is the papers' AOSA_SGL.

    ``fill="sampled"`` is conditional sampling in full: the score of a mask is the mean over draws from N(μ, Σ), see
    `aosa.removal.draws.PatchDraws`. III-C weighs the draws by their density, which in a sum over draws from it would
    count it twice.

    ``compat="authors"`` also sets ``weighting="authors"``.

    Raises:
        ConfigError: as `aosa.removal.tubes.AdaptiveMasks`.
    """

    name: ClassVar[str] = "aosa"

    fill: str = option("constant", "what replaces occluded voxels", choices=(*FILLS, "sampled"))
    margin: int = option(4, "m of the fills patches, which is μ, and sampled, pixels (journal 4, WACV 10)", low=1)
    samples: int = option(10, "draws per mask of the fill sampled; the papers name no number", low=1)
    window: int = option(9, "n of the fill box_mean, pixels", low=1)
    weighting: str = option(
        "authors", "of the masks: what the papers print, or what their code does", choices=WEIGHTINGS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.authors:
            self.weighting = "authors"

    def identity(self) -> dict[str, object]:
        """Name, version and options; the flow's weights count by content."""
        identity = super().identity()
        if self.flow_weights is not None:
            with Path(self.flow_weights).expanduser().open("rb") as file:
                identity["flow_weights"] = hashlib.file_digest(file, "sha256").hexdigest()
        return identity

    def prepare(self, clip: Clip, spec: InputSpec) -> BoxUnions:
        return self.masks(clip, spec)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: BoxUnions) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        base = float(model.scores(x[None])[0, target])
        if self.fill == "sampled":
            draws = PatchDraws(x, prepared, margin=self.margin, samples=self.samples, seed=self.seed, clip_id=clip.id)
            scores = masked_scores(model, x, draws, draws.fill, target).reshape(len(prepared), -1).mean(axis=1)
        else:
            fill = make_fill(self.fill, x, model.spec, margin=self.margin, window=self.window)
            scores = masked_scores(model, x, prepared, fill, target)
        return weighted_map(prepared, scores, base, self.weighting)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        masks = len(self.prepare(clip, model.spec))
        return Passes(1 + masks * (self.samples if self.fill == "sampled" else 1))
