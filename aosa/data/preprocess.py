"""From source pixels to the model's input and back: the same geometry for frames, boxes and maps."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import InputSpec
from aosa.data.base import View


class Geometry:
    """Resize, then crop: the centre, or where a view says.

    Coordinates are those of pixel edges: pixel i covers [i, i + 1). The size after the resize is
    rounded to whole pixels, and boxes and maps follow the rounded size, so that they stay on the frames.

    Args:
        source_size: height and width of the source in pixels.
        spec: ``resize="short"`` scales the short side to ``short`` (default: the longer side of
            ``size``) and keeps the aspect; ``"squash"`` scales both sides to ``size``.
        view: where the crop lies, and with ``zoom`` how large it is: a rectangle of whole source pixels that is
            then resized to ``size`` by itself (``short`` plays no part). The crops left, centre and right of a view
            are mmaction2's three: 0, d // 2 and 2·(d // 2) pixels into the d that the frame is larger.

    Attributes:
        scale, offset: y and x; a source coordinate times scale, minus offset, is one of the model's input.
    """

    def __init__(self, source_size: tuple[int, int], spec: InputSpec, view: View | None = None) -> None:
        height, width = source_size
        view = view or View()
        self.source_size = (height, width)
        self.size = spec.size
        self._part: tuple[slice, slice] = np.s_[:, :]
        if view.zoom is not None:
            self._zoom(spec, view)
            return
        if spec.resize == "squash":
            self.resized = spec.size
        else:
            scale = (spec.short or max(spec.size)) / min(height, width)
            self.resized = (round(height * scale), round(width * scale))
        self.scale = (self.resized[0] / height, self.resized[1] / width)
        self._corner = (
            _place(self.resized[0] - self.size[0], view.down),
            _place(self.resized[1] - self.size[1], view.across),
        )
        self.offset: tuple[float, float] = self._corner

    def _zoom(self, spec: InputSpec, view: View) -> None:
        """Cut the crop out of the source, and resize what is cut to the size of the input."""
        assert view.zoom is not None
        (height, width), (h, w) = self.source_size, self.size
        fits = (height / h, width / w)
        if spec.resize == "short":
            fits = (min(fits), min(fits))
        cut_height, cut_width = max(1, round(view.zoom * fits[0] * h)), max(1, round(view.zoom * fits[1] * w))
        top, left = round((height - cut_height) * view.down), round((width - cut_width) * view.across)
        self._part = np.s_[top : top + cut_height, left : left + cut_width]
        self.resized = self.size
        self.scale = (h / cut_height, w / cut_width)
        self._corner = (0, 0)
        self.offset = (top * self.scale[0], left * self.scale[1])

    def frames(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """uint8 T×H×W×3 → uint8 T×h×w×3: area-averaged when shrinking, bilinear when enlarging."""
        return self.crop(self.resize(frame) for frame in frames)

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """uint8 H×W×3 → the resized frame that the crop is cut from; the same for all views without a zoom."""
        frame = frame[self._part]
        if frame.shape[:2] == self.resized:
            return frame
        way = cv2.INTER_AREA if max(self.scale) < 1 else cv2.INTER_LINEAR
        return cv2.resize(frame, self.resized[::-1], interpolation=way)

    def crop(self, resized: Iterable[np.ndarray]) -> np.ndarray:
        """Resized frames → uint8 T×h×w×3."""
        (top, left), (height, width) = self._corner, self.size
        return np.stack([frame[top : top + height, left : left + width] for frame in resized])

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


def _place(spare: int, share: float) -> int:
    """Where a crop begins along an axis on which the frame is `spare` pixels larger."""
    return round(spare // 2 * 2 * share)
