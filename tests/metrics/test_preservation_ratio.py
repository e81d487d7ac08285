from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aosa import Clip, SaliencyMap, VideoModel
from aosa.config import build, compose
from aosa.errors import ConfigError
from aosa.explainers import EP3D, OSA, STEP
from aosa.metrics import PreservationRatio
from tests.helpers import SPEC, moving_clip


class Contrast(nn.Module):
    """The logit of class 0 is how much the pixels of frame 1 differ from their neighbours: blur lowers it."""

    def forward(self, x: Tensor) -> Tensor:
        sharp = x[:, :, 1].diff(dim=3).abs().mean(dim=(1, 2, 3))
        return torch.stack([sharp, torch.zeros_like(sharp)], dim=1)


class Known(EP3D):
    """Masks that keep frames: all, if the share is at least .3; else only frame 1, if it is at least .1; else none."""

    def masks(self, model: VideoModel, x: Tensor, target: int, areas: list[float]) -> Tensor:
        kept = torch.zeros(len(areas), *x.shape[1:])
        for mask, area in zip(kept, areas, strict=True):
            mask[1 if 0.1 <= area < 0.3 else slice(0, 4 if area >= 0.3 else 0)] = 1
        return kept


@pytest.fixture
def model() -> VideoModel:
    return VideoModel(Contrast(), SPEC, device="cpu")


def map_of(clip: Clip, target: int) -> SaliencyMap:
    return SaliencyMap(torch.rand(clip.size, generator=torch.Generator().manual_seed(0)), target)


@pytest.mark.parametrize(
    ("areas", "ratio"),
    [([0.5, 0.2, 0.05], 0.2), ([0.1, 0.3], 0.1), ([0.05, 0.4], 0.4), ([0.02, 0.05], 1.0)],
)
def test_the_smallest_share_that_keeps_the_probability(model, areas, ratio) -> None:
    clip = moving_clip()
    record = PreservationRatio(Known(), areas)(model, clip, map_of(clip, 0))
    assert record["min_preservation_ratio"] == ratio
    assert record["areas"] == sorted(areas)


def test_the_target_is_the_maps_and_its_values_do_not_matter(model) -> None:
    """What raises class 0 lowers class 1: with nothing kept the blurred clip has more of it than the clip itself."""
    clip = moving_clip()
    metric = PreservationRatio(Known(), [0.05, 0.4])
    assert metric(model, clip, map_of(clip, 1))["min_preservation_ratio"] == 0.05
    assert metric(model, clip, map_of(clip, 0)) == metric(model, clip, -map_of(clip, 0).values, 0)


def test_masks_are_learnt_by_the_runs_explainer() -> None:
    config = compose("evaluate", ["metric=preservation_ratio", "explainer=step", "explainer.iterations=7"])
    metric = build(config.metric)
    assert isinstance(metric.explainer, STEP)
    assert metric.identity()["explainer"] == STEP(iterations=7).identity()


def test_an_explainer_without_masks_is_refused() -> None:
    message = r"metric\.explainer=OSA\(.*: give an explainer that learns masks: choose explainer=ep3d, .* or step"
    with pytest.raises(ConfigError, match=message):
        PreservationRatio(OSA())


@pytest.mark.parametrize("areas", [[], [0.1, 1.0], [0.1, 0.1], 0.1])
def test_areas_out_of_range_are_refused(areas) -> None:
    with pytest.raises(ConfigError, match=r"metric\.areas=.*: give different shares between 0 and 1"):
        PreservationRatio(EP3D(), areas)


class Rivals(nn.Module):
    """As `Contrast`, less what frame 3 has of it."""

    def forward(self, x: Tensor) -> Tensor:
        sharp = x[:, :, [1, 3]].diff(dim=4).abs().mean(dim=(1, 3, 4))
        score = 4 * (sharp[:, 0] - 2 * sharp[:, 1])
        return torch.stack([score, torch.zeros_like(score)], dim=1)


def test_learnt_masks_leave_out_what_speaks_against_the_class() -> None:
    """Without frame 3 the probability is higher than the whole clip's, and half of the clip holds all of frame 1."""
    clip, rivals = moving_clip(), VideoModel(Rivals(), SPEC, device="cpu")
    ratio = PreservationRatio(EP3D(iterations=40, sigma=5), [0.5, 0.99])
    assert ratio(rivals, clip, map_of(clip, 0))["min_preservation_ratio"] == 0.5
