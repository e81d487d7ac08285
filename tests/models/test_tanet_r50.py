"""TANet-50 against mmaction2's, on weights and noise from a formula and on a real clip."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa.clip import InputSpec
from aosa.config import compose
from aosa.errors import CheckpointError, ConfigError
from aosa.models import VideoModel, build_model, randomise, tanet_r50
from aosa.models.checkpoints import load_weights
from aosa.models.tanet_r50 import TANet50, TemporalAdaptiveModule
from tests.mutants import mutant
from tests.reference import formula, parity

REFERENCE = json.loads((Path(__file__).resolve().parents[1] / "reference" / "tanet_r50_logits.json").read_text())
SMALL = REFERENCE["small"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return formula.fill(TANet50(), offset=REFERENCE["offset"], centred=REFERENCE["centred"])


@torch.no_grad()
def distance(network: nn.Module, x: Tensor, expected: list[float]) -> float:
    """max |Δ| / max |reference| of the logits."""
    return parity.distance(network(x[None])[0], expected)


def test_logits_of_noise_are_those_of_the_published_implementation(network: nn.Module) -> None:
    noise = parity.fixture_inputs("tanet_r50", REFERENCE)["noise"]
    assert distance(network, noise, REFERENCE["logits"]["noise"]) < 1e-5


@pytest.mark.real
@pytest.mark.parametrize("name", ["real", "mirror"])
def test_logits_of_a_real_clip_are_those_of_the_published_implementation(
    network: nn.Module, shared_data: Path, name: str
) -> None:
    x = parity.fixture_inputs("tanet_r50", REFERENCE, shared_data)[name]
    assert distance(network, x, REFERENCE["logits"][name]) < 1e-5


def test_the_inputs_of_the_reference_are_told_apart() -> None:
    logits = np.array(list(REFERENCE["logits"].values()))
    assert len(logits) == 3
    for index in range(3):
        others = np.delete(logits, index, axis=0)
        assert (np.abs(others - logits[index]).max(axis=1) > 0.1 * np.abs(logits[index]).max()).all()


def test_no_weight_of_the_reference_is_trivial(network: nn.Module) -> None:
    for name, value in network.state_dict().items():
        assert name.endswith("num_batches_tracked") or value.std() > 0.001, name


MISTAKES = {
    "stride in the first convolution": (
        "1)\n        self.tam = TemporalAdaptiveModule(width, frames)\n"
        "        self.conv2 = ConvNorm(width, width, 3, stride)",
        "1, stride)\n        self.tam = TemporalAdaptiveModule(width, frames)\n"
        "        self.conv2 = ConvNorm(width, width, 3)",
    ),
    "pool padded at the end": ("MaxPool2d(3, stride=2, padding=1)", "MaxPool2d(3, stride=2, ceil_mode=True)"),
    "local branch on a circle of frames": (
        "3, padding=1, bias=False",
        "3, padding=1, padding_mode='circular', bias=False",
    ),
    "no residual": ("self.conv3(y) + shortcut", "self.conv3(y)"),
    "residual before the norm": ("self.relu(self.conv3(y) + shortcut)", "self.relu(self.conv3(y)) + shortcut"),
    "pixels for frames": ("x.transpose(1, 2).flatten(0, 1)", "x.reshape(-1, 3, *x.shape[3:])"),
    "kernel reversed": ("before, same, after = ", "after, same, before = "),
    "local weights of the frame that receives": ("before[:, :-1]", "before[:, 1:]"),
    "kernel on a circle of frames": ("y[:, 1:] += x[:, :-1] * before[:, :-1]", "y += x.roll(1, 1) * before.roll(1, 1)"),
    "no local branch": ("self.L(means)[..., None]", "torch.ones_like(means)[..., None]"),
    "kernel not normalised": ("nn.Softmax(dim=-1)", "nn.Identity()"),
    "no ReLU before the module": ("self.tam(self.relu(self.conv1(x)))", "self.tam(self.conv1(x))"),
    "module after the second convolution": (
        "y = self.tam(self.relu(self.conv1(x)))\n        y = self.relu(self.conv2(y))",
        "y = self.relu(self.conv1(x))\n        y = self.tam(self.relu(self.conv2(y)))",
    ),
    "last frame alone": (".mean(dim=2))", "[:, :, -1])"),
}


def small_distance(network: nn.Module) -> float:
    return distance(network.eval(), torch.from_numpy(formula.clip(0, tuple(SMALL["size"]))), SMALL["logits"])


def test_the_small_reference_is_met(network: nn.Module) -> None:
    assert small_distance(network) < 1e-5


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_reference_notices_a_wrong_architecture(mistake: str, network: nn.Module) -> None:
    with torch.device("meta"):
        wrong = mutant(tanet_r50, *MISTAKES[mistake]).TANet50()
    wrong.load_state_dict(network.state_dict(), assign=True)
    assert small_distance(wrong) > 1e-3


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of mmaction2's checkpoints."""

    def name(own: str) -> str:
        own = re.sub(r"^(layer\d\.\d\.)(conv|downsample)", r"\1block.\2", own)
        return f"{'cls_head' if own.startswith('fc_cls') else 'backbone'}.{own}"

    return {name(key): value for key, value in state.items()}


