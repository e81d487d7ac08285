"""Occlusion tubes that follow the optical flow, and their integration (AOSA III-A, III-B)."""

from __future__ import annotations

import numpy as np
import torch

from aosa.clip import Clip, InputSpec
from aosa.errors import ConfigError
from aosa.options import check_choice, check_whole
from aosa.removal.boxes import BoxUnions
from aosa.removal.flow import FLOWS, optical_flow

# The authors' unpublished rule is written for 112 rows; as fractions it serves any size.
_LETTER_BOX_MEAN = 15.5
_LETTER_BOX_ANCHORS = (12 / 112, 100 / 112)
_LETTER_BOX_BOUNDS = (16 / 112, 96 / 112)


class AdaptiveMasks:
    """Turns a clip into its adaptive occlusion masks.

    Args:
        stride: distance s between anchors on the first frame, pixels; they lie at s/2 + k·s.
        box: side of the square box around an anchor, pixels, or (height, width).
        neighbours: K, how many of the most co-occurring masks are united with each mask (eq. 1); 0 = none.
        flow: ``farneback`` or ``dis``.
        displacement: ``positions``, differences of the tracked positions (the paper's), or ``flow``, the
            raw flow read at the anchor (the authors' code).
        subpixel: accumulate real-valued positions; else they are rounded to the pixel grid each frame,
            so that motion under half a pixel a frame never moves a box.
        letter_box: if the mean of the top and bottom three rows over the clip is below 15.5 of 255, anchor
            only between the bars and stop a tube that reaches them (the authors' unpublished rule).
        compat: ``authors`` follows the authors' code to the last choice: the letter-box rule, frames floored to
            8 bits and turned grey with red and blue exchanged, displacement = raw flow, a tube ends when its
            unrounded position leaves [0, H−1], own similarity 0 instead of excluded, ties as NumPy's default
            sort leaves them.

    Raises:
        ConfigError: an option out of its range.
    """

    def __init__(
        self,
        *,
        stride: int,
        box: int | tuple[int, int],
        neighbours: int,
        flow: str,
        displacement: str,
        subpixel: bool,
        letter_box: bool,
        compat: str | None,
    ) -> None:
        self.box = tuple(box) if isinstance(box, list | tuple) else (box, box)
        if len(self.box) != 2:
            raise ConfigError(f"explainer.box={box}: give a side, or [height, width]")
        check_whole("explainer", stride=(stride, 1), neighbours=(neighbours, 0))
        for side in self.box:
            check_whole("explainer", box=(side, 1))
        check_choice(
            "explainer",
            flow=(flow, tuple(FLOWS)),
            displacement=(displacement, ("positions", "flow")),
            subpixel=(subpixel, (True, False)),
            letter_box=(letter_box, (True, False)),
            compat=(compat, (None, "authors")),
        )
        self.stride = stride
        self.neighbours = neighbours
        self.flow = flow
        self.displacement = "flow" if compat == "authors" else displacement
        self.subpixel = subpixel
        self.letter_box = letter_box or compat == "authors"
        self.authors = compat == "authors"

    def __call__(self, clip: Clip, spec: InputSpec) -> BoxUnions:
        """The masks of a clip, in the order of their anchors (row by row).

        Raises:
            ConfigError: no anchor fits the frame, or fewer anchors than neighbours asked for.
        """
        _, h, w = clip.size
        frames = _floored(clip, spec) if self.authors else clip.frames.numpy()
        bars = self.letter_box and has_letter_box(frames)
        anchors = anchor_grid(h, w, self.stride, bars)
        if len(anchors) <= self.neighbours:
            raise ConfigError(
                f"explainer.stride={self.stride} leaves {len(anchors)} anchors on {h}×{w} frames, "
                f"explainer.neighbours={self.neighbours} needs more"
            )
        flow = optical_flow(frames, self.flow, swap_channels=self.authors)
        positions, alive, raw = track(
            anchors, flow, subpixel=self.subpixel, strict=self.authors, bounds=_LETTER_BOX_BOUNDS if bars else None
        )
        boxes = tube_boxes(positions, alive, self.box, (h, w))  # type: ignore[arg-type]
        groups = np.arange(len(anchors))[:, None]
        if self.neighbours:
            moves = raw if self.displacement == "flow" else np.diff(positions, axis=1)
            partners = _authors_partners if self.authors else co_occurring
            groups = np.concatenate([groups, partners(moves, self.neighbours)], axis=1)
        return BoxUnions(boxes, groups, clip.size)


def _floored(clip: Clip, spec: InputSpec) -> np.ndarray:
    """The frames as the authors' code sees them: the normalised input turned back by the inverse
    transform in float32, × 255, fraction cut off."""
    mean, std = spec.stats()
    pixels = clip.tensor(spec).sub(-mean / std).div(1 / std).mul(255)
    return pixels.clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()


