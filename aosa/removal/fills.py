"""What stands in for occluded voxels: one value per voxel and channel, whatever the mask; or painted per mask."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import InputSpec
from aosa.errors import ConfigError

FILLS = ("constant", "black", "grey", "clip_mean", "blur", "box_mean", "patches")


def make_fill(name: str, x: Tensor, spec: InputSpec, *, margin: int = 4, window: int = 9) -> Tensor:
    """The replacement of every voxel of a clip.

    Args:
        name: ``constant`` 0 in normalised space, the data set's mean colour; ``black``; ``grey``, half of white;
            ``clip_mean``, the mean of each channel over the clip; ``blur``, Gaussian per frame (11×11, σ 5);
            ``box_mean``, the n×n mean around each pixel, zero padding (AOSA authors' code); ``patches``, the mean μ
            of conditional sampling (AOSA III-C, see `patch_mean`).
        x: normalised 3×T×H×W.
        margin: m of ``patches``, pixels.
        window: n of ``box_mean``, pixels.

    Returns:
        A tensor like `x`.

    Raises:
        ConfigError: another name.
    """
    match name:
        case "constant":
            return torch.zeros_like(x)
        case "black":
            mean, std = spec.stats(x.device)
            return (-mean / std).expand_as(x)
        case "grey":
            mean, std = spec.stats(x.device)
            return ((0.5 - mean) / std).expand_as(x)
        case "clip_mean":
            return x.mean(dim=(1, 2, 3), keepdim=True).expand_as(x)
        case "blur":
            return gaussian_blur(x)
        case "box_mean":
            return box_mean(x, window)
        case "patches":
            return patch_mean(x, margin)
    raise ConfigError(f"fill={name}: choose one of {', '.join(FILLS)}")


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


def inpainting(x: Tensor, spec: InputSpec, radius: float = 3.0) -> Callable[[Tensor, int], Tensor]:
    """What is removed is painted from what is left, frame by frame (Telea 2004, OpenCV).

    Args:
        x: normalised 3×T×H×W.
        radius: neighbourhood of a painted pixel, pixels.

    Returns:
        A function of a batch of masks, B×T×H×W (and the index of its first), to its fills, B×3×T×H×W. A pixel counts
        as removed from one half on, and is not seen by the painting; a frame of which nothing is left is black.
    """
    frames = spec.denormalise(x).cpu().numpy()

    def fill(occluded: Tensor, start: int = 0) -> Tensor:
        holes = (occluded >= 0.5).cpu().numpy()
        painted = np.repeat(frames[None], len(holes), axis=0)
        painted[holes] = 0
        for sample, frame in zip(*np.nonzero(holes.any(axis=(2, 3))), strict=True):
            hole = holes[sample, frame]
            if not hole.all():
                painted[sample, frame] = cv2.inpaint(
                    painted[sample, frame], hole.astype(np.uint8), radius, cv2.INPAINT_TELEA
                )
        return torch.stack([spec.normalise(torch.from_numpy(p).to(x.device)) for p in painted])

    return fill
