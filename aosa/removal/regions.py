"""Regions that are removed together, and what can be asked of them.

A sample is described by which of the R regions it keeps, bool N×R. `masks` shows a few samples at a time as voxels;
`paint` turns one value per region into a map; `mean_colour` is the removal by each region's own mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aosa.removal.forward import Masks, Replacement
from aosa.removal.segments import check_grid


class Regions(Protocol):
    """R regions of a T×H×W clip."""

    count: int

    def masks(self, kept: np.ndarray) -> Masks:
        """The masks of N samples, from bool N×R."""
        ...

    def paint(self, values: np.ndarray) -> Tensor:
        """A float32 T×H×W map from float R."""
        ...

    def mean_colour(self, x: Tensor) -> Replacement:
        """A fill of the clip 3×T×H×W by the mean of what is removed."""
        ...


class Segments:
    """Disjoint segments with hard edges.

    Args:
        labels: int T×H×W, 0 to R − 1.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        self.count = int(self.labels.max()) + 1

    def masks(self, kept: np.ndarray) -> Masks:
        """See `Regions.masks`."""
        return _SegmentMasks(kept, self.labels)

    def paint(self, values: np.ndarray) -> Tensor:
        """Each voxel has its segment's value."""
        return torch.from_numpy(values)[self.labels].float()

    def mean_colour(self, x: Tensor) -> Tensor:
        """Each voxel has its segment's mean: 3×T×H×W."""
        return _segment_means(x, self.labels)[:, self.labels.to(x.device)]


class _SegmentMasks:
    def __init__(self, kept: np.ndarray, labels: Tensor) -> None:
        self.removed = torch.from_numpy(~kept)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.removed)

    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        """See `Masks.occluded`."""
        self.labels = self.labels.to(device)
        part = self.removed[start:stop].to(device)
        return part.index_select(1, self.labels.flatten()).view(len(part), *self.labels.shape)


class SoftGrid:
    """The nodes of a coarse grid; masks and map are linear between them (RISE as REVEX has it).

    The outer nodes lie on the outermost voxels, so that the up-sampled mask is the one of REVEX's code.

    Args:
        grid: nodes along time, height and width.
        size: T, H, W.

    Raises:
        ConfigError: more nodes than frames, rows or columns.
    """

    def __init__(self, grid: tuple[int, int, int], size: tuple[int, int, int]) -> None:
        check_grid(size, grid)
        self.grid = grid
        self.count = int(np.prod(grid))
        self.axes = [_linear(g, n) for g, n in zip(grid, size, strict=True)]

    def masks(self, kept: np.ndarray) -> Masks:
        """See `Regions.masks`: float, the share of each voxel that is removed."""
        return _GridMasks(kept, self.grid, self.axes)

    def paint(self, values: np.ndarray) -> Tensor:
        """The nodes' values, linear between them."""
        nodes = torch.from_numpy(values).view(1, *self.grid)
        return _spread(nodes, [axis.double() for axis in self.axes])[0].float()

    def mean_colour(self, x: Tensor) -> Tensor:
        """Each node has the mean over the voxels nearest to it, linear between nodes: 3×T×H×W."""
        t, h, w = (axis.argmax(dim=1) for axis in self.axes)
        _, g, k = self.grid
        nearest = (t[:, None, None] * g + h[:, None]) * k + w
        means = _segment_means(x, nearest).view(3, *self.grid)
        return _spread(means, [axis.to(x.device) for axis in self.axes])


class Windows:
    """A cuboid at every half of its own length: (2·4−1)·(2·7−1)² = 1183 for a grid of 4×7×7 (REVEX's SOS).

    Window i of length L/g begins at voxel rint(iL/2g). Windows overlap: a voxel is removed if any window that is
    removed covers it.

    Args:
        grid: the clip's length over the window's, along time, height and width.
        size: T, H, W.

    Raises:
        ConfigError: windows of less than a voxel.
    """

    def __init__(self, grid: tuple[int, int, int], size: tuple[int, int, int]) -> None:
        check_grid(size, grid)
        self.grid = tuple(2 * g - 1 for g in grid)
        self.count = int(np.prod(self.grid))
        self.size = size
        self.cover = []
        for g, n in zip(grid, size, strict=True):
            low = np.rint(np.arange(2 * g - 1) * n / (2 * g))
            high = np.rint(low + n / g)
            at = np.arange(n)[:, None]
            self.cover.append(torch.from_numpy((at >= low) & (at < high)).float())

    def masks(self, kept: np.ndarray) -> Masks:
        """See `Regions.masks`."""
        return _WindowMasks(kept, self.grid, self.cover)

    def paint(self, values: np.ndarray) -> Tensor:
        """The grid of windows zoomed linearly to the clip, first and last window at its ends."""
        return SoftGrid(self.grid, self.size).paint(values)  # type: ignore[arg-type]

    def mean_colour(self, x: Tensor) -> Callable[[Tensor, int], Tensor]:
        """The mean over what a sample removes, per sample."""

        def fill(occluded: Tensor, start: int = 0) -> Tensor:
            where = occluded.flatten(1).float()
            total = where @ x.flatten(1).T  # B×3
            return (total / where.sum(dim=1, keepdim=True).clamp(min=1))[:, :, None, None, None]

        return fill


class _GridMasks:
    def __init__(self, kept: np.ndarray, grid: tuple[int, ...], axes: list[Tensor]) -> None:
        self.removed = torch.from_numpy(~kept).float().view(-1, *grid)
        self.axes = axes

    def __len__(self) -> int:
        return len(self.removed)

    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        """See `Masks.occluded`."""
        self.axes = [axis.to(device) for axis in self.axes]
        return _spread(self.removed[start:stop].to(device), self.axes)


class _WindowMasks(_GridMasks):
    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        """See `Masks.occluded`."""
        return super().occluded(start, stop, device) > 0


def _linear(nodes: int, length: int) -> Tensor:
    """Weights of linear interpolation from evenly spaced nodes, the outer ones on the ends: float32 L×g."""
    at = np.linspace(0, nodes - 1, length)
    return torch.from_numpy((1 - np.abs(at[:, None] - np.arange(nodes))).clip(min=0)).float()


def _spread(nodes: Tensor, axes: list[Tensor]) -> Tensor:
    """Apply one L×g matrix per axis: B×a×b×c → B×T×H×W."""
    t, h, w = axes
    nodes = torch.einsum("ta,nabc->ntbc", t, nodes)
    return h @ nodes @ w.T


def _segment_means(x: Tensor, labels: Tensor) -> Tensor:
    """Mean of 3×T×H×W over each segment: 3×R, on the device of `x`."""
    flat = labels.flatten().numpy()
    size = np.bincount(flat)
    means = [np.bincount(flat, weights=channel) / size for channel in x.flatten(1).double().cpu().numpy()]
    return torch.from_numpy(np.stack(means)).to(x)
