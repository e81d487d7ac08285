"""Saliency tubes in closed form, and where they are not defined."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa import VideoModel
from aosa.errors import ConfigError
from aosa.explainers import SaliencyTubes
from tests.explainers.test_attention_rollout import small_timesformer
from tests.helpers import SPEC, linear_model, moving_clip, small_model


def scaled(volume: Tensor) -> Tensor:
    tubes = F.interpolate(volume[None, None], size=(SPEC.frames, *SPEC.size), mode="trilinear")[0, 0]
    return (tubes - tubes.min()) / (tubes.max() - tubes.min())


def test_is_the_classifiers_row_over_the_last_features() -> None:
    model, clip = small_model(), moving_clip()
    network = model.network
    with torch.no_grad():
        features = network.layer4(network.stem(clip.tensor(SPEC)[None]))[0]
        volume = torch.einsum("c,cthw->thw", network.fc.weight[2], features)
        # Its mean is the logit but for the bias: what the tubes share out is the score itself.
        logit = model.logits(clip.tensor(SPEC)[None])[0, 2] / 0.4 - network.fc.bias[2]
    assert float(volume.mean()) == pytest.approx(float(logit), rel=1e-4)
    torch.testing.assert_close(SaliencyTubes()(model, clip, 2).values, scaled(volume), rtol=1e-4, atol=1e-5)


class TwoPathways(nn.Module):
    """Two feature volumes of other lengths, pooled and put side by side, the first one first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slow = nn.Sequential(nn.Conv3d(3, 6, 3, stride=(4, 2, 2), padding=1), nn.ReLU())
        self.fast = nn.Sequential(nn.Conv3d(3, 2, 3, stride=(1, 2, 2), padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.slow(x).mean(dim=(2, 3, 4)), self.fast(x).mean(dim=(2, 3, 4))], dim=1))


def test_two_pathways_are_weighted_each_by_its_part_and_added() -> None:
    model = VideoModel(TwoPathways(), SPEC, device="cpu", target_layer=["slow", "fast"])
    clip = moving_clip()
    x, row = clip.tensor(SPEC)[None], model.network.fc.weight[1].detach()
    with torch.no_grad():
        volumes = [
            torch.einsum("c,cthw->thw", part, layer(x)[0])
            for part, layer in ((row[:6], model.network.slow), (row[6:], model.network.fast))
        ]
    sizes = [F.interpolate(v[None, None], size=clip.size, mode="trilinear")[0, 0] for v in volumes]
    got = SaliencyTubes()(model, clip, 1).values
    torch.testing.assert_close(got, scaled(sizes[0] + sizes[1]), rtol=1e-4, atol=1e-5)


def test_other_networks_are_refused_with_what_is_possible() -> None:
    timesformer = small_timesformer()
    timesformer.target_layers = ["blocks.1.spatial.norm"]
    hidden = small_model()
    hidden.target_layers = ["stem"]
    for model, message in (
        (timesformer, r"timesformer \(blocks\.1\.spatial\.norm\) have 24 channels and its classifier takes 24 numbers"),
        (hidden, r"small \(stem\) have 8 channels and its classifier takes 12"),
    ):
        with pytest.raises(ConfigError, match=message + r"(.|\n)*such as r3d50"):
            SaliencyTubes().check(model)
    with pytest.raises(ConfigError, match="names no target layer"):
        SaliencyTubes().check(linear_model())
    SaliencyTubes().check(small_model())
