"""Random replacements of occluded boxes: conditional sampling (AOSA III-C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import InputSpec
from aosa.fields import option
from aosa.removal.boxes import BoxUnions
from aosa.removal.fills import Fill, patch_count, patch_mean
from aosa.removal.forward import Masks, Replacement
from aosa.rng import generator


@dataclass
class Sampled(Fill):
    """Conditional sampling in full: each mask is shown with several draws from N(μ, Σ), see `PatchDraws`."""

    name: ClassVar[str] = "sampled"

    margin: int = option(4, "m, pixels (journal 4, WACV 10)", low=1)
    samples: int = option(10, "draws per mask; the papers name no number", low=1)

    @property
    def draws(self) -> int:
        """How often each mask is shown."""
        return self.samples

    def of_masks(
        self, x: Tensor, spec: InputSpec, masks: BoxUnions, seed: int, clip_id: str
    ) -> tuple[Masks, Replacement]:
        """See `aosa.removal.fills.ClipFill.of_masks`."""
        made = PatchDraws(x, masks, margin=self.margin, samples=self.samples, seed=seed, clip_id=clip_id)
        return made, made.fill


class PatchDraws:
    """Each mask shown several times, its boxes filled with draws from N(μ, Σ).

    μ and Σ are mean and covariance of the box-sized patches that lie in the frame's box enlarged by m pixels, the
    occluded patch itself left out: the n = (2m+1)² − 1 shifts of the frame by up to m pixels (AOSA III-C; Zintgraf et
    al. 2017, but not conditioned on the pixels around, as AOSA has it). A patch holds all three channels: they are
    drawn together. Every box of every frame has a draw of its own, as III-C's v has the size of one frame's box. Of a
    patch that leaves the frame the pixels inside count: next to the border a pixel has fewer than n values, and their
    mean and variance.

    Σ is never formed: with the patches p_k and independent standard normal ε_k, μ + Σ_k ε_k (p_k − μ) / √(n − 1) has
    exactly this mean and covariance.

    Where boxes of one mask overlap, its own box lies above its neighbours', and these in their order. The ε depend on
    seed, clip id, tube and sample alone, so that a tube has the same draws in every mask that it is part of.

    Args:
        x: normalised 3×T×H×W.
        masks: M masks; this describes M·samples, those of one mask after each other. `fill` is their fill.
        margin: m, pixels.
        samples: draws per mask.
        seed, clip_id: of the draws.
    """

    def __init__(self, x: Tensor, masks: BoxUnions, *, margin: int, samples: int, seed: int, clip_id: str) -> None:
        self.masks = masks
        self.margin = margin
        self.samples = samples
        self.key = (seed, clip_id, "patches")
        edges = masks.boxes.reshape(-1, 4)
        self.box = int(np.ptp(edges[:, :2], axis=1).max()), int(np.ptp(edges[:, 2:], axis=1).max())
        self.mean = patch_mean(x, margin)
        self.scale = (patch_count(x, margin)[0, 0] - 1).clamp(min=1).rsqrt()  # H×W
        # A fourth channel, 1 inside the frame, tells how much of the ε fell on pixels. Centred values lose no digits.
        self.centre = x.mean()
        inside = torch.ones_like(x[:1])
        h, w = (margin + side for side in self.box)
        self.padded = F.pad(torch.cat([x - self.centre, inside]), (margin, w, margin, h))

    def __len__(self) -> int:
        return len(self.masks) * self.samples

    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        """See `aosa.removal.forward.Masks.occluded`."""
        mask = np.arange(start, stop) // self.samples
        return self.masks.occluded(mask[0], mask[-1] + 1, device)[mask - mask[0]]

    def fill(self, occluded: Tensor, start: int) -> Tensor:
        """The draws of the masks from `start` on: B×3×T×H×W, μ outside of their boxes."""
        mask, sample = np.divmod(np.arange(start, start + len(occluded)), self.samples)
        new = self.mean[:, None].repeat(1, len(mask), 1, 1, 1)
        for tubes in reversed(self.masks.groups[mask].T):  # the mask's own tube last, above the others
            self._paint(new, tubes, sample)
        return new.transpose(0, 1)

    def noise(self, tube: int, sample: int) -> Tensor:
        """ε of one tube: T×n."""
        n = (2 * self.margin + 1) ** 2 - 1
        return torch.randn(self.masks.size[0], n, generator=generator(*self.key, int(tube), int(sample)))

    def _paint(self, new: Tensor, tubes: np.ndarray, samples: np.ndarray) -> None:
        """Put the draws of one tube each into 3×B×T×H×W."""
        device, m, (h, w) = new.device, self.margin, self.box
        noise = torch.stack([self.noise(*key) for key in zip(tubes, samples, strict=True)]).to(device)
        boxes = torch.from_numpy(self.masks.boxes[tubes]).to(device)  # B×T×4
        top, left = boxes[..., 0:1], boxes[..., 2:3]
        rows = top + torch.arange(h + 2 * m, device=device)
        cols = left + torch.arange(w + 2 * m, device=device)
        frame = torch.arange(boxes.shape[1], device=device)[:, None, None]
        around = self.padded[:, frame, rows[..., :, None], cols[..., None, :]]  # 4×B×T×(h+2m)×(w+2m)
        total = torch.zeros((*around.shape[:3], h, w), device=device)
        shifts = [(dy, dx) for dy in range(2 * m + 1) for dx in range(2 * m + 1) if (dy, dx) != (m, m)]
        for k, (dy, dx) in enumerate(shifts):
            total.addcmul_(around[..., dy : dy + h, dx : dx + w], noise[..., k, None, None])
        in_box = (rows[..., :h] < boxes[..., 1:2])[..., :, None] & (cols[..., :w] < boxes[..., 3:4])[..., None, :]
        b, t, i, j = in_box.nonzero(as_tuple=True)
        y, x = top[b, t, 0] + i, left[b, t, 0] + j
        total = total[:, b, t, i, j]
        mean = self.mean[:, t, y, x]
        new[:, b, t, y, x] = mean + (total[:3] - (mean - self.centre) * total[3]) * self.scale[y, x]
