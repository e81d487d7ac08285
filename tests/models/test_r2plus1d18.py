"""R(2+1)D-18 against torchvision's, on weights and noise from a formula and on a real clip."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa.errors import CheckpointError
from aosa.models import load_model
from aosa.models.r2plus1d18 import R2Plus1D18
from tests.reference.parity import Reference, layout

REFERENCE = Reference("r2plus1d18")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return REFERENCE.fill(R2Plus1D18(num_classes=101))


@pytest.mark.parametrize("name", ["noise", "short"])
def test_logits_of_noise_are_those_of_torchvision(network: nn.Module, name: str) -> None:
    assert REFERENCE.distance(network, name) < 3e-5


@pytest.mark.real
@pytest.mark.parametrize("name", ["clip", "mirror"])
def test_logits_of_a_real_clip_are_those_of_torchvision(network: nn.Module, shared_data: Path, name: str) -> None:
    assert REFERENCE.distance(network, name, shared_data) < 1e-4


def test_the_inputs_of_the_reference_are_told_apart() -> None:
    assert REFERENCE.closest() > 0.1


def test_names_and_shapes_are_those_of_torchvision() -> None:
    assert layout(R2Plus1D18(num_classes=101)) == REFERENCE.values["layout"]


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Reversed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(2)


def all_strides_in_space(network: R2Plus1D18) -> None:
    space, _, _, time = network.layer2[0].conv1[0]
    space.stride, time.stride = (2, 2, 2), (1, 1, 1)


def first_stride_in_time_too(network: R2Plus1D18) -> None:
    network.stem[3].stride = (2, 1, 1)


def pool_after_the_stem(network: R2Plus1D18) -> None:
    network.stem.append(nn.MaxPool3d(3, 2, padding=1))


def padding_repeats_the_first_and_last_frame(network: R2Plus1D18) -> None:
    network.stem[3].padding_mode = "replicate"


def lost_shortcut(network: R2Plus1D18) -> None:
    network.layer3[1].downsample = Zero()


def no_relu_between_the_factors(network: R2Plus1D18) -> None:
    network.layer1[1].conv2[0][2] = nn.Identity()


def frames_backwards(network: R2Plus1D18) -> None:
    network.stem.insert(0, Reversed())


@pytest.mark.parametrize(
    "mutate",
    [
        all_strides_in_space,
        first_stride_in_time_too,
        pool_after_the_stem,
        padding_repeats_the_first_and_last_frame,
        lost_shortcut,
        no_relu_between_the_factors,
        frames_backwards,
    ],
)
def test_the_reference_notices_a_wrong_architecture(network: R2Plus1D18, mutate: Callable[[R2Plus1D18], None]) -> None:
    mutant = copy.deepcopy(network)
    mutate(mutant)
    assert REFERENCE.distance(mutant, "short") > 1e-3


def test_a_checkpoint_as_published_gives_the_weights_back(network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    # torchvision's file is a bare state dict of before PyTorch 1.6; fine-tuning on several GPUs puts a prefix.
    torch.save(state, tmp_path / "torchvision.pth", _use_new_zipfile_serialization=False)
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "parallel.pth")
    options = {"num_classes": 101, "device": "cpu"}
    parallel = load_model("r2plus1d18", checkpoint=tmp_path / "parallel.pth", **options)
    model = load_model("r2plus1d18", checkpoint=tmp_path / "torchvision.pth", **options)
    assert model.digest() == parallel.digest()
    assert REFERENCE.distance(model.network, "short") < 3e-5
    nn.init.zeros_(model.network.fc.bias)
    assert model.digest() != parallel.digest()
    with pytest.raises(CheckpointError, match=r"head has 101 classes \(fc\.weight, fc\.bias\), .* built for 400"):
        load_model("r2plus1d18", checkpoint=tmp_path / "torchvision.pth", device="cpu")


def test_a_3d_resnets_checkpoint_is_refused_with_what_is_missing(network: nn.Module, tmp_path: Path) -> None:
    state = {k.replace("stem.0", "conv1_s"): v for k, v in network.state_dict().items()}
    torch.save({"arch": "resnet2p1d-18", "state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"missing \(1\): stem\.0\.weight\n  extra \(1\): conv1_s\.weight"):
        load_model("r2plus1d18", num_classes=101, checkpoint=tmp_path / "other.pth", device="cpu")
