"""R(2+1)D-50 against the published implementation, on weights and noise from a formula and on a real clip."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa.errors import CheckpointError
from aosa.models import load_model
from aosa.models.r2plus1d50 import R2Plus1D50, mid_channels
from tests.reference.parity import Reference, layout

REFERENCE = Reference("r2plus1d50")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return REFERENCE.fill(R2Plus1D50(num_classes=101))


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
    assert layout(R2Plus1D50(num_classes=101)) == REFERENCE.values["layout"]


def test_the_factors_have_as_many_weights_as_the_convolution_they_replace() -> None:
    assert mid_channels(64, 64, 3, 3) == 144
    assert (9 * 64 + 3 * 64) * 144 == 27 * 64 * 64
    assert mid_channels(3, 64, 7, 7) == 110


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Reversed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(2)


def all_strides_in_space(network: R2Plus1D50) -> None:
    network.layer2[0].conv2_s.stride, network.layer2[0].conv2_t.stride = (2, 2, 2), (1, 1, 1)


def first_stride_in_time_too(network: R2Plus1D50) -> None:
    network.conv1_t.stride = (2, 1, 1)


def pool_padded_at_the_end(network: R2Plus1D50) -> None:
    network.maxpool = nn.MaxPool3d(3, 2, padding=0, ceil_mode=True)


def padding_repeats_the_first_and_last_frame(network: R2Plus1D50) -> None:
    network.conv1_t.padding_mode = "replicate"


def lost_shortcut(network: R2Plus1D50) -> None:
    network.layer3[3].downsample = Zero()


def no_batch_norm_between_the_factors(network: R2Plus1D50) -> None:
    network.layer1[1].bn2_s = nn.Identity()


def frames_backwards(network: R2Plus1D50) -> None:
    network.bn1_s = nn.Sequential(network.bn1_s, Reversed())


@pytest.mark.parametrize(
    "mutate",
    [
        all_strides_in_space,
        first_stride_in_time_too,
        pool_padded_at_the_end,
        padding_repeats_the_first_and_last_frame,
        lost_shortcut,
        no_batch_norm_between_the_factors,
        frames_backwards,
    ],
)
def test_the_reference_notices_a_wrong_architecture(network: R2Plus1D50, mutate: Callable[[R2Plus1D50], None]) -> None:
    mutant = copy.deepcopy(network)
    mutate(mutant)
    assert REFERENCE.distance(mutant, "short") > 1e-3


def test_a_checkpoint_as_published_gives_the_weights_back(network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    optimiser = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    published = {
        "epoch": 200,
        "arch": "resnet2p1d-50",
        "state_dict": {f"module.{k}": v for k, v in state.items()},
        "optimizer": optimiser.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimiser, [50, 100]).state_dict(),
    }
    torch.save(published, tmp_path / "published.pth")
    torch.save(state, tmp_path / "own.pth")
    own = load_model("r2plus1d50", checkpoint=tmp_path / "own.pth", device="cpu")
    model = load_model("r2plus1d50", checkpoint=tmp_path / "published.pth", device="cpu")
    assert model.digest() == own.digest()
    assert REFERENCE.distance(model.network, "short") < 3e-5
    nn.init.zeros_(model.network.fc.bias)
    assert model.digest() != own.digest()
    with pytest.raises(CheckpointError, match=r"head has 101 classes \(fc\.weight, fc\.bias\), .* built for 700"):
        load_model("r2plus1d50", num_classes=700, checkpoint=tmp_path / "published.pth", device="cpu")


def test_a_checkpoint_of_another_depth_is_refused_with_its_name(tmp_path: Path) -> None:
    short = R2Plus1D50(num_classes=101)
    short.layer3 = short.layer3[:4]
    torch.save({"arch": "resnet2p1d-34", "state_dict": short.state_dict()}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"arch is 'resnet2p1d-34'\) does not fit R2Plus1D50:\n  missing"):
        load_model("r2plus1d50", checkpoint=tmp_path / "other.pth", device="cpu")
