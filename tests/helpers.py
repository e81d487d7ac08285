"""Small networks and clips with known answers, and the programs that a test needs."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa import Clip, InputSpec, VideoModel

SPEC = InputSpec(frames=4, size=(24, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def needs(package: str, *programs: str) -> str:
    """The path of the first of these programs that is installed, by a system package of that name. Where none is, the
    test is skipped; where ``CI`` is set, which installs them all, it fails."""
    for program in programs:
        if path := shutil.which(program):
            return path
    reason = f"{programs[0]} (package {package}) is not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI runs every test")
    pytest.skip(reason)


class Linear(nn.Module):
    """Logits linear in the input: every first-order method is exact on them."""

    def __init__(self, spec: InputSpec = SPEC, classes: int = 3, scale: float = 0.01) -> None:
        super().__init__()
        size = 3 * spec.frames * spec.size[0] * spec.size[1]
        self.weight = nn.Parameter(torch.randn(classes, size, generator=torch.Generator().manual_seed(3)) * scale)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


class Small3D(nn.Module):
    """A small 3D network with everything that makes one: convolution, normalisation, pooling, a head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv3d(8, 12, 3, stride=(1, 2, 2), padding=1), nn.ReLU())
        self.fc = nn.Linear(12, classes)
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            parameter.data = (
                torch.randn(parameter.shape, generator=generator) * (2 / max(1, parameter[0].numel())) ** 0.5
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer4(self.stem(x)).mean(dim=(2, 3, 4))) * 0.4


def linear_model(**options: object) -> VideoModel:
    return VideoModel(Linear(), SPEC, name="linear", device="cpu", **options)  # type: ignore[arg-type]


def small_model(**options: object) -> VideoModel:
    return VideoModel(Small3D(), SPEC, name="small", device="cpu", target_layer="layer4", **options)  # type: ignore[arg-type]


def moving_clip(spec: InputSpec = SPEC, *, id: str = "moving", seed: int = 0) -> Clip:
    """A textured background that drifts right by two pixels a frame, with a brighter square going down."""
    h, w = spec.size
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 200, (h, w + 2 * spec.frames, 3)).astype(np.float32)
    frames = np.stack([texture[:, 2 * (spec.frames - t) : 2 * (spec.frames - t) + w] for t in range(spec.frames)])
    for t in range(spec.frames):
        frames[t, 4 + 2 * t : 12 + 2 * t, 10:18] += 55
    return Clip(id=id, frames=torch.from_numpy(frames.astype(np.uint8)), label=1)
