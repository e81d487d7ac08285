"""What stands in for removed voxels: one value per voxel and channel, whatever the mask; or painted per mask.

A fill is a small class with its own options. Who takes one says so by `aosa.fields.part`, and a user gives its name
(``blur``), its name with options (``{name: blur, sigma: 8}``), or in Python the object (``Blur(sigma=8)``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import InputSpec
from aosa.errors import ConfigError
from aosa.fields import Part, option
from aosa.removal.boxes import BoxUnions
from aosa.removal.forward import Masks, Replacement
from aosa.removal.regions import Regions


@dataclass
class Fill(Part):
    """What a fill is called and which options it has."""

    owner: ClassVar[str] = "fill"


@dataclass
class ClipFill(Fill, ABC):
    """A fill that is the same whatever the mask. A subclass says in `__call__` what it is."""

    draws: ClassVar[int] = 1  # how often each mask is shown

    @abstractmethod
    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        """The replacement of every voxel of a clip, normalised 3×T×H×W: a tensor like it."""

    def of_regions(self, x: Tensor, spec: InputSpec, regions: Regions) -> Replacement:
        """What replaces regions of the clip."""
        return self(x, spec)

    def of_masks(
        self, x: Tensor, spec: InputSpec, masks: BoxUnions, seed: int, clip_id: str
    ) -> tuple[Masks, Replacement]:
        """The masks, each `draws` times in a row, and what replaces them."""
        return masks, self(x, spec)


@dataclass
class Constant(ClipFill):
    """One colour: 0 in normalised space, the data set's mean colour, or one of your own."""

    name: ClassVar[str] = "constant"

    colour: tuple[float, float, float] | None = option(
        None,
        "red, green and blue in [0, 1]; default the data set's mean",
        low=0,
        high=1,
        expect="null, or [red, green, blue], numbers from 0 to 1",
    )

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return torch.zeros_like(x) if self.colour is None else _flat(self.colour, x, spec)


@dataclass
class Black(ClipFill):
    """Black."""

    name: ClassVar[str] = "black"

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return _flat((0.0, 0.0, 0.0), x, spec)


@dataclass
class Grey(ClipFill):
    """Half of white."""

    name: ClassVar[str] = "grey"

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return _flat((0.5, 0.5, 0.5), x, spec)


@dataclass
class ClipMean(ClipFill):
    """The mean of each channel over the clip."""

    name: ClassVar[str] = "clip_mean"

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return x.mean(dim=(1, 2, 3), keepdim=True).expand_as(x)


