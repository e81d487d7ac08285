"""EB-R against the public excitation backprop, on weights and inputs from a formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa import Clip, InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import EBR
from aosa.explainers.eb_r import _Excitation
from aosa.models.vgg16_lstm import VGG16LSTM
from tests.explainers.test_contract import FRAMES_SPEC, small_vgg16_lstm
from tests.helpers import moving_clip, small_model
from tests.reference import formula

REFERENCE = np.load(Path(__file__).resolve().parents[1] / "reference" / "eb_r.npz")["map"]
SPEC = InputSpec(frames=2, size=(224, 224))


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return VideoModel(formula.fill(VGG16LSTM(7), offset=0.02), SPEC, name="vgg16_lstm", device="cpu")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.from_tensor(torch.from_numpy(formula.clip(0, (2, 224, 224))), SPEC)


def test_the_map_is_that_of_the_public_code(model: VideoModel, clip: Clip) -> None:
    expected = F.interpolate(torch.from_numpy(REFERENCE)[None, None], size=clip.size, mode="trilinear")[0, 0]
    with torch.backends.mkldnn.flags(enabled=False):
        plain = EBR()(model, clip, 2).values
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-5)
    # oneDNN's convolutions are less exact on some processors, and each layer divides by what it finds.
    got = EBR()(model, clip, 2).values
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)
    other = EBR(output="logit")(model, clip, 2).values
    assert float(torch.corrcoef(torch.stack([got.flatten(), other.flatten()]))[0, 1]) < 0.9


def test_a_linear_layer_shares_out_in_proportion_to_positive_weight_times_activation() -> None:
    x = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[0.5, 0.25, 3.0], [-1.0, 2.0, 1.0], [-1.0, -1.0, 0.0]])
    with _Excitation():
        y = F.linear(x, weight, torch.tensor([10.0, -10.0, 0.0]))
    (y * torch.tensor([0.6, 0.3, 0.1])).sum().backward()
    # Output 0: ½ and ½; output 1: all to input 1; output 2: nothing excites it.
    assert x.grad[0].tolist() == pytest.approx([0.3, 0.6, 0.0])
    kernel = torch.full((1, 1, 2, 2), 0.5)
    image = torch.tensor([[[[1.0, 3.0], [0.0, 4.0]]]], requires_grad=True)
    with _Excitation():
        F.conv2d(image, kernel).sum().backward()
    assert image.grad.flatten().tolist() == pytest.approx([1 / 8, 3 / 8, 0, 4 / 8])


def won(layer: nn.Linear, x: Tensor, winning: Tensor) -> Tensor:
    """What N×D inputs of a layer win of its N×E outputs' winning probabilities: excitation backprop as printed."""
    positive = layer.weight.detach().clamp(min=0)
    return x * ((winning / (x @ positive.T + 1e-20)) @ positive)


def test_from_the_logit_every_step_has_a_winner_of_its_own() -> None:
    model, clip = small_vgg16_lstm(), moving_clip(FRAMES_SPEC)
    network, target = model.network, 1
    kept: list[Tensor] = []
    handle = network.pool5.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    with torch.no_grad():
        pooled = network.features(clip.tensor(FRAMES_SPEC).transpose(0, 1)).flatten(1)
        sixth = network.fc6(pooled).relu()
        seventh = network.fc7(sixth).relu()
    handle.remove()
    cell, head = network.lstm1, network.fc8_final
    h = c = torch.zeros(1, cell.hidden)
    inputs = []
    for x in seventh[:, None]:
        summed = (cell.fc_x(x) + cell.fc_h(h)).detach().requires_grad_()
        i, f, o, g = summed.chunk(4, dim=1)
        new = f.sigmoid() * c + i.sigmoid() * g.relu()
        out = o.sigmoid() * new.relu()
        # The head's winners; the gates pass them as they pass gradients; then the winners of their inputs.
        first = won(head, out.detach(), torch.eye(network.num_classes)[[target]])
        (gates,) = torch.autograd.grad(out, summed, first)
        inputs.append(won(cell.fc_x, x, gates))
        h, c = out.detach(), new.detach()
    winning = torch.cat(inputs)
    assert (winning.abs().sum(dim=1) > 0).all()
    winning = len(winning) * winning / winning.sum()
    winning = won(network.fc7, sixth, winning * (seventh > 0)) * (sixth > 0)
    conv5 = kept[0].requires_grad_()
    (winning,) = torch.autograd.grad(network.pool5(conv5).flatten(1), conv5, won(network.fc6, pooled, winning))
    expected = winning.abs().mean(dim=1)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    expected = F.interpolate(expected[None, None], size=clip.size, mode="trilinear")[0, 0]
    assert float(expected.amax(dim=(1, 2)).min()) > 0.01
    torch.testing.assert_close(EBR(output="logit")(model, clip, target).values, expected, rtol=0, atol=1e-4)


def test_another_network_is_refused_with_what_is_possible() -> None:
    reason = r"which small \(Small3D\) does not have; it is defined for model=vgg16_lstm"
    with pytest.raises(ConfigError, match=reason):
        EBR().check(small_model())
    with pytest.raises(ConfigError, match=reason):
        EBR()(small_model(), moving_clip(), 1)
