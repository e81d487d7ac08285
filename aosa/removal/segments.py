"""Cuts a clip into segments that share their fate: a 3D grid, SLIC super-voxels, or either carried by the flow."""

from __future__ import annotations

import cv2
import numpy as np

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.removal.flow import optical_flow


def grid_labels(size: tuple[int, int, int], grid: tuple[int, int, int]) -> np.ndarray:
    """Cuboids numbered frame by frame, row by row: int T×H×W.

    Cell i of g along an axis of length L covers [⌊iL/g⌋, ⌊(i+1)L/g⌋).

    Raises:
        ConfigError: more cells than frames, rows or columns.
    """
    check_grid(size, grid)
    axes = [
        np.searchsorted(np.arange(1, g) * n // g, np.arange(n), side="right") for n, g in zip(size, grid, strict=True)
    ]
    return np.ravel_multi_index(np.ix_(*axes), grid)  # type: ignore[call-overload]


def check_grid(size: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
    """Refuse a grid finer than the clip.

    Raises:
        ConfigError: naming both.
    """
    if any(g > n for g, n in zip(grid, size, strict=True)):
        raise ConfigError(
            f"explainer.grid={list(grid)} is finer than the clip of {'×'.join(map(str, size))} (T×H×W): "
            f"give at most {list(size)}"
        )


def slic_labels(
    frames: np.ndarray, segments: int, compactness: float, spacing: tuple[float, float, float]
) -> np.ndarray:
    """SLIC super-voxels (Achanta et al. 2010, scikit-image): int T×H×W, 0 to R − 1.

    Args:
        frames: uint8 T×H×W×3, RGB; clustered in CIELAB.
        segments: about how many; R depends on the clip.
        compactness: weight of nearness against colour.
        spacing: size of a voxel along time, height and width; 0.2 in time makes long segments.
    """
    from skimage.segmentation import slic  # slow to import, and only this segmentation needs it

    labels = slic(frames, n_segments=segments, compactness=compactness, spacing=spacing, start_label=0)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def carried_labels(frames: np.ndarray, first: np.ndarray, flow: str) -> np.ndarray:
    """The segments of the first frame carried along the flow: int T×H×W.

    A pixel belongs to the segment that it came from: the flow from each frame back to the one before is followed to
    the first frame in real-valued steps, and the label read at the nearest pixel. What enters the frame later takes
    the label at the border.

    Args:
        frames: uint8 T×H×W×3.
        first: int H×W, labels of the first frame.
        flow: see `aosa.removal.flow.optical_flow`.
    """
    h, w = first.shape
    here = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float32)
    origin: np.ndarray = here
    labels = [first]
    for back in optical_flow(frames[::-1], flow)[::-1]:
        at = here + back
        origin = cv2.remap(origin, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        x, y = np.rint(origin).astype(np.int64).transpose(2, 0, 1)
        labels.append(first[y.clip(0, h - 1), x.clip(0, w - 1)])
    return np.stack(labels)


def segment(
    clip: Clip,
    method: str,
    *,
    grid: tuple[int, int, int],
    segments: int,
    compactness: float,
    spacing: tuple[float, float, float],
    flow: str | None,
) -> np.ndarray:
    """The segments of a clip: int T×H×W, 0 to R − 1, none of them empty.

    Args:
        method: ``grid`` or ``slic``.
        grid: cells along time, height and width.
        segments, compactness, spacing: see `slic_labels`.
        flow: None segments the clip as a whole. Else the clip is cut into ``grid[0]`` equal pieces of time, and the
            segments of each piece's first frame (``grid[1]``×``grid[2]``, or about segments / ``grid[0]``
            superpixels) are carried along the flow.

    Raises:
        ConfigError: a grid finer than the clip.
    """
    if flow is None:
        if method == "grid":
            return grid_labels(clip.size, grid)
        return slic_labels(clip.frames.numpy(), segments, compactness, spacing)
    check_grid(clip.size, grid)
    pieces, count = [], 0
    for frames in np.split(clip.frames.numpy(), [i * clip.size[0] // grid[0] for i in range(1, grid[0])]):
        if method == "grid":
            first = grid_labels((1, *clip.size[1:]), (1, *grid[1:]))[0]
        else:
            first = slic_labels(frames[:1], max(1, segments // grid[0]), compactness, spacing)[0]
        pieces.append(carried_labels(frames, first, flow) + count)
        count += int(first.max()) + 1
    return np.concatenate(pieces)
