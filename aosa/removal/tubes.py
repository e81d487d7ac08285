"""Occlusion tubes that follow the optical flow, and their integration (AOSA III-A, III-B)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from aosa.clip import Clip, InputSpec
from aosa.errors import ConfigError
from aosa.fields import Options, option
from aosa.removal.boxes import BoxUnions
from aosa.removal.flow import FLOWS, optical_flow, raft_small
from aosa.rng import generator

SIMILARITIES = ("cosine", "norm_cosine", "norm", "random")

# The authors' unpublished rule is written for 112 rows; as fractions it serves any size.
_LETTER_BOX_MEAN = 15.5
_LETTER_BOX_ANCHORS = (12 / 112, 100 / 112)
_LETTER_BOX_BOUNDS = (16 / 112, 96 / 112)


@dataclass
class AdaptiveMasks(Options):
    """Turns a clip into its adaptive occlusion masks.

    ``similarity``: ``cosine`` is eq. 1. The other three are ablations of the authors' code: ``norm_cosine`` compares
    the vectors of lengths per frame and is blind to direction; ``norm`` takes the smallest difference of the summed
    lengths; ``random`` draws K others from (seed, clip id). The authors' own ``random`` cuts a permutation into groups
    of K, so that there are N/K masks; their k-means is not offered.

    ``temporal_stride`` (the authors' code; the papers have none): anchors also start on frames n, 2n, …. They are
    followed and occlude from there on to the end, never backwards, and count as still before.

    ``compat="authors"`` follows the authors' code to the last choice. It sets ``letter_box=True``,
    ``displacement="flow"`` and, with a temporal stride, ``uncovered=True``. Beyond these: frames floored to 8 bits and
    turned grey with red and blue exchanged; a tube ends when its unrounded position leaves [0, H−1]; own similarity 0
    instead of excluded; ties as NumPy's default sort leaves them. With a temporal stride also: positions rounded
    towards zero, and covered is judged by where the earlier tubes, ended ones too, stand a frame later.

    Raises:
        ConfigError: an option out of its range; ``uncovered`` without a temporal stride; ``random`` with ``compat``.
    """

    owner: ClassVar[str] = "explainer"

    stride: int = option(8, "s, distance between anchors on the first frame, pixels; they lie at s/2 + k·s", low=1)
    box: int | tuple[int, int] = option(
        16,
        "side of the box around an anchor, pixels, or (height, width)",
        low=1,
        expect="a side, or [height, width], whole numbers of at least 1",
    )
    neighbours: int = option(3, "K, how many co-occurring masks are joined with each mask; 0 = none", low=0)
    similarity: str = option("cosine", "what co-occurs, from the displacements of all tubes", choices=SIMILARITIES)
    temporal_stride: int | None = option(
        None, "n, distance between frames on which anchors start; None = on the first only", low=1
    )
    uncovered: bool = option(False, "start later anchors only where no box of an earlier one lies over them")
    flow: str = option("farneback", "optical flow", choices=(*FLOWS, "raft_small"))
    flow_weights: str | None = option(None, "file of the weights of raft_small")
    displacement: str = option(
        "positions",
        "differences of the tracked positions (the paper's), or the raw flow read at the anchor (the authors' code)",
        choices=("positions", "flow"),
    )
    subpixel: bool = option(
        False, "keep real-valued positions; else motion under half a pixel a frame never moves a box"
    )
    letter_box: bool = option(
        False,
        "if the top and bottom three rows are nearly black (mean below 15.5 of 255), anchor only between the bars and "
        "stop a tube that reaches them (the authors' unpublished rule)",
    )
    compat: str | None = option(None, "authors = their code to the last choice", choices=(None, "authors"))
    seed: int = option(0, "of random neighbours", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uncovered and self.temporal_stride is None:
            raise ConfigError("explainer.uncovered=true needs explainer.temporal_stride: no anchor starts later")
        if self.authors and self.similarity == "random":
            raise ConfigError("explainer.similarity=random has no compat=authors: the authors' draw has no seed")
        if self.flow == "raft_small":
            raft_small(self.flow_weights)  # what is missing is told before any clip is read
        if self.authors:
            self.letter_box, self.displacement = True, "flow"
            self.uncovered = self.temporal_stride is not None

    @property
    def authors(self) -> bool:
        return self.compat == "authors"

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the box."""
        return (self.box, self.box) if isinstance(self.box, int) else (self.box[0], self.box[1])

    def masks(self, clip: Clip, spec: InputSpec) -> BoxUnions:
        """The masks of a clip, in the order of their anchors (start by start, row by row).

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
        flow = optical_flow(frames, self.flow, swap_channels=self.authors, weights=self.flow_weights)
        positions, alive, raw = self._tracks(anchors, flow, bars)
        boxes = tube_boxes(positions, alive, self.sides, (h, w))
        groups = np.arange(len(positions))[:, None]
        if self.neighbours:
            moves = raw if self.displacement == "flow" else np.diff(positions, axis=1)
            groups = np.concatenate([groups, self._partners(moves, clip.id)], axis=1)
        return BoxUnions(boxes, groups, clip.size)

    def _tracks(self, anchors: np.ndarray, flow: np.ndarray, bars: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `track`, of all tubes of all starts."""
        last = len(flow)
        tubes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, last + 1, self.temporal_stride or last + 1):
            fresh = anchors
            if start and self.uncovered:
                seen = min(start + 1, last) if self.authors else start
                for positions, alive, _ in tubes:
                    there = positions[:, seen] if self.authors else positions[alive[:, start], start]
                    fresh = fresh[~_covered(fresh, there, self.sides)]
            tubes.append(
                track(
                    fresh,
                    flow,
                    start=start,
                    subpixel=self.subpixel,
                    strict=self.authors,
                    truncate=self.authors and self.temporal_stride is not None,
                    bounds=_LETTER_BOX_BOUNDS if bars else None,
                )
            )
        positions, alive, raw = (np.concatenate(parts) for parts in zip(*tubes, strict=True))
        return positions, alive, raw

    def _partners(self, moves: np.ndarray, clip_id: str) -> np.ndarray:
        """The K tubes joined with each, by their displacements N×(T−1)×2: int N×K."""
        if self.similarity == "random":
            return drawn(len(moves), self.neighbours, self.seed, clip_id)
        if self.authors:
            return _authors_partners(moves, self.neighbours, self.similarity)
        if self.similarity == "cosine":
            return co_occurring(moves, self.neighbours)
        lengths = np.linalg.norm(moves, axis=-1)
        if self.similarity == "norm_cosine":
            return co_occurring(lengths, self.neighbours)
        return equally_fast(lengths, self.neighbours)


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
    start: int = 0,
    subpixel: bool = False,
    strict: bool = False,
    truncate: bool = False,
    bounds: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow anchors along the flow, read at the nearest pixel.

    Args:
        anchors: N×2, (y, x).
        flow: (T−1)×H×W×2, (dx, dy).
        start: frame on which the tubes begin; they stay still before, and are not alive.
        subpixel: keep real-valued positions instead of rounding (half to even) each frame.
        strict: a tube ends when its unrounded position leaves [0, H−1] × [0, W−1]; else when the rounded does.
        truncate: round towards zero instead.
        bounds: rows, as fractions of the height, outside which a tube ends as well.

    Returns:
        positions N×T×2, rounded and held inside the frame; alive, bool N×T, True from the start to the last
        frame before it is outside; raw flow N×(T−1)×2 as (dy, dx). An ended tube is followed on along the
        border, so that its displacements still count in the co-occurrence.
    """
    steps, h, w = flow.shape[:3]
    last = np.array([h - 1, w - 1])
    to_grid = np.trunc if truncate else np.rint
    exact = anchors.astype(np.float64)
    pixel = to_grid(exact).astype(np.int64)
    alive = np.ones(len(anchors), dtype=bool)
    positions, living, raw = [exact if subpixel else pixel], [alive & (start == 0)], []
    for t in range(steps):
        move = flow[t, pixel[:, 0], pixel[:, 1]][:, ::-1].astype(np.float64) if t >= start else np.zeros(exact.shape)
        moved = (exact if subpixel else pixel) + move
        if t >= start:
            test = moved if strict else np.rint(moved)
            alive = alive & (test >= 0).all(axis=1) & (test <= last).all(axis=1)
            if bounds is not None:
                alive = alive & (moved[:, 0] >= bounds[0] * h) & (moved[:, 0] <= bounds[1] * h)
        exact = np.clip(moved, 0, last)
        pixel = to_grid(exact).astype(np.int64)
        positions.append(exact if subpixel else pixel)
        living.append(alive & (start <= t + 1))
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


def _covered(anchors: np.ndarray, there: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """Which anchors N×2 lie within half a box of any of the positions M×2: bool N."""
    away = np.abs(anchors[:, None] - there[None])
    return (away <= np.array(box) // 2).all(axis=-1).any(axis=1)


def co_occurring(moves: np.ndarray, k: int) -> np.ndarray:
    """The K tubes whose displacement vectors have the largest cosine with each tube's (eq. 1): int N×K.

    A tube is not its own neighbour. A tube that never moves has cosine 0 with every other. Ties (cosines
    equal to twelve digits) go to the lower index.
    """
    vectors = moves.reshape(len(moves), -1).astype(np.float64)
    norm = np.linalg.norm(vectors, axis=1) + 1e-10
    return _most(
        lambda part: np.round((vectors[part] @ vectors.T) / (norm[part, None] * norm[None, :]), 12), len(norm), k
    )


def equally_fast(lengths: np.ndarray, k: int) -> np.ndarray:
    """The K tubes whose way, the sum of its lengths N×(T−1), differs least from each tube's: int N×K.

    A tube is not its own neighbour. Ties (ways equal to nine digits) go to the lower index.
    """
    way = lengths.sum(axis=1)
    return _most(lambda part: -np.round(np.abs(way[part, None] - way[None, :]), 9), len(way), k)


def _most(similarity: Callable[[slice], np.ndarray], n: int, k: int, chunk: int = 1024) -> np.ndarray:
    """The K most similar of N others, from functions of a few rows of the N×N matrix at a time."""
    chosen = []
    for start in range(0, n, chunk):
        rows = similarity(slice(start, start + chunk))
        own = np.arange(len(rows))
        rows[own, start + own] = -np.inf
        chosen.append(np.argsort(-rows, axis=1, kind="stable")[:, :k])
    return np.concatenate(chosen)


def drawn(n: int, k: int, seed: int, clip_id: str) -> np.ndarray:
    """K others of N for each, each set of K as likely, drawn from (seed, clip id): int N×K."""
    rng = generator(seed, clip_id, "neighbours")
    others = np.stack([torch.randperm(n - 1, generator=rng)[:k].numpy() for _ in range(n)])
    return others + (others >= np.arange(n)[:, None])


def _authors_partners(moves: np.ndarray, k: int, similarity: str = "cosine") -> np.ndarray:
    """As `co_occurring` or `equally_fast`, in the authors' order of operations: float32 vectors of all dx and dy per
    frame, own similarity 0 (not excluded), the last K of NumPy's default ascending sort; for ``norm`` own distance 1e5
    and the first K."""
    vectors = np.ascontiguousarray(moves[..., ::-1], dtype=np.float32)
    if similarity == "norm":
        way = np.ascontiguousarray(np.linalg.norm(vectors, axis=-1).T).sum(axis=0)
        distance = np.abs(way[None, :] - way[:, None])
        np.fill_diagonal(distance, 1e5)
        return np.argsort(distance, axis=1)[:, :k]
    if similarity == "norm_cosine":
        vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = vectors.reshape(len(vectors), -1)
    norm = np.linalg.norm(vectors, axis=1)
    products = vectors @ vectors.T
    chosen = []
    for i, row in enumerate(products):
        similarities = row / (norm + 1e-10) / (norm[i] + 1e-10)
        similarities[i] = 0
        chosen.append(np.argsort(similarities)[-k:])
    return np.stack(chosen)
