"""`moving_shapes`: a procedural action data set whose evidence is known per voxel.

Textured sprites move at constant speed over a textured, drifting background. One of them, the
relevant sprite, performs the class's motion pattern within a segment of the clip; it is told apart
by nothing but that motion. Distractors have shapes, textures, sizes and speeds of the same
distributions, move straight, bounce off the border and turn at random; they are drawn without
knowing the class. Lengths below are in pixels of a 64-pixel frame and scale with the shorter side.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from aosa.clip import Clip, InputSpec
from aosa.data.base import Entry, Problem, VideoDataset, View
from aosa.errors import ConfigError
from aosa.fields import Checked, option
from aosa.options import as_text
from aosa.rng import key_seed

CLASS_NAMES = ("clockwise", "anticlockwise", "horizontal", "vertical", "diagonal_up", "diagonal_down")
SIZES = {"train": 64000, "val": 300, "test": 300}

_MOST_CLIPS = 10**6  # their numbers have six digits
_MOST_DISTRACTORS = 100  # of a sprite of some 150 pixels each: the frame is full
_DISTRACTORS = f"a whole number from 0 to {_MOST_DISTRACTORS}, or [low, high]"
_VERSION = 1  # raise it when a change alters any clip
_RADIUS = (6.0, 8.0)
_SPEED = (2.2, 3.0)  # per source frame
_CYCLES = (1.0, 1.4)  # of the class motion, per 12 source frames
_TURN = 0.08  # chance per source frame that straight motion takes a new heading
_DRIFT = (0.3, 1.0)  # background, per source frame
_CANDIDATES = 8  # homes of the relevant sprite, of which the least crowded is taken
_AVOIDED = 3  # at least so many distractor paths are avoided, drawn or not: removing them moves nothing

Array = NDArray[np.floating]


@dataclass(frozen=True)
class _Sprite:
    radius: float
    shape: str
    texture: NDArray[np.float32]  # P×P×3 in [0, 1]
    depth: float  # drawn in this order
    path: Array  # T×2 centres (x, y); pixel i covers [i, i + 1)


@dataclass
class MovingShapes(Checked, VideoDataset):
    """The embedded default.

    A clip shows source frames 0, interval, 2·interval …; `Clip.segment` spans three quarters of it,
    at a random start; outside it the relevant sprite moves as a distractor does. `Clip.truth` marks
    the relevant sprite's visible pixels within the segment, `Clip.boxes` its whole extent wherever
    at least one pixel of it is visible there. The order of drawing (who covers whom) is random.

    Raises:
        ConfigError: an unknown split, a size or a number of distractors out of range.
    """

    title: ClassVar[str] = "Moving shapes"

    owner: ClassVar[str] = "dataset"
    name = "moving_shapes"
    annotated = frozenset({"boxes", "segment", "truth"})

    split: str = option("test", "their clips have disjoint seeds", choices=tuple(SIZES))
    size: int | None = option(None, "number of clips, classes in turn; None = 64000, 300, 300", low=1, high=_MOST_CLIPS)
    seed: int = option(0, "another seed is another data set", low=0)
    distractors: int | tuple[int, int] = option(
        3, "how many, or [low, high] to draw the number per clip", low=0, high=_MOST_DISTRACTORS, expect=_DISTRACTORS
    )
    relevant: bool = option(
        True, "False leaves the relevant sprite out (and truth, boxes empty): no class information is left"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = (self.distractors,) * 2 if isinstance(self.distractors, int) else self.distractors
        if low > high:
            raise ConfigError(f"dataset.distractors={as_text(self.distractors)}: give {_DISTRACTORS}")
        self._range = (low, high)
        self.class_names = list(CLASS_NAMES)
        self.entries = [
            Entry(id=f"{name}/{i:06d}", class_name=name, extra={"index": i})
            for i, name in ((i, CLASS_NAMES[i % len(CLASS_NAMES)]) for i in range(self.size or SIZES[self.split]))
        ]
        self.problems: list[Problem] = []

    def identity(self) -> dict[str, object]:
        return {
            "name": self.name,
            "version": _VERSION,
            "split": self.split,
            "seed": self.seed,
            "distractors": list(self._range),
            "relevant": self.relevant,
        }

    def fingerprint(self, entry: Entry) -> str:
        """sha256 of all that makes the clip: there is no file."""
        return hashlib.sha256(json.dumps([self.identity(), entry.id], sort_keys=True).encode()).hexdigest()

    def load(self, entry: Entry, spec: InputSpec, view: View | None = None) -> Clip:
        if view is not None and view != View():
            raise ConfigError(f"{self.name}: a clip is made at the model's size and has no other view ({view})")
        frames, centres, truth, boxes, segment = self._render(entry, spec)
        return Clip(
            id=entry.id,
            frames=torch.from_numpy(frames),
            class_name=entry.class_name,
            boxes=boxes,
            segment=segment,
            truth=torch.from_numpy(truth),
            source={"first": 0, "interval": spec.interval, "centres": centres.round(3).tolist()},
        )

    def _rng(self, entry: Entry, part: object) -> np.random.Generator:
        # Each part has a stream of its own: leaving one out changes no other.
        return np.random.default_rng(key_seed(self.name, self.seed, self.split, entry.extra["index"], part))

    def _render(
        self, entry: Entry, spec: InputSpec
    ) -> tuple[NDArray[np.uint8], Array, NDArray[np.bool_], list[Array], tuple[int, int]]:
        scale = min(spec.size) / 64
        times = np.arange(spec.frames) * spec.interval
        count = int(self._rng(entry, "count").integers(self._range[0], self._range[1] + 1))
        others = [
            _distractor(self._rng(entry, f"distractor {k}"), times, spec.size, scale)
            for k in range(max(count, _AVOIDED))
        ]
        class_name = str(entry.class_name)
        own, segment = _relevant(self._rng(entry, "relevant"), class_name, times, spec.size, scale, others)
        sprites = others[:count] + ([own] if self.relevant else [])

        background = _background(self._rng(entry, "background"), times, spec.size, scale)
        pad = max(s.texture.shape[0] for s in [own, *others])
        canvas = np.pad(background, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        visible = np.zeros(canvas.shape[:3], bool)
        extent = np.zeros_like(visible)
        for sprite in sorted(sprites, key=lambda s: s.depth):
            covered = _draw(canvas, sprite, pad)
            visible &= ~covered
            if sprite is own:
                visible |= covered
                extent = covered
        inner = np.s_[:, pad:-pad, pad:-pad]
        frames = (canvas[inner] * 255 + 0.5).clip(0, 255).astype(np.uint8)
        inside = (np.arange(spec.frames) >= segment[0]) & (np.arange(spec.frames) < segment[1])
        truth = np.ascontiguousarray(visible[inner] & inside[:, None, None])
        boxes = [_box(e) if v.any() else np.zeros((0, 4)) for e, v in zip(extent[inner], truth, strict=True)]
        return frames, own.path, truth, boxes, segment


def _look(rng: np.random.Generator, scale: float) -> tuple[float, str, NDArray[np.float32], float]:
    """Radius, shape, texture and depth of any sprite, relevant or not."""
    radius = rng.uniform(*_RADIUS) * scale
    shape = str(rng.choice(["disc", "square", "diamond"]))
    side = 2 * int(np.ceil(radius)) + 3
    texture = _texture(rng, side, cells=5, contrast=0.25, base=(0.55, 0.95))[:side, :side]
    return radius, shape, texture, rng.uniform()


def _distractor(rng: np.random.Generator, times: NDArray[np.int64], size: tuple[int, int], scale: float) -> _Sprite:
    radius, shape, texture, depth = _look(rng, scale)
    low, high = _bounds(size, radius)
    start = rng.uniform(low, high)
    path = start + _straight(rng, int(times[-1]), rng.uniform(*_SPEED) * scale)[times]
    return _Sprite(radius, shape, texture, depth, _bounce(path, low, high))


def _relevant(
    rng: np.random.Generator,
    class_name: str,
    times: NDArray[np.int64],
    size: tuple[int, int],
    scale: float,
    others: list[_Sprite],
) -> tuple[_Sprite, tuple[int, int]]:
    radius, shape, texture, depth = _look(rng, scale)
    low, high = _bounds(size, radius)
    speed = rng.uniform(*_SPEED) * scale
    amplitude = speed * 12 / (4 * rng.uniform(*_CYCLES))  # one cycle of a shake is 4 amplitudes long

    length = max(1, round(0.75 * len(times)))
    begin = int(rng.integers(0, len(times) - length + 1))
    first, last = int(times[begin]), int(times[begin + length - 1])
    before = _straight(rng, first, speed)[::-1][times[:begin]]
    after = _straight(rng, int(times[-1]) - last, speed)[times[begin + length :] - last]
    travelled = (times[begin : begin + length] - first) * speed

    # The home is chosen without regard to the class, and the static share of `reach` gives every class
    # the same spread along either axis: the place of a sprite in one frame does not depend on the class.
    homes = rng.uniform(low + amplitude, high - amplitude, (_CANDIDATES, 2))
    crowding = np.zeros(_CANDIDATES)
    for other in others:
        distance = np.linalg.norm(homes[:, None] - other.path[begin : begin + length], axis=2)
        crowding += np.clip(1 - distance / (radius + other.radius + amplitude), 0, 1).sum(1)
    motion, reach = _pattern(rng, class_name, travelled, amplitude)
    motion = motion + homes[crowding.argmin()] + rng.uniform(-1, 1, 2) * (amplitude - reach)
    path = _bounce(np.concatenate([motion[:1] + before, motion, motion[-1:] + after]), low, high)
    return _Sprite(radius, shape, texture, depth, path), (begin, begin + length)


def _pattern(rng: np.random.Generator, class_name: str, travelled: Array, amplitude: float) -> tuple[Array, Array]:
    """The class motion about its centre, and its reach along x and y. In image coordinates (y down)."""
    phase = rng.uniform()
    cycle = travelled / (4 * amplitude) + phase
    if class_name in ("clockwise", "anticlockwise"):
        radius = 2 * amplitude / np.pi  # the same length per cycle as a shake
        angle = 2 * np.pi * cycle * (1 if class_name == "clockwise" else -1)
        return radius * np.stack([np.cos(angle), np.sin(angle)], 1), np.full(2, radius)
    direction = {
        "horizontal": (1.0, 0.0),
        "vertical": (0.0, 1.0),
        "diagonal_up": (np.sqrt(0.5), -np.sqrt(0.5)),
        "diagonal_down": (np.sqrt(0.5), np.sqrt(0.5)),
    }[class_name]
    wave = amplitude * (4 * np.abs(cycle % 1 - 0.5) - 1)
    return wave[:, None] * np.array(direction), amplitude * np.abs(direction)


def _bounds(size: tuple[int, int], radius: float) -> tuple[Array, Array]:
    """Lowest and highest centre (x, y) at which a sprite lies wholly within the frame."""
    return np.full(2, radius), np.array([size[1], size[0]]) - radius


def _straight(rng: np.random.Generator, steps: int, speed: float) -> Array:
    """(steps + 1)×2 displacements from the start, at constant speed, with random turns."""
    heading = np.where(rng.uniform(size=steps) < _TURN, rng.uniform(0, 2 * np.pi, steps), np.nan)
    current = rng.uniform(0, 2 * np.pi)
    path = np.zeros((steps + 1, 2))
    for i, new in enumerate(heading):
        current = current if np.isnan(new) else new
        path[i + 1] = path[i] + speed * np.array([np.cos(current), np.sin(current)])
    return path


def _bounce(path: Array, low: Array, high: Array) -> Array:
    """Reflect a free path at the borders; a uniform start stays uniform."""
    span = np.maximum(high - low, 1e-6)
    return low + span - np.abs((path - low) % (2 * span) - span)


def _texture(
    rng: np.random.Generator, side: int, cells: int, contrast: float, base: tuple[float, float]
) -> NDArray[np.float32]:
    """Smooth coloured noise about a mean colour drawn from `base`; tiles; at least side×side×3, in [0, 1]."""
    colour = rng.uniform(*base, 3)
    noise = rng.standard_normal((cells, cells, 1)) + 0.5 * rng.standard_normal((cells, cells, 3))
    zoom = -(-side // cells)
    wrapped = np.pad(noise.astype(np.float32), ((2, 2), (2, 2), (0, 0)), "wrap")
    smooth = cv2.resize(wrapped, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    smooth = smooth[2 * zoom : -2 * zoom, 2 * zoom : -2 * zoom]
    return np.clip(colour + contrast * smooth, 0, 1).astype(np.float32)


def _background(
    rng: np.random.Generator, times: NDArray[np.int64], size: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """T×H×W×3: one tile that drifts at constant velocity."""
    tile = _texture(rng, max(size), cells=max(1, round(max(size) / (6 * scale))), contrast=0.08, base=(0.2, 0.4))
    heading = rng.uniform(0, 2 * np.pi)
    velocity = rng.uniform(*_DRIFT) * scale * np.array([np.cos(heading), np.sin(heading)])
    shift = rng.uniform(0, len(tile), 2) - times[:, None] * velocity
    whole = np.floor(shift).astype(int)
    rows = (whole[:, 1, None] + np.arange(size[0] + 1)) % len(tile)
    cols = (whole[:, 0, None] + np.arange(size[1] + 1)) % len(tile)
    return _bilinear(tile[rows[:, :, None], cols[:, None, :]], shift - whole)


def _bilinear(patch: NDArray[np.float32], fraction: Array) -> NDArray[np.float32]:
    """T×(h+1)×(w+1)×3 read at offsets T×2 (x, y) in [0, 1) → T×h×w×3."""
    fx, fy = (fraction[:, i].astype(np.float32)[:, None, None, None] for i in (0, 1))
    patch = patch[:, :-1] + fy * (patch[:, 1:] - patch[:, :-1])
    return patch[:, :, :-1] + fx * (patch[:, :, 1:] - patch[:, :, :-1])


def _draw(canvas: NDArray[np.float32], sprite: _Sprite, pad: int) -> NDArray[np.bool_]:
    """Blend one sprite into all frames of the padded canvas; returns the pixels it covers by half or more."""
    side = sprite.texture.shape[0] - 1
    corner = sprite.path + pad - side / 2
    whole = np.floor(corner).astype(int)
    fraction = corner - whole
    grid = np.arange(side)
    # Offsets of the pixel centres from the sprite's centre, T×side per axis.
    dx = np.abs(whole[:, 0, None] + grid + 0.5 - (sprite.path[:, 0, None] + pad))[:, None, :]
    dy = np.abs(whole[:, 1, None] + grid + 0.5 - (sprite.path[:, 1, None] + pad))[:, :, None]
    # Square and diamond are as large as a disc of the same radius, roughly; none exceeds the radius.
    distance = {
        "disc": np.hypot(dx, dy),
        "square": np.maximum(dx, dy) * 1.15,
        "diamond": dx + dy,
    }[sprite.shape]
    alpha = np.clip(sprite.radius - distance + 0.5, 0, 1).astype(np.float32)
    # The texture moves with the sprite: a centre that lies `fraction` further reads it so much earlier.
    texture = np.broadcast_to(sprite.texture, (len(whole), side + 1, side + 1, 3))
    colour = _bilinear(texture, 1 - fraction)
    frame = np.arange(len(whole))[:, None, None]
    rows, cols = (whole[:, 1, None] + grid)[:, :, None], (whole[:, 0, None] + grid)[:, None, :]
    canvas[frame, rows, cols] += alpha[..., None] * (colour - canvas[frame, rows, cols])
    covered = np.zeros(canvas.shape[:3], bool)
    covered[frame, rows, cols] = alpha >= 0.5
    return covered


def _box(mask: NDArray[np.bool_]) -> Array:
    """H×W → 1×4 (x0, y0, x1, y1), far edges exclusive."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([[xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]], dtype=np.float64)
