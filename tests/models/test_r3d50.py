"""R3D-50 against the published implementation, on weights and inputs from a formula."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aosa.models.r3d50 import R3D50
from tests.reference import formula

REFERENCE = json.loads((Path(__file__).resolve().parents[1] / "reference" / "r3d50_logits.json").read_text())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return formula.fill(R3D50(num_classes=101))


def distance(network: nn.Module, index: int) -> float:
    """max |Δ| / max |reference| of the logits of one input."""
    x = torch.from_numpy(formula.clip(index, tuple(REFERENCE["size"])))[None]
    expected = np.array(REFERENCE["logits"][index])
    with torch.no_grad():
        return float(np.abs(network(x)[0].numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("index", [0, 1, 2])
def test_logits_are_those_of_the_published_implementation(network: nn.Module, index: int) -> None:
    assert distance(network, index) < 1e-5


def test_the_inputs_of_the_reference_are_told_apart() -> None:
    logits = np.array(REFERENCE["logits"])
    for index in range(3):
        others = np.delete(logits, index, axis=0)
        assert (np.abs(others - logits[index]).max(axis=1) > 0.1 * np.abs(logits[index]).max()).all()


def test_names_and_shapes_are_those_of_the_published_checkpoints() -> None:
    layout = "\n".join(f"{name} {list(value.shape)}" for name, value in R3D50(num_classes=101).state_dict().items())
    assert hashlib.sha256(layout.encode()).hexdigest() == REFERENCE["layout"]


def stride_in_the_first_convolution(network: R3D50) -> None:
    network.layer2[0].conv1.stride, network.layer2[0].conv2.stride = (2, 2, 2), (1, 1, 1)


def pool_padded_at_the_end(network: R3D50) -> None:
    network.maxpool = nn.MaxPool3d(3, 2, padding=0, ceil_mode=True)


def lost_shortcut(network: R3D50) -> None:
    network.layer3[3].downsample = Zero()


class Zero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("mutate", [stride_in_the_first_convolution, pool_padded_at_the_end, lost_shortcut])
def test_the_reference_notices_a_wrong_architecture(mutate: Callable[[R3D50], None]) -> None:
    mutant = R3D50(num_classes=101)
    mutate(mutant)
    state = formula.fill(R3D50(num_classes=101)).state_dict()
    mutant.load_state_dict(state)
    assert distance(mutant.eval(), 0) > 1e-3