def test_every_published_tensor_has_its_place(network: nn.Module) -> None:
    state = network.state_dict()
    theirs = published(state)
    layout = "\n".join(sorted(f"{name} {list(value.shape)}" for name, value in theirs.items()))
    assert hashlib.sha256(layout.encode()).hexdigest() == REFERENCE["layout"]
    assert [TANet50.published_name(name) for name in theirs] == list(state)
    assert [TANet50.published_name(name) for name in state] == list(state)


def test_every_published_format_gives_the_same_weights(network: nn.Module, tmp_path: Path) -> None:
    spec = InputSpec(frames=8, size=(64, 64))

    def digest(file: Path) -> str:
        return build_model(TANet50(), spec, name="tanet_r50", checkpoint=str(file)).digest()

    theirs = published(network.state_dict())
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9).state_dict()
    files = {
        "mmaction2.pth": {"meta": {"epoch": 100, "CLASSES": ["a"]}, "state_dict": theirs, "optimizer": optimiser},
        "parallel.pth": {"state_dict": {f"module.{k}": v for k, v in theirs.items()}},
        "bare.pth": {k.removeprefix("backbone.").removeprefix("cls_head."): v for k, v in theirs.items()},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    digests = {digest(tmp_path / name) for name in files}
    assert digests == {VideoModel(network, spec, device="cpu").digest()}


def test_a_wrong_checkpoint_is_refused(network: nn.Module, tmp_path: Path) -> None:
    weights = published(network.state_dict())
    path, own = tmp_path / "weights.pth", TANet50()
    torch.save({k: v[:101] if k.startswith("cls_head") else v for k, v in weights.items()}, path)
    with pytest.raises(CheckpointError, match=r"its head has 101 classes \(fc_cls.*\), the model is built for 400"):
        load_weights(own, path)
    torch.save({k: v for k, v in weights.items() if ".tam." not in k}, path)
    with pytest.raises(
        CheckpointError, match=r"does not fit TANet50:\n  missing \(\d+\): layer1\.0\.tam\.G\.0\.weight"
    ):
        load_weights(own, path)


@torch.no_grad()
def test_the_module_is_a_convolution_over_time_with_a_kernel_per_clip_and_channel() -> None:
    module = formula.fill(TemporalAdaptiveModule(8, 4))
    x = torch.from_numpy(formula.noise("features", (2, 4, 8, 3, 5)).astype(np.float32))
    out = module(x.flatten(0, 1)).unflatten(0, (2, 4))
    for b in range(2):
        means = x[b].mean(dim=(2, 3)).T
        kernel, weights = module.G(means), module.L(means[None])[0]
        assert not torch.allclose(kernel[0], kernel[1], rtol=1e-2)
        for c in range(8):
            series = (x[b, :, c] * weights[c, :, None, None]).flatten(1).T[:, None]
            expected = nn.functional.conv1d(series, kernel[c].view(1, 1, 3), padding=1)[:, 0].T.reshape(4, 3, 5)
            torch.testing.assert_close(out[b, :, c], expected)


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(network: nn.Module) -> None:
    x = torch.stack([torch.from_numpy(formula.clip(i, (8, 32, 32))) for i in range(2)])
    alone = torch.cat([network(x[:1]), network(x[1:])])
    torch.testing.assert_close(network(x), alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_target_layer_has_a_time_axis_and_gives_the_logits(network: nn.Module) -> None:
    layer = network.get_submodule(compose("explain_video", ["model=tanet_r50"]).model.target_layer)
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.from_numpy(formula.clip(0, (8, 64, 96)))[None]
    logits = network(x)
    handle.remove()
    assert seen[0].shape == (1, 2048, 8, 2, 3)
    torch.testing.assert_close(network.fc_cls(seen[0].mean(dim=(2, 3, 4))), logits, rtol=1e-4, atol=1e-5)


def test_another_number_of_frames_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"built for 8 frames, got 16: model\.spec\.frames"):
        TANet50()(torch.zeros(1, 3, 16, 32, 32))


def test_random_weights_are_those_of_the_seed_alone() -> None:
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = TemporalAdaptiveModule(8, 8)
        randomise(module, "tanet_r50")
        states.append(module.state_dict())
    assert all(torch.equal(first, states[1][key]) for key, first in states[0].items())
