"""R3D-50 against the published implementation, on weights and noise from a formula and on a real clip."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa.models.r3d50 import R3D50
from tests.reference.parity import Reference, layout

REFERENCE = Reference("r3d50")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return REFERENCE.fill(R3D50(num_classes=101))


@pytest.mark.parametrize("name", ["noise", "short"])
def test_logits_of_noise_are_those_of_the_published_implementation(network: nn.Module, name: str) -> None:
    assert REFERENCE.distance(network, name) < 3e-5


@pytest.mark.real
@pytest.mark.parametrize("name", ["clip", "mirror"])
def test_logits_of_a_real_clip_are_those_of_the_published_implementation(
    network: nn.Module, shared_data: Path, name: str
) -> None:
    assert REFERENCE.distance(network, name, shared_data) < 1e-4


def test_the_inputs_of_the_reference_are_told_apart() -> None:
    assert REFERENCE.closest() > 0.1


def test_names_and_shapes_are_those_of_the_published_checkpoints() -> None:
    assert layout(R3D50(num_classes=101)) == REFERENCE.values["layout"]


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def stride_in_the_first_convolution(network: R3D50) -> None:
    network.layer2[0].conv1.stride, network.layer2[0].conv2.stride = (2, 2, 2), (1, 1, 1)


def first_stride_in_time_too(network: R3D50) -> None:
    network.conv1.stride = (2, 2, 2)


def pool_padded_at_the_end(network: R3D50) -> None:
    network.maxpool = nn.MaxPool3d(3, 2, padding=0, ceil_mode=True)


def padding_repeats_the_border(network: R3D50) -> None:
    network.layer1[0].conv2.padding_mode = "replicate"


def lost_shortcut(network: R3D50) -> None:
    network.layer3[3].downsample = Zero()


def shortcut_without_batch_norm(network: R3D50) -> None:
    network.layer2[0].downsample[1] = nn.Identity()


@pytest.mark.parametrize(
    "mutate",
    [
        stride_in_the_first_convolution,
        first_stride_in_time_too,
        pool_padded_at_the_end,
        padding_repeats_the_border,
        lost_shortcut,
        shortcut_without_batch_norm,
    ],
)
def test_the_reference_notices_a_wrong_architecture(network: R3D50, mutate: Callable[[R3D50], None]) -> None:
    mutant = copy.deepcopy(network)
    mutate(mutant)
    assert REFERENCE.distance(mutant, "short") > 1e-3
