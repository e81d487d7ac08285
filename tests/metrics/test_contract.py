"""What every metric promises, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from aosa import Clip, SaliencyMap, metrics
from aosa.bench.passes import counted, total
from aosa.errors import AosaError, ConfigError
from aosa.explainers import EP3D, Random
from aosa.metrics import Metric, MinimalMask, PreservationRatio, Sanity, TruthScore
from aosa.store.folders import canonical
from tests.helpers import moving_clip, small_model

# Those that need more than their defaults.
SHORT = {"preservation_ratio": PreservationRatio(EP3D(iterations=1, sigma=5), areas=[0.5]), "sanity": Sanity(Random())}
KINDS = [getattr(metrics, name) for name in metrics.__all__ if name != "Metric"]
METRICS = [SHORT.get(kind.name) or kind() for kind in KINDS]


@pytest.fixture(params=METRICS, ids=lambda metric: type(metric).__name__)
def metric(request: pytest.FixtureRequest) -> Metric:
    return request.param


def noise(clip: Clip) -> torch.Tensor:
    return torch.rand(clip.size, generator=torch.Generator().manual_seed(0))


def with_truth() -> Clip:
    clip = moving_clip()
    clip.truth = torch.zeros(clip.size, dtype=torch.bool)
    clip.truth[:, 4:12, 10:18] = True
    return clip


def test_it_makes_the_passes_that_it_says(metric: Metric) -> None:
    model, clip = small_model(class_names=["a", "b", "c"]), with_truth()
    said = metric.passes(model, clip)
    with counted(model) as passes:
        metric(model, clip, noise(clip), 1)
    made = total(passes)
    # The first two stop at the first share that will do; without batch norm there are no statistics to set.
    early = isinstance(metric, MinimalMask | PreservationRatio | Sanity)
    assert made.forward <= said.forward if early else made.forward == said.forward
    assert made.backward == said.backward


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_map_that_is_not_finite_is_refused(metric: Metric, value: float) -> None:
    saliency = noise(with_truth())
    saliency[0, 0, 0] = value
    with pytest.raises(AosaError, match="'moving': the map holds NaN or infinity"):
        metric(small_model(), with_truth(), saliency, 1)


def test_a_constant_map_is_refused(metric: Metric) -> None:
    with pytest.raises(AosaError, match=r"'moving': the map is constant \(0.5\)"):
        metric(small_model(), with_truth(), torch.full(with_truth().size, 0.5), 1)


def test_a_map_of_another_size_is_refused(metric: Metric) -> None:
    with pytest.raises(AosaError, match=r"the map is \(4, 24, 31\), the clip \(4, 24, 32\)"):
        metric(small_model(), with_truth(), noise(with_truth())[..., :-1], 1)


def test_a_target_other_than_the_maps_is_refused(metric: Metric) -> None:
    saliency = SaliencyMap(noise(with_truth()), 2)
    with pytest.raises(ConfigError, match="target=1, but the map explains class 2"):
        metric(small_model(), with_truth(), saliency, 1)
    assert metric(small_model(), with_truth(), saliency)["target"] == 2


def test_a_smoothed_map_is_scored_for_its_own_class(metric: Metric) -> None:
    clip, values = with_truth(), noise(with_truth())
    smoothed = SaliencyMap(values, 2).with_values(gaussian_filter(values, 1))
    record = metric(small_model(), clip, smoothed)
    assert record == metric(small_model(), clip, np.asarray(smoothed), target=2)
    assert record["target"] == 2  # the clip's label is 1


@pytest.mark.parametrize("bare", [noise(with_truth()), noise(with_truth()).numpy()], ids=["tensor", "array"])
def test_a_bare_array_needs_its_target(metric: Metric, bare: object) -> None:
    with pytest.raises(ConfigError, match=r"'moving': a bare (Tensor|ndarray) does not say which class it explains"):
        metric(small_model(), with_truth(), bare)


def test_the_record_holds_its_columns_and_repeats(metric: Metric) -> None:
    first, second = (metric(small_model(), with_truth(), noise(with_truth()), 1) for _ in range(2))
    assert first == second
    assert set(metric.columns) <= set(first)
    assert json.loads(canonical(first)) == first


def test_the_model_is_left_as_it_was(metric: Metric) -> None:
    model = small_model()
    model.network.train()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    metric(model, with_truth(), noise(with_truth()), 1)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert all(m.training and not m._forward_pre_hooks for m in model.network.modules())
    assert all(p.requires_grad and p.grad is None for p in model.network.parameters())


def test_the_identity_is_json(metric: Metric) -> None:
    identity = metric.identity()
    assert json.loads(canonical(identity)) == identity
    assert identity["name"] == type(metric).name


def test_truth_score_of_known_maps() -> None:
    clip = with_truth()
    assert TruthScore()(small_model(), clip, clip.truth.float(), 1)["truth"] == 1
    assert TruthScore()(small_model(), clip, (~clip.truth).float(), 1)["truth"] == 0
    half = clip.truth.float()
    half[:2] = 0
    half[0, 0, 0] = 2
    # 2 of 4 frames found, then ties by index fill up with voxels outside the region: first row and column.
    assert TruthScore()(small_model(), clip, half, 1)["truth"] == pytest.approx(0.5, abs=0.05)
    big = [
        TruthScore()(small_model(), clip, torch.rand(clip.size, generator=torch.Generator().manual_seed(s)), 1)
        for s in range(40)
    ]
    mean = sum(r["truth"] for r in big) / len(big)
    assert mean == pytest.approx(big[0]["relevant"], abs=0.02)


def test_truth_score_needs_a_truth() -> None:
    with pytest.raises(AosaError, match="'moving' has no ground truth"):
        TruthScore()(small_model(), moving_clip(), noise(moving_clip()), 1)
