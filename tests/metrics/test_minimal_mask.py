"""The minimal mask on networks whose probability is a known function of the share of voxels shown."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa import Clip, InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.metrics import MinimalMask

SPEC = InputSpec(frames=4, size=(8, 10), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
VOXELS = 4 * 8 * 10


class Shown(nn.Module):
    """Two classes; the first one's logit is a function of the share of voxels that are white, the rest being black."""

    def __init__(self, logit: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logit = logit
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        pixels = x * torch.tensor(SPEC.std).view(3, 1, 1, 1) + torch.tensor(SPEC.mean).view(3, 1, 1, 1)
        assert torch.minimum(pixels.abs(), (pixels - 1).abs()).max() < 1e-5  # black or white, nothing else
        logit = self.logit(pixels.mean(dim=(1, 2, 3, 4)))
        return torch.stack([logit, torch.zeros_like(logit)], dim=1)


def model(logit: Callable[[Tensor], Tensor], batch_size: int = 8) -> VideoModel:
    return VideoModel(Shown(logit), SPEC, name="shown", device="cpu", batch_size=batch_size)


def white() -> Clip:
    return Clip(id="white", frames=torch.full((4, *SPEC.size, 3), 255, dtype=torch.uint8), label=0)


def noise() -> Tensor:
    return torch.rand(4, *SPEC.size, generator=torch.Generator().manual_seed(0))


def rising(share: Tensor) -> Tensor:
    """From σ(−4) = .018 to σ(3) = .953."""
    return 7 * share - 4


@pytest.mark.parametrize("scale", ["absolute", "relative"])
@pytest.mark.parametrize("steps", [100, 7])
def test_shares_are_where_the_inverse_of_the_probability_says(scale, steps) -> None:
    record = MinimalMask(scale=scale, steps=steps)(model(rising), white(), noise(), 0)
    counts = np.rint(np.linspace(0, VOXELS, steps + 1))
    whole = 1 / (1 + math.exp(-3))
    assert record["probability"] == pytest.approx(whole)
    for threshold in (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        level = threshold * (whole if scale == "relative" else 1)
        shown = (math.log(level / (1 - level)) + 4) / 7  # of the voxels, when the probability is the level
        inserted = min(c for c in counts if c >= shown * VOXELS) / VOXELS
        deleted = min((c for c in counts if c >= (1 - shown) * VOXELS), default=math.nan) / VOXELS
        assert record[f"minimal_insertion_{threshold:g}"] == pytest.approx(inserted)
        if math.isnan(deleted):  # black alone keeps .018
            assert level < 1 / (1 + math.exp(4))
            assert record[f"minimal_deletion_{threshold:g}"] is None
        else:
            assert record[f"minimal_deletion_{threshold:g}"] == pytest.approx(deleted)
    assert record["minimal_deletion"] == [record[f"minimal_deletion_{t:g}"] for t in record["thresholds"]]
    assert record["minimal_insertion"] == [record[f"minimal_insertion_{t:g}"] for t in record["thresholds"]]


def test_the_first_share_counts_though_the_probability_turns_back() -> None:
    """A probability that peaks at half of the clip (σ(2) = .88), and is σ(−4.25) = .014 at both ends."""
    metric = MinimalMask(thresholds=[0.5, 0.9], steps=80)
    record = metric(model(lambda share: 2 - 25 * (share - 0.5) ** 2), white(), noise(), 0)
    assert record["minimal_insertion"] == [pytest.approx(math.ceil(80 * (0.5 - math.sqrt(2 / 25))) / 80), None]
    assert record["minimal_deletion"] == [0, 0]
    record = metric(model(lambda share: 25 * (share - 0.5) ** 2 - 2), white(), noise(), 0)  # the same, upside down
    apart = [math.sqrt((2 + math.log(t / (1 - t))) / 25) for t in (0.5, 0.9)]
    assert record["minimal_deletion"] == pytest.approx([math.ceil(80 * (0.5 - d)) / 80 for d in apart])
    assert record["minimal_insertion"] == [0, 0]


def test_the_map_decides_which_voxels_come_first() -> None:
    """Only the last frame counts: half of it decides, which a map that knows has first, and one that errs last."""
    last = VideoModel(LastFrame(), SPEC, device="cpu", batch_size=8)
    knows, errs = noise(), noise()
    knows[3] += 1
    errs[3] -= 1
    metric = MinimalMask(thresholds=[0.5], steps=VOXELS)
    assert metric(last, white(), knows, 0)["minimal_insertion"] == [40 / VOXELS]
    assert metric(last, white(), knows, 0)["minimal_deletion"] == [40 / VOXELS]
    assert metric(last, white(), errs, 0)["minimal_insertion"] == [280 / VOXELS]
    by_frame = MinimalMask(thresholds=[0.5], steps=80, ranking="frame")
    for saliency in (knows, errs):
        assert by_frame(last, white(), saliency, 0)["minimal_insertion"] == [0.5]


class LastFrame(nn.Module):
    """σ(0) as half of the last frame is white."""

    def forward(self, x: Tensor) -> Tensor:
        white = (x[:, 0, 3] > 0).float().mean(dim=(1, 2)) - 0.5
        return torch.stack([white, torch.zeros_like(white)], dim=1)


def test_only_as_many_passes_as_the_thresholds_need() -> None:
    network = model(rising, batch_size=4)
    MinimalMask(thresholds=[0.9], steps=100)(network, white(), noise(), 0)
    # Deletion ends at share .12, the 13th: four batches; insertion at .89, the 90th: 23. Before, the whole clip: its
    # number of classes, and its probability.
    assert network.network.sizes == [1, 1, *[4] * (4 + 23)]


def test_batch_size_changes_nothing() -> None:
    records = [MinimalMask()(model(rising, batch_size=n), white(), noise(), 0) for n in (1, 7, 101)]
    assert records[0] == records[1] == records[2]


def test_substrates_are_the_options() -> None:
    """With white in place of black nothing is ever taken away."""
    options = {"thresholds": [0.5], "steps": 80}
    record = MinimalMask(**options, deletion="clip_mean")(model(rising), white(), noise(), 0)
    assert (record["minimal_deletion"], record["minimal_insertion"]) == ([None], [pytest.approx(46 / 80)])
    record = MinimalMask(**options, insertion="clip_mean")(model(rising), white(), noise(), 0)
    assert (record["minimal_deletion"], record["minimal_insertion"]) == ([pytest.approx(35 / 80)], [0])


def test_only_the_top_is_ranked_when_asked() -> None:
    """The top is frame 2; the rest goes by index, whatever the map says of it."""
    saliency = noise()
    saliency[3] += 1
    saliency[2] += 100
    last = VideoModel(LastFrame(), SPEC, device="cpu", batch_size=8)
    metric = {"thresholds": [0.5], "steps": VOXELS}
    assert MinimalMask(**metric)(last, white(), saliency, 0)["minimal_insertion"] == [120 / VOXELS]
    assert MinimalMask(**metric, top=0.95)(last, white(), saliency, 0)["minimal_insertion"] == [280 / VOXELS]


def test_columns_are_the_thresholds() -> None:
    assert MinimalMask(thresholds=[0.5, 0.25]).columns == {
        "minimal_deletion_0.5": "lower",
        "minimal_deletion_0.25": "lower",
        "minimal_insertion_0.5": "lower",
        "minimal_insertion_0.25": "lower",
    }


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.0], [0.5, 0.5], [True], 0.5, ["a"]])
def test_thresholds_out_of_range_are_refused(thresholds) -> None:
    with pytest.raises(ConfigError, match=r"metric\.thresholds=.*: give different shares between 0 and 1"):
        MinimalMask(thresholds=thresholds)


@pytest.mark.parametrize("option", [{"scale": "log"}, {"steps": 0}, {"deletion": "x"}, {"ranking": "x"}, {"top": 2}])
def test_other_options_out_of_range_are_refused(option) -> None:
    (key,) = option
    with pytest.raises(ConfigError, match=rf"metric\.{key}={option[key]}: "):
        MinimalMask(**option)
