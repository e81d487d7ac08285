"""EB-R against the public excitation backprop, on weights and inputs from a formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aosa import Clip, InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import EBR
from aosa.explainers.eb_r import _Excitation
from aosa.models.vgg16_lstm import VGG16LSTM
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
    got = EBR()(model, clip, 2)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    other = EBR(output="logit")(model, clip, 2)
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


def test_another_network_is_refused_with_what_is_possible() -> None:
    reason = r"which small \(Small3D\) does not have; it is defined for model=vgg16_lstm"
    with pytest.raises(ConfigError, match=reason):
        EBR().check(small_model())
    with pytest.raises(ConfigError, match=reason):
        EBR()(small_model(), moving_clip(), 1)