@dataclass
class Blur(ClipFill):
    """Gaussian blur of each frame.

    Raises:
        ConfigError: an option out of its range, or a kernel without a centre.
    """

    name: ClassVar[str] = "blur"

    sigma: float = option(5.0, "standard deviation, pixels", low=0.01)
    size: int = option(11, "side of the kernel, pixels, odd; 6σ and more cut nothing off", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 2 == 0:
            raise ConfigError(f"fill.size={self.size}: give an odd number, so that the blur's kernel has a centre")

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return gaussian_blur(x, self.size, self.sigma)


@dataclass
class BoxMean(ClipFill):
    """The n×n mean around each pixel, zero padding (AOSA authors' code)."""

    name: ClassVar[str] = "box_mean"

    window: int = option(9, "n, pixels", low=1)

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return box_mean(x, self.window)


@dataclass
class Patches(ClipFill):
    """The mean μ of conditional sampling (AOSA III-C), see `patch_mean`."""

    name: ClassVar[str] = "patches"

    margin: int = option(4, "m, pixels (journal 4, WACV 10)", low=1)

    def __call__(self, x: Tensor, spec: InputSpec) -> Tensor:
        return patch_mean(x, self.margin)


@dataclass
class RegionMean(Fill):
    """The mean colour of each region, see `aosa.removal.regions.Regions.mean_colour`."""

    name: ClassVar[str] = "region_mean"

    def of_regions(self, x: Tensor, spec: InputSpec, regions: Regions) -> Replacement:
        """See `ClipFill.of_regions`."""
        return regions.mean_colour(x)


@dataclass
class Inpaint(Fill):
    """What is removed is painted from what is left, frame by frame (Telea 2004, OpenCV).

    A pixel counts as removed from one half on, and is not seen by the painting; a frame of which nothing is left is
    black.
    """

    name: ClassVar[str] = "inpaint"

    radius: float = option(3.0, "neighbourhood of a painted pixel, pixels", low=1)

    def of_regions(self, x: Tensor, spec: InputSpec, regions: Regions) -> Replacement:
        """See `ClipFill.of_regions`."""
        frames = spec.denormalise(x).cpu().numpy()

        def fill(occluded: Tensor, start: int = 0) -> Tensor:
            holes = (occluded >= 0.5).cpu().numpy()
            painted = np.repeat(frames[None], len(holes), axis=0)
            painted[holes] = 0
            for sample, frame in zip(*np.nonzero(holes.any(axis=(2, 3))), strict=True):
                hole = holes[sample, frame]
                if not hole.all():
                    painted[sample, frame] = cv2.inpaint(
                        painted[sample, frame], hole.astype(np.uint8), self.radius, cv2.INPAINT_TELEA
                    )
            return torch.stack([spec.normalise(torch.from_numpy(p).to(x.device)) for p in painted])

        return fill


FILLS: tuple[type[ClipFill], ...] = (Constant, Black, Grey, ClipMean, Blur, BoxMean, Patches)
REGION_FILLS: tuple[type[Fill], ...] = (Black, Grey, RegionMean, Blur, Inpaint, Constant, ClipMean)


def _flat(colour: tuple[float, float, float], x: Tensor, spec: InputSpec) -> Tensor:
    """A colour in [0, 1], all over a tensor like `x`."""
    mean, std = spec.stats(x.device)
    return ((torch.tensor(colour, dtype=torch.float32, device=x.device).view(3, 1, 1, 1) - mean) / std).expand_as(x)


def gaussian_blur(x: Tensor, size: int = 11, sigma: float = 5.0) -> Tensor:
    """Gaussian blur of each frame of 3×T×H×W, zero padding, kernel normalised to sum 1."""
    at = torch.arange(size, dtype=torch.float32, device=x.device) - (size - 1) / 2
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    c, t, h, w = x.shape
    frames = x.reshape(c * t, 1, h, w)
    frames = F.conv2d(frames, kernel.view(1, 1, -1, 1), padding=(size // 2, 0))
    frames = F.conv2d(frames, kernel.view(1, 1, 1, -1), padding=(0, size // 2))
    return frames.view(c, t, h, w)


def box_mean(x: Tensor, n: int) -> Tensor:
    """Mean over the n×n window around each pixel of 3×T×H×W, per frame and channel; outside the frame counts
    as 0. An even n covers [i − (n−1)//2, i + n//2]."""
    before, after = (n - 1) // 2, n // 2
    return F.avg_pool2d(F.pad(x, (before, after, before, after)), n, stride=1)


def patch_mean(x: Tensor, margin: int) -> Tensor:
    """Mean μ of the box-sized patches around an occluded box, the occluded patch itself left out.

    The patches lie in the box enlarged by m pixels, so they are the (2m+1)² − 1 shifts of the clip by up to
    m pixels other than zero; μ at a pixel is the mean of its neighbours within m pixels that lie in the
    frame, and does not depend on the mask (AOSA III-C; Zintgraf et al. 2017).
    """
    n = 2 * margin + 1
    # The pixel itself would be both summed and left out: centred values lose no digits to that.
    offset = x.mean()
    window = box_mean(x - offset, n) * n * n
    return (window - (x - offset)) / patch_count(x, margin) + offset


def patch_count(x: Tensor, margin: int) -> Tensor:
    """How many of the patches of `patch_mean` have each pixel inside the frame: 1×1×H×W."""
    n = 2 * margin + 1
    return (box_mean(torch.ones_like(x[:1, :1]), n) * n * n).round() - 1
