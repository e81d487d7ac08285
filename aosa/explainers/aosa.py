"""AOSA: adaptive occlusion sensitivity analysis."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from aosa.clip import Clip, InputSpec
from aosa.explainers.base import Explainer, Passes
from aosa.fields import option, part
from aosa.models.base import VideoModel
from aosa.removal.boxes import BoxUnions
from aosa.removal.draws import Sampled
from aosa.removal.fills import FILLS, ClipFill
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
    `aosa.removal.draws.Sampled`. III-C weighs the draws by their density, which in a sum over draws from it would
    count it twice.

    ``compat="authors"`` also sets ``weighting="authors"``.

    Raises:
        ConfigError: as `aosa.removal.tubes.AdaptiveMasks`.
    """

    name: ClassVar[str] = "aosa"
    title: ClassVar[str] = "AOSA"
    titles: ClassVar[dict[str, str]] = {"aosa_single": "AOSA (single mask)"}
    # Options of fills that stood beside the fill before, and still do in an identity, so that maps keep their folders.
    beside_fill: ClassVar[dict[str, object]] = {"margin": 4, "samples": 10, "window": 9}

    fill: ClipFill | Sampled = part("constant", "what replaces occluded voxels", (*FILLS, Sampled))
    weighting: str = option(
        "authors", "of the masks: what the papers print, or what their code does", choices=WEIGHTINGS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.authors:
            self.weighting = "authors"

    def identity(self) -> dict[str, object]:
        """Name, version and options; the flow's weights count by content."""
        identity = {**super().identity(), "fill": self.fill.name, **self.beside_fill, **self.fill.changed()}
        if self.flow_weights is not None:
            with Path(self.flow_weights).expanduser().open("rb") as file:
                identity["flow_weights"] = hashlib.file_digest(file, "sha256").hexdigest()
        return identity

    def prepare(self, clip: Clip, spec: InputSpec) -> BoxUnions:
        return self.masks(clip, spec)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: BoxUnions) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        base = float(model.scores(x[None])[0, target])
        masks, replacement = self.fill.of_masks(x, model.spec, prepared, self.seed, clip.id)
        scores = masked_scores(model, x, masks, replacement, target).reshape(len(prepared), -1).mean(axis=1)
        return weighted_map(prepared, scores, base, self.weighting)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1 + len(self.prepare(clip, model.spec)) * self.fill.draws)
