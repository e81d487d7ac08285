"""TPN against mmaction2's, on weights and noise from a formula and on a real clip; its published files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa.errors import CheckpointError
from aosa.models import VideoModel, load_model, tpn_r50
from aosa.models.checkpoints import load_weights
from aosa.models.tpn_r50 import TPNR50
from tests.helpers import SPEC
from tests.reference import mmaction2

REFERENCE = mmaction2.read("tpn_r50")
CLASSES = REFERENCE["classes"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return mmaction2.filled(TPNR50(num_classes=CLASSES), REFERENCE)


@pytest.mark.parametrize("name", ["noise", "small"])
def test_logits_are_those_of_the_published_implementation(network: nn.Module, name: str) -> None:
    assert mmaction2.distance(network, mmaction2.made(REFERENCE, name), REFERENCE[name]) < 1e-4


@pytest.mark.real
@pytest.mark.parametrize("name", ["clip", "mirror"])
def test_logits_of_a_real_clip_are_those_of_the_published_implementation(
    network: nn.Module, shared_data: Path, name: str
) -> None:
    x = mmaction2.real(REFERENCE, "tpn_r50", shared_data, name)
    assert mmaction2.distance(network, x, REFERENCE[name]) < 1e-4


def test_the_inputs_of_the_reference_are_told_apart_and_no_weight_is_trivial(network: nn.Module) -> None:
    assert mmaction2.told_apart(REFERENCE)
    assert mmaction2.trivial(network) == []


MISTAKES = {
    **mmaction2.PATHWAY_MISTAKES,
    "no connection top-down": ("low = low + high", "low = low"),
    "no connection bottom-up": ("high = high + self.downsample_ops[0](low)", "high = high"),
    "both flows from the start": (
        "low = low + high\n        top_down = self.level_fusion_1([low, high])",
        "top_down = self.level_fusion_1([low + high, high])",
    ),
    "bottom-up channels first": ("[top_down, bottom_up]", "[bottom_up, top_down]"),
    "mean of eight frames": ("nn.MaxPool3d((8, 1, 1)", "nn.AvgPool3d((8, 1, 1)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_reference_notices_a_wrong_architecture(
    network: nn.Module, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = mmaction2.mistaken(tpn_r50, *MISTAKES[mistake], monkeypatch)
    mutated = mmaction2.with_state(wrong.TPNR50, network.state_dict(), CLASSES)
    assert mmaction2.distance(mutated, mmaction2.made(REFERENCE, "small"), REFERENCE["small"]) > 1e-3


def auxiliary_head() -> dict[str, Tensor]:
    """What training adds, under its published names."""
    conv, bn, fc = (f"neck.aux_head.{name}" for name in ("conv.conv", "conv.bn", "fc"))
    norm = {f"{bn}.{name}": torch.ones(2048) for name in ("weight", "bias", "running_mean", "running_var")}
    return {
        **norm,
        f"{bn}.num_batches_tracked": torch.tensor(1),
        f"{conv}.weight": torch.ones(()).expand(2048, 1024, 1, 3, 3),
        f"{fc}.weight": torch.ones(CLASSES, 2048),
        f"{fc}.bias": torch.ones(CLASSES),
    }


def test_the_published_names_and_shapes_are_these(network: nn.Module) -> None:
    names = {**mmaction2.published(network.state_dict()), **auxiliary_head()}
    assert mmaction2.layout(names) == REFERENCE["layout"]


def test_published_files_load_with_and_without_prefix_and_auxiliary_head(network: nn.Module, tmp_path: Path) -> None:
    digest = VideoModel(network, SPEC, device="cpu").digest()
    path = tmp_path / "weights.pth"
    state = network.state_dict()
    copy = {"cls_head.new_cls.weight": torch.ones(CLASSES, 2048, 1, 1, 1), "cls_head.new_cls.bias": torch.ones(CLASSES)}
    mmaction2.save_published({**mmaction2.published(state), **auxiliary_head(), **copy}, path)
    model = load_model("tpn_r50", checkpoint=path, num_classes=CLASSES, device="cpu")
    assert model.digest() == digest
    assert [model.module(name) for name in model.target_layers] == [model.network.get_submodule("neck.pyramid_fusion")]
    torch.save({"state_dict": state, "meta": {}}, path)
    again = mmaction2.empty(TPNR50, CLASSES).to_empty(device="cpu")
    load_weights(again, path)
    path.unlink()
    assert VideoModel(again, SPEC, device="cpu").digest() == digest


def test_wrong_files_fail_clearly(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    state = {**mmaction2.light(network), **auxiliary_head()}
    torch.save({"state_dict": state}, path)
    with pytest.raises(CheckpointError, match=r"wrong\.pth: its head has 101 classes \(fc_cls\..*built for 400"):
        load_weights(mmaction2.empty(TPNR50, 400), path)
    torch.save({"state_dict": {k: v for k, v in state.items() if "level_fusion_2" not in k}}, path)
    with pytest.raises(CheckpointError, match=r"wrong\.pth does not fit TPNR50:\n +missing \(15\): neck\.level"):
        load_weights(mmaction2.empty(TPNR50, CLASSES), path)
