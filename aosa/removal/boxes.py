"""Masks that are unions of boxes, one set of boxes per frame.

Such a mask is never stored as voxels. Three things can be asked of it: its voxels for a small batch
(`BoxUnions.occluded`), the sum of a volume over it (`BoxUnions.sum`), and its adjoint, a weighted sum
of masks (`BoxUnions.splat`). The last two cost O(T) per mask, whatever the size of the boxes, and are
exact where boxes of one union overlap: the edges of a union's boxes cut the frame into a small grid of
cells, each wholly inside or outside the union, and a cell's sum is four reads of a summed-area table.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class BoxUnions:
    """M masks over a T×H×W clip, each the union of up to G tubes out of N.

    Args:
        boxes: int N×T×4, per tube and frame (y0, y1, x0, x1), half-open, clipped to the frame;
            an empty box (y0 = y1) occludes nothing.
        groups: int M×G, the tubes that each mask unites (a tube may occur twice).
        size: T, H, W.
    """

    def __init__(self, boxes: np.ndarray, groups: np.ndarray, size: tuple[int, int, int]) -> None:
        self.boxes = np.ascontiguousarray(boxes, dtype=np.int64)
        self.groups = np.ascontiguousarray(groups, dtype=np.int64)
        self.size = size

    def __len__(self) -> int:
        return len(self.groups)

    def occluded(self, start: int, stop: int, device: torch.device | str = "cpu") -> Tensor:
        """Masks `start` to `stop` as voxels: bool B×T×H×W, True = occluded."""
        _, h, w = self.size
        boxes = torch.from_numpy(self.boxes[self.groups[start:stop]]).to(device).transpose(1, 2)  # B×T×G×4
        y = torch.arange(h, device=device)
        x = torch.arange(w, device=device)
        rows = (y >= boxes[..., 0:1]) & (y < boxes[..., 1:2])  # B×T×G×H
        cols = (x >= boxes[..., 2:3]) & (x < boxes[..., 3:4])  # B×T×G×W
        return (rows.transpose(-1, -2).float() @ cols.float()) > 0

    def sum(self, volume: np.ndarray) -> np.ndarray:
        """Sum of a T×H×W volume over each mask's occluded voxels: float64 M."""
        table = np.zeros((self.size[0], self.size[1] + 1, self.size[2] + 1))
        np.cumsum(volume, axis=1, dtype=np.float64, out=table[:, 1:, 1:])
        np.cumsum(table, axis=2, out=table)
        flat = table.ravel()
        total = np.zeros(len(self))
        for start, corners, inside in self._cells():
            at = flat[corners]
            cells = at[:, :, 1:, 1:] - at[:, :, :-1, 1:] - at[:, :, 1:, :-1] + at[:, :, :-1, :-1]
            total[start : start + len(at)] = np.where(inside, cells, 0.0).sum(axis=(1, 2, 3))
        return total

    def splat(self, weights: np.ndarray) -> np.ndarray:
        """Σ_m weights[m] · occluded_m: float64 T×H×W, the adjoint of `sum`."""
        t, h, w = self.size
        grid = np.zeros(t * (h + 1) * (w + 1))
        for start, corners, inside in self._cells():
            cells = inside * weights[start : start + len(corners), None, None, None]
            at = np.zeros(corners.shape)
            at[:, :, :-1, :-1] += cells
            at[:, :, 1:, :-1] -= cells
            at[:, :, :-1, 1:] -= cells
            at[:, :, 1:, 1:] += cells
            grid += np.bincount(corners.ravel(), weights=at.ravel(), minlength=grid.size)
        return grid.reshape(t, h + 1, w + 1).cumsum(axis=1).cumsum(axis=2)[:, :h, :w]

    def share(self) -> np.ndarray:
        """Share of the clip's voxels that each mask occludes: float64 M, in [0, 1]."""
        return self.sum(np.ones(self.size)) / np.prod(self.size)

    def _cells(self, chunk: int = 256):  # type: ignore[no-untyped-def]
        """Per chunk of masks: its first index, the flat corner positions of the cell grid in a
        T×(H+1)×(W+1) table (B×T×2G×2G), and which cells lie inside the union (B×T×(2G−1)×(2G−1))."""
        t, h, w = self.size
        frame = (np.arange(t) * (h + 1) * (w + 1))[None, :, None, None]
        for start in range(0, len(self), chunk):
            boxes = self.boxes[self.groups[start : start + chunk]].transpose(0, 2, 1, 3)  # B×T×G×4
            ys = np.sort(boxes[..., :2].reshape(*boxes.shape[:2], -1), axis=-1)
            xs = np.sort(boxes[..., 2:].reshape(*boxes.shape[:2], -1), axis=-1)
            top, left = ys[..., None, :-1], xs[..., None, :-1]
            rows = (top >= boxes[..., 0:1]) & (top < boxes[..., 1:2])  # B×T×G×(2G−1)
            cols = (left >= boxes[..., 2:3]) & (left < boxes[..., 3:4])
            inside = np.matmul(rows.swapaxes(-1, -2).astype(np.float32), cols.astype(np.float32)) > 0
            yield start, frame + ys[..., :, None] * (w + 1) + xs[..., None, :], inside
