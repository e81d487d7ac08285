"""What passes between the rooms: a clip, and how its model wants it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aosa.errors import ConfigError, VideoError
from aosa.options import check_whole, is_number, is_whole

MOST_INTERVAL = 10_000  # source frames between sampled ones: minutes
_MOST_SIDE = 16_384  # pixels of a resized frame
_MOST_VOXELS = 2**31 - 1  # of a clip: what 32 bits can index


@dataclass(frozen=True)
class InputSpec:
    """How a model wants its input.

    Args:
        frames: number of frames T.
        interval: distance between sampled frames, in source frames.
        size: height and width in pixels after the crop.
        mean, std: per RGB channel, in units where a pixel lies in [0, 1].
        resize: ``"short"`` scales the short side to ``short`` and crops the centre;
            ``"squash"`` scales both sides to ``size`` whatever the aspect.
        short: length of the short side before the crop; default the longer of ``size``.

    Raises:
        ConfigError: for a value out of range.
    """

    frames: int = 16
    interval: int = 1
    size: tuple[int, int] = (112, 112)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resize: str = "short"
    short: int | None = None

    def __post_init__(self) -> None:
        # Configs give lists; a spec must hash and compare by value.
        for name in ("size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_whole("model.spec", frames=(self.frames, 1), interval=(self.interval, 1, MOST_INTERVAL))
        check_whole("model.spec", short=(self.short, 1, _MOST_SIDE))
        if len(self.size) != 2 or not all(is_whole(side) and side > 0 for side in self.size):
            raise ConfigError(f"model.spec.size must be [height, width], got {list(self.size)}")
        if (voxels := self.frames * self.size[0] * self.size[1]) > _MOST_VOXELS:
            raise ConfigError(
                f"model.spec: {self.frames} frames of {self.size[0]}×{self.size[1]} pixels are {voxels:.3g} voxels; "
                f"a clip has at most {_MOST_VOXELS:.3g}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(is_number, self.mean + self.std)):
            raise ConfigError("model.spec.mean and model.spec.std need three numbers each")
        if min(self.std) <= 0:
            raise ConfigError(f"model.spec.std must be above 0, got {list(self.std)}")
        if self.resize not in ("short", "squash"):
            raise ConfigError(f"model.spec.resize must be short or squash, got {self.resize!r}")
        if self.short is not None and self.short < max(self.size):
            raise ConfigError(f"model.spec.short is {self.short}, smaller than the crop {list(self.size)}")

    @property
    def span(self) -> int:
        """Source frames from the first sampled frame to the last, both included."""
        return (self.frames - 1) * self.interval + 1

    def stats(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Mean and standard deviation as float32 3×1×1×1."""
        mean = torch.tensor(self.mean, dtype=torch.float32, device=device).view(3, 1, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32, device=device).view(3, 1, 1, 1)
        return mean, std

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 T×H×W×3 → float32 3×T×H×W, ``(pixel / 255 − mean) / std``."""
        mean, std = self.stats(frames.device)
        return frames.permute(3, 0, 1, 2).to(torch.float32).div(255).sub(mean).div(std).contiguous()

    def denormalise(self, x: Tensor) -> Tensor:
        """The inverse of `normalise`: float32 3×T×H×W → uint8 T×H×W×3, rounded to nearest."""
        mean, std = self.stats(x.device)
        pixels = (x.to(torch.float32) * std + mean).mul(255).round().clamp(0, 255)
        return pixels.to(torch.uint8).permute(1, 2, 3, 0).contiguous()


@dataclass
class Clip:
    """One window of one video, at its model's size.

    Args:
        id: unique within its data set; a relative path in spirit ("Archery/v_Archery_g01_c01").
        frames: uint8 T×H×W×3, RGB.
        label: index of the true class among the *model's* classes, or None.
        class_name: the true class by name, or None.
        boxes: per frame an N×4 float array (x0, y0, x1, y1) in pixels of `frames`, with N = 0
            for a frame without a box; None when the video is not annotated.
        segment: first and one-past-last frame of the action within the clip, or None.
        truth: bool T×H×W, the voxels known to be the evidence (`moving_shapes`), or None.
        group: videos cut from one recording share it; the bootstrap resamples groups.
        source: what the window was cut from (path, first frame, interval), for the record.

    Raises:
        VideoError: frames that are not uint8 T×H×W×3.
    """

    id: str
    frames: Tensor
    label: int | None = None
    class_name: str | None = None
    boxes: list[np.ndarray] | None = None
    segment: tuple[int, int] | None = None
    truth: Tensor | None = None
    group: str | None = None
    source: dict[str, object] = field(default_factory=dict)
    _exact: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.frames, Tensor):
            self.frames = torch.as_tensor(np.ascontiguousarray(self.frames))
        shape = tuple(self.frames.shape)
        if self.frames.dtype != torch.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise VideoError(f"clip {self.id!r}: frames must be uint8 T×H×W×3, got {self.frames.dtype} {shape}")
        if self.boxes is not None and len(self.boxes) != shape[0]:
            raise VideoError(f"clip {self.id!r}: {len(self.boxes)} box lists for {shape[0]} frames")

    @classmethod
    def from_tensor(cls, x: Tensor, spec: InputSpec, *, id: str = "tensor", **fields: object) -> Clip:
        """A clip from a normalised 3×T×H×W tensor. `tensor` gives back exactly `x`; `frames`
        (what the flow and the overlays see) are its pixels, rounded."""
        if x.dim() != 4 or x.shape[0] != 3:
            raise VideoError(f"clip {id!r}: the tensor must be 3×T×H×W, got {tuple(x.shape)}")
        exact = x.detach().to("cpu", torch.float32).contiguous()
        return cls(id=id, frames=spec.denormalise(exact), _exact=exact, **fields)  # type: ignore[arg-type]

    @property
    def size(self) -> tuple[int, int, int]:
        """T, H, W."""
        t, h, w, _ = self.frames.shape
        return t, h, w

    def tensor(self, spec: InputSpec) -> Tensor:
        """The normalised float32 3×T×H×W input of a model with this spec.

        Raises:
            VideoError: the clip's T, H, W are not the spec's.
        """
        if self.size != (spec.frames, *spec.size):
            raise VideoError(
                f"clip {self.id!r} is {'×'.join(map(str, self.size))} (T×H×W), "
                f"the model wants {spec.frames}×{spec.size[0]}×{spec.size[1]}"
            )
        return spec.normalise(self.frames) if self._exact is None else self._exact.clone()

    def digest(self) -> str:
        """sha256 of what a model and a flow see of this clip."""
        h = hashlib.sha256(repr(self.size).encode())
        h.update(self.frames.contiguous().numpy().tobytes())
        if self._exact is not None:
            h.update(self._exact.numpy().tobytes())
        return h.hexdigest()


def check_class_names(names: Sequence[str], source: str) -> list[str]:
    """Class names as a list, refused when two are the same."""
    names = [str(n) for n in names]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"{source}: class names that occur twice: {', '.join(twice[:5])}")
    return names
