"""Smooth masks from few numbers, and blurs to apply them with: the tools of extremal perturbation."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from aosa.removal.fills import gaussian_blur
from aosa.rng import generator

COLDNESS = 20.0


class SmoothMax:
    """Up-samples seeds to masks by a smooth maximum over kernels placed on the seeds.

    Fong, Patrick and Vedaldi 2019 (extremal perturbations), 3.3 as their TorchRay computes it: with
    k(d) = exp(−2·max(0, d/σ − ½)²) of a pixel's distance d to a seed's place and q_i = 20·k(d_i)·seed_i, a mask's
    value is Σ softmax(q)_i·k(d_i)·seed_i over the (2r + 1)² seeds around, r = 1 + ⌈σ/step⌉; places outside the grid
    count as seeds of 0. Seed i lies on pixel step·i. The masks also cover a margin of σ around the frame, where the
    area is counted too.

    The sums run over the kernel's places one by one, forward and backward: memory does not grow with r.

    Args:
        size: H, W of the frame, pixels.
        step: pixels between seeds.
        sigma: σ, pixels.
    """

    def __init__(self, size: tuple[int, int], step: int = 7, sigma: int = 11) -> None:
        self.size, self.step, self.sigma = size, step, sigma
        self.grid = (math.ceil(size[0] / step), math.ceil(size[1] / step))
        self.radius = 1 + math.ceil(sigma / step)
        self.padding = 1 + math.ceil(2 * sigma / step)
        self.cells = tuple(n + 2 * (self.padding - self.radius) for n in self.grid)
        self.padded = tuple(step * (n - 1) + 1 for n in self.cells)
        # A pixel's distance to the seeds around depends on its place within its cell alone.
        at = torch.arange(step)[:, None] - sigma - step * (torch.arange(2 * self.radius + 1) - self.padding)
        squares = at.float() ** 2
        distance = (squares[:, None, :, None] + squares[None, :, None, :]).sqrt()
        kernel = torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0) ** 2)
        self.kernel = kernel.flatten(0, 1).flatten(1)  # step² × (2r + 1)²

    def __call__(self, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """N×h×w seeds in [0, 1] → N×H×W masks and the same with their margins, N×H'×W'. Differentiable."""
        (height, width), s = self.size, self.sigma
        around = torch.nn.functional.unfold(seeds[:, None], 2 * self.radius + 1, padding=self.padding)
        values: Tensor = _SmoothMax.apply(around, self.kernel.to(seeds.device))  # type: ignore[assignment]
        cells = values.unflatten(1, (self.step, self.step)).unflatten(3, self.cells)
        padded = cells.permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2)[:, : self.padded[0], : self.padded[1]]
        padded = padded.clamp(0, 1)
        return padded[:, s : s + height, s : s + width], padded


class _SmoothMax(torch.autograd.Function):
    """Seeds around each cell N×K×M, kernel O×K → smooth maxima N×O×M."""

    @staticmethod
    def forward(ctx: Any, around: Tensor, kernel: Tensor) -> Tensor:  # type: ignore[override]
        n, places, cells = around.shape
        top = torch.zeros(n, len(kernel), cells, device=around.device)
        below = torch.zeros_like(top)
        q, e = torch.empty_like(top), torch.empty_like(top)
        for k in range(places):
            _cold(around, kernel, k, q, e)
            below += e
            top.addcmul_(q, e)
        value = top.div_(below).div_(COLDNESS)
        ctx.save_for_backward(around, kernel, value, below)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        around, kernel, value, below = ctx.saved_tensors
        out = torch.empty_like(around)
        share = gradient / below
        # ∂ value / ∂ (k·seed)_i = softmax_i · (1 + q_i − 20·value)
        rest = 1 - COLDNESS * value
        q, e = torch.empty_like(value), torch.empty_like(value)
        for k in range(around.shape[1]):
            _cold(around, kernel, k, q, e)
            out[:, k] = torch.matmul(kernel[:, k], q.add_(rest).mul_(e).mul_(share))
        return out, None


def _cold(around: Tensor, kernel: Tensor, k: int, q: Tensor, e: Tensor) -> None:
    torch.mul(around[:, None, k], COLDNESS * kernel[:, k, None], out=q)
    torch.exp(q, out=e)


class BlurPyramid:
    """The clip at several strengths of blur; a mask picks one per pixel.

    TorchRay's perturbation: `levels` Gaussian blurs per frame, from σ = `strongest` (mask 0) to none (mask 1), with
    zeros around the frame; between two levels the pixel is interpolated linearly.

    Args:
        x: the clip, normalised 3×T×H×W.
    """

    def __init__(self, x: Tensor, levels: int = 8, strongest: float = 20.0) -> None:
        sigmas = [strongest * (1 - i / (levels - 1)) for i in range(levels)]
        self.levels = torch.stack([gaussian_blur(x, 2 * math.ceil(4 * s) + 1, s) if s else x for s in sigmas])

    def __call__(self, masks: Tensor) -> Tensor:
        """N×T×H×W masks in [0, 1] → N×3×T×H×W perturbed clips. Differentiable."""
        last = len(self.levels) - 1
        level = masks[:, None] * last
        low = level.detach().floor().clamp(max=last - 1)
        index = low.long().expand(-1, 3, -1, -1, -1)
        return torch.lerp(self.levels.gather(0, index), self.levels.gather(0, index + 1), level - low)


def rank_loss(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How far the `count` largest of each row are from 1, and the others from 0: sums of squares, each N.

    The template loss of extremal perturbation, ‖sort(v) − r‖² in two parts, without the sort. Which of equal values
    count as larger (all seeds start equal) is the same random choice each time: any other rule would favour a
    corner, and none at all would leave them equal for good (deviation: the public code leaves it to its sort).

    Args:
        values: N×L.
        count: 1 to L.
    """
    known = values.detach()
    border = known.kthvalue(values.shape[1] - count + 1, dim=1, keepdim=True).values
    top, tied = known > border, known == border
    wanted = count - top.sum(dim=1)
    order = _order(values.shape[1]).to(values.device)
    for row in (wanted < tied.sum(dim=1)).nonzero().flatten().tolist():
        among = order.where(tied[row], order.new_full((), math.inf))
        tied[row] = among <= among.kthvalue(int(wanted[row])).values
    top |= tied
    return (top * (values - 1) ** 2).sum(dim=1), (~top * values**2).sum(dim=1)


@lru_cache(maxsize=8)
def _order(length: int) -> Tensor:
    return torch.randperm(length, generator=generator("ties")).to(torch.float64)
