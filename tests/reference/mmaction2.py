"""What the tests of mmaction2's networks share: the reference's numbers, its inputs and its files."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa.config import build, compose
from aosa.data import load_clip
from aosa.data.window import Window
from aosa.models import pathway
from tests.mutants import mutant
from tests.reference import formula, parity

PATHWAY_MISTAKES = {
    "stride in the first convolution": (
        "1, 1, 1))\n        self.conv2 = ConvUnit(width, width, (1, 3, 3), strides)",
        "1, 1, 1), strides)\n        self.conv2 = ConvUnit(width, width, (1, 3, 3))",
    ),
    "pool padded at the end": ("(1, 2, 2), (0, 1, 1))", "(1, 2, 2), ceil_mode=True)"),
    "padded with the edge": ("groups=groups,", 'groups=groups, padding_mode="replicate",'),
    "no residual": ("(self.conv1(x))) + shortcut)", "(self.conv1(x))))"),
    "residual after the ReLU": ("(self.conv1(x))) + shortcut)", "(self.conv1(x)))) + shortcut"),
}


def read(model: str) -> dict[str, Any]:
    """The reference of a model: its settings, and the logits of ``clip``, ``mirror``, ``noise`` and ``small``."""
    return json.loads((Path(__file__).parent / f"{model}_logits.json").read_text())


def filled(network: nn.Module, reference: Mapping[str, Any]) -> nn.Module:
    return formula.fill(network, offset=reference["offset"], centred=reference["centred"])


def made(reference: Mapping[str, Any], name: str) -> Tensor:
    """The input ``noise`` or ``small``, 1×3×T×H×W."""
    if name == "small":
        return torch.from_numpy(formula.clip(0, tuple(reference["small_size"])))[None]
    return torch.from_numpy(formula.noise("noise", (3, *reference["size"])).astype(np.float32))[None]


def real(reference: Mapping[str, Any], model: str, data: Path, name: str) -> Tensor:
    """The input ``clip`` or ``mirror``, 1×3×T×H×W, as the model's config wants it."""
    spec = build(compose("explain_video", [f"model={model}"]).model.spec)
    x = load_clip(data / reference["video"], spec, Window(interval=reference["interval"])).tensor(spec)
    return (x.flip(-1) if name == "mirror" else x)[None]


@torch.no_grad()
def distance(network: nn.Module, x: Tensor, expected: list[float]) -> float:
    """max |Δ| / max |reference| of the logits."""
    return parity.distance(network(x)[0], expected)


def told_apart(reference: Mapping[str, Any]) -> bool:
    """Whether the logits of each input differ from those of the others by more than a tenth."""
    logits = np.array([reference[name] for name in ("clip", "mirror", "noise")])
    differences = np.abs(logits[:, None] - logits[None]).max(axis=2) + np.diag([np.inf] * 3)
    return bool((differences > 0.1 * np.abs(logits).max(axis=1)[:, None]).all())


def trivial(network: nn.Module) -> list[str]:
    """Names of the tensors whose numbers are all alike."""
    return [
        name
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked") and value.std() < 0.03 * value.abs().max()
    ]


def mistaken(module: ModuleType, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A copy of a network's module with one mistake, in its own source or in that of the pathways it is made of."""
    if (right, wrong) not in PATHWAY_MISTAKES.values():
        return mutant(module, right, wrong)
    monkeypatch.setitem(sys.modules, pathway.__name__, mutant(pathway, right, wrong))
    return mutant(module, "", "")


def empty(network: type[nn.Module], classes: int) -> nn.Module:
    """A network without weights, made in no time."""
    with torch.device("meta"):
        return network(num_classes=classes)


def with_state(network: type[nn.Module], state: Mapping[str, Tensor], classes: int) -> nn.Module:
    """A network that shares the tensors of a state dict."""
    built = empty(network, classes)
    built.load_state_dict(state, assign=True)
    return built.eval()


def published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under mmaction2's names."""

    def part(key: str) -> str:
        return "cls_head." if key.startswith("fc_cls.") else "" if key.startswith("neck.") else "backbone."

    return {part(key) + key: value for key, value in state.items()}


def light(network: nn.Module) -> dict[str, Tensor]:
    """mmaction2's state dict of a network in which each tensor is one number, so that its file is small."""
    return published({key: torch.zeros((), dtype=v.dtype).expand(v.shape) for key, v in network.state_dict().items()})


def layout(state: Mapping[str, Tensor]) -> str:
    """sha256 of the names and shapes."""
    lines = sorted(f"{name} {list(value.shape)}" for name, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def save_published(state: Mapping[str, Tensor], path: Path) -> None:
    """A file as mmaction2's training on several GPUs leaves it."""
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    meta = {"epoch": 256, "cfg": "model = dict()", "hook_msgs": {"best_score": np.float64(0.76)}}
    named = {f"module.{key}": value for key, value in state.items()}
    torch.save({"meta": meta, "state_dict": named, "optimizer": optimizer}, path)
