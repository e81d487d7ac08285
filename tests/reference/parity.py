"""A network against the logits of its published implementation, which <model>_logits.json keeps: of a real clip, its
mirror image and noise, with weights from the formula."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aosa.config import build, compose
from aosa.data import load_clip
from aosa.data.window import Window
from tests.reference import formula


def distance(logits: Tensor, expected: Sequence[float]) -> float:
    """max |Δ| / max |reference|."""
    reference = np.array(expected)
    return float(np.abs(logits.numpy() - reference).max() / np.abs(reference).max())


def fixture_inputs(model: str, reference: Mapping[str, Any], shared_data: Path | None = None) -> dict[str, Tensor]:
    """The inputs of the fixtures of TimeSformer and TANet, 3×T×H×W: ``noise``; with `shared_data` also the ``real``
    clip and its ``mirror`` image."""
    spec = build(compose("explain_video", [f"model={model}"]).model.spec)
    noise = formula.noise("noise", (3, spec.frames, *spec.size)).astype(np.float32) * 1.7
    inputs = {"noise": torch.from_numpy(noise)}
    if shared_data is not None:
        x = load_clip(shared_data / reference["video"], spec, Window(interval=reference["interval"])).tensor(spec)
        inputs |= {"real": x, "mirror": x.flip(-1)}
    return inputs


class Reference:
    """What <name>_logits.json holds, and the inputs and weights that it was made with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = json.loads((Path(__file__).parent / f"{name}_logits.json").read_text())

    def fill(self, network: nn.Module) -> nn.Module:
        """The formula's weights, in evaluation mode."""
        formula.fill(network, offset=self.values["offset"], centred=self.values["centred"])
        with torch.no_grad():
            for name, factor in self.values.get("scale", {}).items():
                network.get_parameter(name).mul_(factor)
        return network

    def input(self, name: str, shared_data: Path | None = None) -> Tensor:
        """3×T×H×W: ``clip`` and ``mirror`` are of the real video below `shared_data`, others are noise."""
        if name not in ("clip", "mirror"):
            size = self.values[f"{name}_size" if name != "noise" else "size"]
            return torch.from_numpy(formula.clip(1, tuple(size)))
        assert shared_data is not None
        spec = build(compose("explain_video", [f"model={self.name}"]).model.spec)
        x = load_clip(shared_data / self.values["video"], spec).tensor(spec)
        return x.flip(-1) if name == "mirror" else x

    @torch.no_grad()
    def distance(self, network: nn.Module, name: str, shared_data: Path | None = None) -> float:
        """max |Δ| / max |reference| of the logits of one input."""
        return distance(network(self.input(name, shared_data)[None])[0], self.values[name])

    def closest(self) -> float:
        """The least max |Δ| / max |reference| between two inputs' logits."""
        logits = np.array([self.values[name] for name in ("clip", "mirror", "noise")])
        apart = np.abs(logits[:, None] - logits).max(axis=2) / np.abs(logits).max(axis=1)
        return float(apart[~np.eye(3, dtype=bool)].min())


def layout(network: nn.Module) -> str:
    """sha256 of the names and shapes of a state dict."""
    lines = sorted(f"{name} {list(value.shape)}" for name, value in network.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
