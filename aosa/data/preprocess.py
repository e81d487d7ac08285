"""From source pixels to the model's input and back: the same geometry for frames, boxes and maps."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import InputSpec


class Geometry:
    """Resize, then crop the centre.

    Coordinates are those of pixel edges: pixel i covers [i, i + 1). The size after the resize is
    rounded to whole pixels, and boxes and maps follow the rounded size, so that they stay on the frames.

    Args:
        source_size: height and width of the source in pixels.
        spec: ``resize="short"`` scales the short side to ``short`` (default: the longer side of
            ``size``) and keeps the aspect; ``"squash"`` scales both sides to ``size``.
    """

    def __init__(self, source_size: tuple[int, int], spec: InputSpec) -> None:
        height, width = source_size
        self.source_size = (height, width)
        self.size = spec.size
        if spec.resize == "squash":
            self.resized = spec.size
        else:
            scale = (spec.short or max(spec.size)) / min(height, width)
            self.resized = (round(height * scale), round(width * scale))
        self.scale = (self.resized[0] / height, self.resized[1] / width)
        self.offset = ((self.resized[0] - self.size[0]) // 2, (self.resized[1] - self.size[1]) // 2)

    def frames(self, frames: np.ndarray) -> np.ndarray:
        """uint8 T×H×W×3 → uint8 T×h×w×3: area-averaged when shrinking, bilinear when enlarging."""
        (top, left), (height, width) = self.offset, self.size
        out = np.empty((len(frames), height, width, 3), np.uint8)
        shrinks = max(self.scale) < 1
        for i, frame in enumerate(frames):
            if self.resized != self.source_size:
                frame = cv2.resize(
                    frame, self.resized[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                )
            out[i] = frame[top : top + height, left : left + width]
        return out

    def boxes(self, boxes: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Per frame N×4 (x0, y0, x1, y1) in source pixels → float32 M×4 in pixels of the model's input,
        clipped to it; a box of which nothing is left is dropped."""
        scale, offset = (np.array([v[1], v[0]] * 2, np.float64) for v in (self.scale, self.offset))
        limit = np.array([self.size[1], self.size[0]] * 2, np.float64)
        out = []
        for rows in boxes:
            rows = np.asarray(rows, np.float64).reshape(-1, 4) * scale - offset
            rows = rows.clip(0, limit)
            kept = (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
            out.append(rows[kept].astype(np.float32))
        return out

    def unmap(self, saliency: Tensor) -> Tensor:
        """T×h×w in the model's input → float32 T×H×W at source size, bilinear, 0 outside the crop."""
        inside, axes = [], []
        for length, size, scale, offset in zip(self.source_size, self.size, self.scale, self.offset, strict=True):
            position = (torch.arange(length, dtype=torch.float64) + 0.5) * scale - offset
            inside.append((position >= 0) & (position <= size))
            axes.append((position / size * 2 - 1).to(torch.float32))
        grid = torch.stack(torch.meshgrid(axes[1], axes[0], indexing="xy"), dim=-1)
        values = saliency.detach().to("cpu", torch.float32)[None]
        full = F.grid_sample(values, grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
        return full * (inside[0][:, None] & inside[1][None, :])
