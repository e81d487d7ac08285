"""AOSA: adaptive occlusion sensitivity analysis."""

from __future__ import annotations

from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.models.base import VideoModel
from aosa.options import check_choice, check_whole
from aosa.removal.fills import FILLS, make_fill
from aosa.removal.forward import masked_probabilities
from aosa.removal.tubes import AdaptiveMasks
from aosa.removal.weighting import WEIGHTINGS, weighted_map


class AOSA(Explainer):
    """Occlude tubes that follow the motion, joined with those that move alike; weigh them by the score's drop.

    Uchiyama et al., journal III-A, III-B (eq. 1, 2) and WACV 2023 3.1 to 3.3. Costs one forward pass per
    anchor (N = 196 for 112×112 and a stride of 8), plus one.

    Args:
        stride: s, distance between anchors, pixels.
        box: side of the occluding box, pixels, or [height, width].
        neighbours: K, masks joined with each mask; 0 is the papers' AOSA_SGL.
        flow: ``farneback`` | ``dis``.
        fill: what replaces occluded voxels, see `aosa.removal.fills.make_fill`.
        margin: m of the fill ``patches``, pixels (journal 4, WACV 10).
        window: n of the fill ``box_mean``, pixels.
        weighting: ``authors`` | ``paper``, see `aosa.removal.weighting.weighted_map`. The papers print the
            latter; the default is what their code does.
        displacement, subpixel, letter_box: see `aosa.removal.tubes.AdaptiveMasks`.
        compat: ``authors`` follows the authors' code to the last choice (and sets the weighting).

    Raises:
        ConfigError: an option out of its range.
    """

    def __init__(
        self,
        stride: int = 8,
        box: int | tuple[int, int] = 16,
        neighbours: int = 3,
        flow: str = "farneback",
        fill: str = "constant",
        margin: int = 4,
        window: int = 9,
        weighting: str = "authors",
        displacement: str = "positions",
        subpixel: bool = False,
        letter_box: bool = False,
        compat: str | None = None,
    ) -> None:
        check_choice("explainer", fill=(fill, FILLS), weighting=(weighting, WEIGHTINGS))
        check_whole("explainer", margin=(margin, 1), window=(window, 1))
        self.masks = AdaptiveMasks(
            stride=stride,
            box=box,
            neighbours=neighbours,
            flow=flow,
            displacement=displacement,
            subpixel=subpixel,
            letter_box=letter_box,
            compat=compat,
        )
        self.stride = stride
        self.box = box
        self.neighbours = neighbours
        self.flow = flow
        self.fill = fill
        self.margin = margin
        self.window = window
        self.weighting = "authors" if compat == "authors" else weighting
        self.displacement = displacement
        self.subpixel = subpixel
        self.letter_box = letter_box
        self.compat = compat

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec).to(model.device)
        masks = self.masks(clip, model.spec)
        fill = make_fill(self.fill, x, model.spec, margin=self.margin, window=self.window)
        base = float(model.probabilities(x[None])[0, target])
        return weighted_map(masks, masked_probabilities(model, x, masks, fill, target), base, self.weighting)
