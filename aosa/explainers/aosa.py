"""AOSA: adaptive occlusion sensitivity analysis."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.models.base import VideoModel
from aosa.options import check_choice, check_whole
from aosa.removal.draws import PatchDraws
from aosa.removal.fills import FILLS, make_fill
from aosa.removal.forward import masked_scores
from aosa.removal.tubes import AdaptiveMasks
from aosa.removal.weighting import WEIGHTINGS, weighted_map


class AOSA(Explainer):
    """Occlude tubes that follow the motion, joined with those that move alike; weigh them by the score's drop.

    Uchiyama et al., journal III-A, III-B (eq. 1, 2) and WACV 2023 3.1 to 3.3. Costs one forward pass per
    anchor (N = 196 for 112×112 and a stride of 8), plus one; N·samples with the fill ``sampled``.

    Args:
        stride: s, distance between anchors, pixels.
        box: side of the occluding box, pixels, or [height, width].
        neighbours: K, masks joined with each mask; 0 is the papers' AOSA_SGL.
        similarity: which ones; ``cosine`` (eq. 1) | ``norm_cosine`` | ``norm`` | ``random``.
        temporal_stride: n, distance between the frames on which anchors start; None = on the first only.
        uncovered: start later anchors only where no earlier tube is.
        flow: ``farneback`` | ``dis`` | ``raft_small``.
        flow_weights: file of the weights of ``raft_small``.
        fill: what replaces occluded voxels, see `aosa.removal.fills.make_fill`; or ``sampled``, conditional sampling
            in full: the score of a mask is the mean over draws from N(μ, Σ), see `aosa.removal.draws.PatchDraws`
            (III-C weighs the draws by their density, which in a sum over draws from it would count it twice).
        margin: m of the fills ``patches``, which is μ, and ``sampled``, pixels (journal 4, WACV 10).
        samples: draws per mask of ``sampled``; the papers name no number.
        window: n of the fill ``box_mean``, pixels.
        weighting: ``authors`` | ``paper``, see `aosa.removal.weighting.weighted_map`. The papers print the
            latter; the default is what their code does.
        displacement, subpixel, letter_box, similarity, temporal_stride, uncovered: see
            `aosa.removal.tubes.AdaptiveMasks`.
        compat: ``authors`` follows the authors' code to the last choice (and sets the weighting).
        seed: of ``similarity=random`` and ``fill=sampled``, with the clip's id.

    Raises:
        ConfigError: an option out of its range.
    """

    fills: ClassVar[tuple[str, ...]] = (*FILLS, "sampled")

    def __init__(
        self,
        stride: int = 8,
        box: int | tuple[int, int] = 16,
        neighbours: int = 3,
        similarity: str = "cosine",
        temporal_stride: int | None = None,
        uncovered: bool = False,
        flow: str = "farneback",
        flow_weights: str | None = None,
        fill: str = "constant",
        margin: int = 4,
        samples: int = 10,
        window: int = 9,
        weighting: str = "authors",
        displacement: str = "positions",
        subpixel: bool = False,
        letter_box: bool = False,
        compat: str | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("explainer", fill=(fill, self.fills), weighting=(weighting, WEIGHTINGS))
        check_whole("explainer", margin=(margin, 1), samples=(samples, 1), window=(window, 1))
        self.masks = AdaptiveMasks(
            stride=stride,
            box=box,
            neighbours=neighbours,
            similarity=similarity,
            temporal_stride=temporal_stride,
            uncovered=uncovered,
            flow=flow,
            flow_weights=flow_weights,
            displacement=displacement,
            subpixel=subpixel,
            letter_box=letter_box,
            compat=compat,
            seed=seed,
        )
        self.stride = stride
        self.box = box
        self.neighbours = neighbours
        self.similarity = similarity
        self.temporal_stride = temporal_stride
        self.uncovered = uncovered
        self.flow = flow
        self.flow_weights = flow_weights
        self.fill = fill
        self.margin = margin
        self.samples = samples
        self.window = window
        self.weighting = "authors" if compat == "authors" else weighting
        self.displacement = displacement
        self.subpixel = subpixel
        self.letter_box = letter_box
        self.compat = compat
        self.seed = seed

    def identity(self) -> dict[str, object]:
        """See `Explainer.identity`; the flow's weights count by content."""
        identity = super().identity()
        if self.flow_weights is not None:
            with Path(self.flow_weights).expanduser().open("rb") as file:
                identity["flow_weights"] = hashlib.file_digest(file, "sha256").hexdigest()
        return identity

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec).to(model.device)
        masks = self.masks(clip, model.spec)
        base = float(model.scores(x[None])[0, target])
        if self.fill == "sampled":
            draws = PatchDraws(x, masks, margin=self.margin, samples=self.samples, seed=self.seed, clip_id=clip.id)
            scores = masked_scores(model, x, draws, draws.fill, target).reshape(len(masks), -1).mean(axis=1)
        else:
            fill = make_fill(self.fill, x, model.spec, margin=self.margin, window=self.window)
            scores = masked_scores(model, x, masks, fill, target)
        return weighted_map(masks, scores, base, self.weighting)
