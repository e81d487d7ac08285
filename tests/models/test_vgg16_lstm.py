"""VGG16-LSTM against STEP's, on weights and noise from a formula and on a real clip."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa.errors import CheckpointError, ConfigError
from aosa.models import load_model
from aosa.models.checkpoints import load_weights
from aosa.models.vgg16_lstm import VGG16LSTM, ReLULSTMCell
from tests.reference.parity import Reference, layout

REFERENCE = Reference("vgg16_lstm")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return REFERENCE.fill(VGG16LSTM(num_classes=101))


@pytest.mark.parametrize("name", ["noise", "short"])
def test_logits_of_noise_are_those_of_the_published_implementation(network: nn.Module, name: str) -> None:
    assert REFERENCE.distance(network, name) < 1e-5


@pytest.mark.real
@pytest.mark.parametrize("name", ["clip", "mirror"])
def test_logits_of_a_real_clip_are_those_of_the_published_implementation(
    network: nn.Module, shared_data: Path, name: str
) -> None:
    assert REFERENCE.distance(network, name, shared_data) < 1e-4


def test_the_inputs_of_the_reference_are_told_apart() -> None:
    assert REFERENCE.closest() > 0.1


def test_names_and_shapes_are_those_of_the_published_checkpoints(network: nn.Module) -> None:
    assert layout(network) == REFERENCE.values["layout"]


def pool_with_overlap(network: VGG16LSTM) -> None:
    network.pool3 = nn.MaxPool2d(3, 2, padding=1)


def stride_in_the_last_convolution(network: VGG16LSTM) -> None:
    network.conv5_3.stride, network.pool5 = (2, 2), nn.Identity()


def padding_repeats_the_border(network: VGG16LSTM) -> None:
    network.conv4_1.padding_mode = "replicate"


def candidate_with_tanh(network: VGG16LSTM) -> None:
    cell = network.lstm1
    gates = cell.gates

    def wrong(x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        return *gates(x, h)[:3], (cell.fc_x(x) + cell.fc_h(h)).chunk(4, dim=1)[3].tanh()

    cell.gates = wrong


def gates_in_the_order_of_pytorch(network: VGG16LSTM) -> None:
    for weights in network.lstm1.parameters():
        i, f, o, g = weights.data.chunk(4)
        weights.data = torch.cat([i, f, g, o])


def hidden_state_lost_between_steps(network: VGG16LSTM) -> None:
    network.lstm1.fc_h.weight.data.zero_()


def frames_backwards(network: VGG16LSTM) -> None:
    steps = network.steps
    network.steps = lambda embedded: steps(embedded.flip(1))


def last_step_alone(network: VGG16LSTM) -> None:
    steps = network.steps
    network.steps = lambda embedded: steps(embedded)[:, -1:].expand(-1, embedded.shape[1], -1)


def mean_of_the_logits(network: VGG16LSTM) -> None:
    steps = network.steps
    network.steps = lambda embedded: steps(embedded).mean(dim=1, keepdim=True).expand(-1, embedded.shape[1], -1)


@pytest.mark.parametrize(
    "mutate",
    [
        pool_with_overlap,
        stride_in_the_last_convolution,
        padding_repeats_the_border,
        candidate_with_tanh,
        gates_in_the_order_of_pytorch,
        hidden_state_lost_between_steps,
        frames_backwards,
        last_step_alone,
        mean_of_the_logits,
    ],
)
def test_the_reference_notices_a_wrong_architecture(network: VGG16LSTM, mutate: Callable[[VGG16LSTM], None]) -> None:
    mutant = copy.deepcopy(network)
    mutate(mutant)
    assert REFERENCE.distance(mutant, "short") > 1e-3


def test_one_step_by_hand() -> None:
    cell = ReLULSTMCell(1, 1)
    with torch.no_grad():
        cell.fc_x.weight.copy_(torch.tensor([[0.0], [0.0], [0.0], [3.0]]))
        cell.fc_x.bias.zero_()
        cell.fc_h.weight.copy_(torch.tensor([[0.0], [0.0], [0.0], [-1.0]]))
        h, c = cell(torch.ones(1, 1), torch.full((1, 1), 0.5), torch.full((1, 1), 4.0))
    # All gates are half open: c = .5·4 + .5·(3 − .5), h = .5·c.
    assert c.item() == pytest.approx(3.25)
    assert h.item() == pytest.approx(1.625)


def short_of_vgg(monkeypatch: pytest.MonkeyPatch) -> VGG16LSTM:
    """The LSTM alone, on frames that are summed to 4096 numbers."""
    monkeypatch.setattr("aosa.models.vgg16_lstm._GROUPS", ())
    with torch.device("meta"):
        network = VGG16LSTM(num_classes=5)
    network.fc6 = network.fc7 = nn.Identity()
    network.to_empty(device="cpu")
    monkeypatch.setattr(network, "embed", lambda frames: frames.sum(dim=1).flatten(1)[:, :4096])
    for number, weights in enumerate(network.parameters()):
        nn.init.normal_(weights, std=0.02, generator=torch.Generator().manual_seed(number))
    return network.eval()


def test_a_step_has_no_gradient_in_the_frames_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = short_of_vgg(monkeypatch)
    embedded = torch.rand(1, 3, 4096, generator=torch.Generator().manual_seed(0)).requires_grad_()
    steps = network.steps(embedded)
    (gradient,) = torch.autograd.grad(steps[0, 2, 1], embedded)
    assert gradient[0, :2].abs().max() == 0
    assert gradient[0, 2].abs().max() > 0
    with torch.no_grad():
        earlier = embedded.clone()
        earlier[0, 0] += 1
        # The step does depend on them.
        assert (network.steps(earlier)[0, 2] - steps[0, 2]).abs().max() > 1e-4


def test_the_softmax_is_the_mean_of_the_probabilities_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = short_of_vgg(monkeypatch)
    x = torch.rand(2, 3, 4, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities = network(x).softmax(dim=1)
        embedded = x.sum(dim=1).flatten(2)[..., :4096]
        expected = network.steps(embedded)
    torch.testing.assert_close(probabilities, expected.softmax(dim=2).mean(dim=1))


def test_a_class_that_no_step_believes_in_has_a_finite_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    network = short_of_vgg(monkeypatch)
    steps = torch.tensor([[[500.0, 0.0], [300.0, 0.0]]])
    monkeypatch.setattr(network, "steps", lambda embedded: steps)
    logits = network(torch.zeros(1, 3, 2, 224, 224))
    # The mean of e⁻⁵⁰⁰ and e⁻³⁰⁰ is half the second.
    torch.testing.assert_close(logits, torch.tensor([[0.0, -300.0 - 0.6931472]]))


def test_frames_of_another_size_are_refused_with_the_size_that_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"needs frames of 224×224, got 112×224: set model\.spec\.size"):
        short_of_vgg(monkeypatch)(torch.zeros(1, 3, 2, 112, 224))


def test_a_checkpoint_as_published_gives_the_weights_back(network: nn.Module, tmp_path: Path) -> None:
    # A bare state dict; with a prefix where the training ran on several GPUs.
    path = tmp_path / "ucf101_24_vgg16lstm_16_Full_LongRange.pt"
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, path)
    model = load_model("vgg16_lstm", num_classes=101, checkpoint=path, device="cpu")
    loaded = model.network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in network.state_dict().items())
    digest = model.digest()
    with torch.no_grad():
        model.network.fc8_final.bias[0] += 1
        assert model.digest() != digest
        model.network.fc8_final.bias[0] = network.fc8_final.bias[0]
    assert model.digest() == digest


def test_a_wrong_checkpoint_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = VGG16LSTM(num_classes=24)
    one = torch.ones(1)
    state = {k: one.expand(v.shape) for k, v in network.state_dict().items()}
    head = {"fc8_final.weight": one.expand(101, 256), "fc8_final.bias": one.expand(101)}
    torch.save(state | head, tmp_path / "head.pt")
    with pytest.raises(CheckpointError, match=r"its head has 101 classes \(fc8_final\.weight, .* is built for 24; set"):
        load_weights(network, tmp_path / "head.pt")
    small = {k: v for k, v in state.items() if not k.startswith("conv5")}
    small |= {"fc7.weight": one.expand(2048, 4096), "fc7.bias": one.expand(2048)}
    torch.save(small, tmp_path / "small.pt")
    with pytest.raises(CheckpointError, match=r"(?s)missing \(6\): conv5_1\.weight.*fc7\.weight is 2048×4096"):
        load_weights(network, tmp_path / "small.pt")