def has_letter_box(frames: np.ndarray) -> bool:
    """Whether the top and bottom three rows of a uint8 T×H×W×3 clip are nearly black on average."""
    rows = np.concatenate([frames[:, :3], frames[:, -3:]], axis=1)
    return float(rows.mean()) < _LETTER_BOX_MEAN


def anchor_grid(height: int, width: int, stride: int, bars: bool = False) -> np.ndarray:
    """Anchors (y, x) at s/2 + k·s, row by row: int N×2; between the bars only if there are any."""
    y = np.arange(stride / 2, height, stride).astype(np.int64)
    x = np.arange(stride / 2, width, stride).astype(np.int64)
    if bars:
        low, high = (edge * height for edge in _LETTER_BOX_ANCHORS)
        y = y[(y >= low) & (y <= high)]
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def track(
    anchors: np.ndarray,
    flow: np.ndarray,
    *,
    subpixel: bool = False,
    strict: bool = False,
    bounds: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow anchors along the flow, read at the nearest pixel.

    Args:
        anchors: N×2, (y, x).
        flow: (T−1)×H×W×2, (dx, dy).
        subpixel: keep real-valued positions instead of rounding (half to even) each frame.
        strict: a tube ends when its unrounded position leaves [0, H−1] × [0, W−1]; else when the rounded does.
        bounds: rows, as fractions of the height, outside which a tube ends as well.

    Returns:
        positions N×T×2, rounded and held inside the frame; alive, bool N×T, False from the first frame
        outside on; raw flow N×(T−1)×2 as (dy, dx). An ended tube is followed on along the border, so that
        its displacements still count in the co-occurrence.
    """
    steps, h, w = flow.shape[:3]
    last = np.array([h - 1, w - 1])
    exact = anchors.astype(np.float64)
    pixel = np.rint(exact).astype(np.int64)
    alive = np.ones(len(anchors), dtype=bool)
    positions, living, raw = [exact if subpixel else pixel], [alive], []
    for t in range(steps):
        move = flow[t, pixel[:, 0], pixel[:, 1]][:, ::-1].astype(np.float64)
        moved = (exact if subpixel else pixel) + move
        test = moved if strict else np.rint(moved)
        alive = alive & (test >= 0).all(axis=1) & (test <= last).all(axis=1)
        if bounds is not None:
            alive = alive & (moved[:, 0] >= bounds[0] * h) & (moved[:, 0] <= bounds[1] * h)
        exact = np.clip(moved, 0, last)
        pixel = np.rint(exact).astype(np.int64)
        positions.append(exact if subpixel else pixel)
        living.append(alive)
        raw.append(move)
    moves = np.stack(raw, axis=1) if raw else np.zeros((len(anchors), 0, 2))
    return np.stack(positions, axis=1), np.stack(living, axis=1), moves


def tube_boxes(positions: np.ndarray, alive: np.ndarray, box: tuple[int, int], frame: tuple[int, int]) -> np.ndarray:
    """Boxes [y − h//2, y + h − h//2) around N×T×2 positions, clipped to the frame, empty where not alive:
    int N×T×4 (y0, y1, x0, x1)."""
    centre = np.rint(positions).astype(np.int64)
    edges = []
    for axis, (side, length) in enumerate(zip(box, frame, strict=True)):
        low = centre[..., axis] - side // 2
        edges += [np.clip(low, 0, length), np.clip(low + side, 0, length)]
    return np.where(alive[..., None], np.stack(edges, axis=-1), 0)


def co_occurring(moves: np.ndarray, k: int) -> np.ndarray:
    """The K tubes whose displacement vectors have the largest cosine with each tube's (eq. 1): int N×K.

    A tube is not its own neighbour. A tube that never moves has cosine 0 with every other. Ties (cosines
    equal to twelve digits) go to the lower index.
    """
    vectors = moves.reshape(len(moves), -1).astype(np.float64)
    norm = np.linalg.norm(vectors, axis=1) + 1e-10
    cosine = np.round((vectors @ vectors.T) / (norm[:, None] * norm[None, :]), 12)
    np.fill_diagonal(cosine, -np.inf)
    return np.argsort(-cosine, axis=1, kind="stable")[:, :k]


def _authors_partners(moves: np.ndarray, k: int) -> np.ndarray:
    """As `co_occurring`, in the authors' order of operations: float32 vectors of all dx and dy per frame,
    own similarity 0 (not excluded), the last K of NumPy's default ascending sort."""
    vectors = np.ascontiguousarray(moves[..., ::-1].reshape(len(moves), -1), dtype=np.float32)
    norm = np.linalg.norm(vectors, axis=1)
    products = vectors @ vectors.T
    chosen = []
    for i, row in enumerate(products):
        similarity = row / (norm + 1e-10) / (norm[i] + 1e-10)
        similarity[i] = 0
        chosen.append(np.argsort(similarity)[-k:])
    return np.stack(chosen)
