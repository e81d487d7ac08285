"""SlowFast against mmaction2's, on weights and noise from a formula and on a real clip; its published files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from aosa.errors import CheckpointError
from aosa.models import VideoModel, load_model, slowfast_r50
from aosa.models.checkpoints import load_weights
from aosa.models.slowfast_r50 import SlowFastR50
from tests.helpers import SPEC
from tests.reference import mmaction2

REFERENCE = mmaction2.read("slowfast_r50")
CLASSES = REFERENCE["classes"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return mmaction2.filled(SlowFastR50(num_classes=CLASSES), REFERENCE)


@pytest.mark.parametrize("name", ["noise", "small"])
def test_logits_are_those_of_the_published_implementation(network: nn.Module, name: str) -> None:
    assert mmaction2.distance(network, mmaction2.made(REFERENCE, name), REFERENCE[name]) < 1e-4


@pytest.mark.real
@pytest.mark.parametrize("name", ["clip", "mirror"])
def test_logits_of_a_real_clip_are_those_of_the_published_implementation(
    network: nn.Module, shared_data: Path, name: str
) -> None:
    x = mmaction2.real(REFERENCE, "slowfast_r50", shared_data, name)
    assert mmaction2.distance(network, x, REFERENCE[name]) < 1e-4


def test_the_inputs_of_the_reference_are_told_apart_and_no_weight_is_trivial(network: nn.Module) -> None:
    assert mmaction2.told_apart(REFERENCE)
    assert mmaction2.trivial(network) == []


MISTAKES = {
    **mmaction2.PATHWAY_MISTAKES,
    "no lateral connection": ("slow.layer2_lateral(x)]", "0 * slow.layer2_lateral(x)]"),
    "lateral channels first": ("[y, slow.layer1_lateral(x)]", "[slow.layer1_lateral(x), y]"),
    "lateral ReLU": ("norm=False, relu=False)", "norm=False)"),
    "slow frames from the end of each four": ("::ALPHA", "ALPHA - 1 :: ALPHA"),
    "slow features first": (
        "[x.mean(dim=(2, 3, 4)), y.mean(dim=(2, 3, 4))]",
        "[v.mean(dim=(2, 3, 4)) for v in (y, x)]",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_reference_notices_a_wrong_architecture(
    network: nn.Module, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = mmaction2.mistaken(slowfast_r50, *MISTAKES[mistake], monkeypatch)
    mutated = mmaction2.with_state(wrong.SlowFastR50, network.state_dict(), CLASSES)
    assert mmaction2.distance(mutated, mmaction2.made(REFERENCE, "small"), REFERENCE["small"]) > 1e-3


def test_the_published_names_and_shapes_are_these(network: nn.Module) -> None:
    assert mmaction2.layout(mmaction2.published(network.state_dict())) == REFERENCE["layout"]


def test_published_files_load_with_and_without_prefix(network: nn.Module, tmp_path: Path) -> None:
    digest = VideoModel(network, SPEC, device="cpu").digest()
    path = tmp_path / "weights.pth"
    state = network.state_dict()
    mmaction2.save_published(mmaction2.published(state), path)
    model = load_model("slowfast_r50", checkpoint=path, num_classes=CLASSES, device="cpu")
    assert model.digest() == digest
    assert [model.module(name) for name in model.target_layers] == [
        model.network.get_submodule("slow_path.layer4"),
        model.network.get_submodule("fast_path.layer4"),
    ]
    torch.save({"state_dict": state, "meta": {}}, path)
    again = mmaction2.empty(SlowFastR50, CLASSES).to_empty(device="cpu")
    load_weights(again, path)
    path.unlink()
    assert VideoModel(again, SPEC, device="cpu").digest() == digest


def test_wrong_files_fail_clearly(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    state = mmaction2.light(network)
    torch.save({"state_dict": state}, path)
    with pytest.raises(CheckpointError, match=r"wrong\.pth: its head has 101 classes \(fc_cls\..*built for 400"):
        load_weights(mmaction2.empty(SlowFastR50, 400), path)
    torch.save({"state_dict": {k: v for k, v in state.items() if "_lateral" not in k}}, path)
    with pytest.raises(
        CheckpointError, match=r"wrong\.pth does not fit SlowFastR50:\n +missing \(4\): slow_path\.conv"
    ):
        load_weights(mmaction2.empty(SlowFastR50, CLASSES), path)
