import numpy as np
import pytest
import torch

from aosa.errors import ConfigError
from aosa.explainers import AOSAApprox
from aosa.removal.fills import Patches
from aosa.removal.weighting import weighted_map
from tests.helpers import SPEC, moving_clip, small_model

OPTIONS = {"stride": 4, "box": 8, "neighbours": 3}


def gradient_of(model, x, target):  # type: ignore[no-untyped-def]
    leaf = x.detach()[None].requires_grad_()
    value = model.scores(leaf)[0, target]
    value.backward()
    return float(value.detach()), leaf.grad[0]


@pytest.mark.parametrize("fill", ["constant", "patches", "box_mean"])
@pytest.mark.parametrize("relu", [True, False, "printed"])
def test_scores_are_the_sums_over_the_voxels_of_each_mask(fill: str, relu: object) -> None:
    model, clip = small_model(), moving_clip()
    explainer = AOSAApprox(**OPTIONS, fill=fill, relu=relu)
    x = clip.tensor(SPEC)
    masks = explainer.masks(clip, SPEC)
    value, gradient = gradient_of(model, x, 1)
    product = gradient * (explainer.fill(x, SPEC) - x)
    occluded = masks.occluded(0, len(masks))[:, None].float()
    if relu == "printed":
        drop = -(product * occluded).relu()
    elif relu:
        drop = (-product * occluded).relu()
    else:
        drop = -product * occluded
    scores = value - drop.sum(dim=(1, 2, 3, 4)).double().numpy()
    expected = weighted_map(masks, scores, value, "authors")
    got = explainer(model, clip, 1).values
    assert got.std() > 0
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("expand", ["authors", "occluded"])
def test_outliers_are_expanded_anew_at_the_most_extreme_mask(expand: str) -> None:
    model, clip = small_model(), moving_clip()
    seen = clip.frames[:, 2:5, 8:12].clone()
    clip.frames[:] = 128  # little happens but in one corner, so that its masks are outliers
    clip.frames[:, 2:5, 8:12] = seen
    explainer = AOSAApprox(stride=4, box=4, neighbours=1, relu=False, iqr=True, expand=expand, fill=Patches(margin=2))
    x = clip.tensor(SPEC)
    masks = explainer.masks(clip, SPEC)
    mu = Patches(margin=2)(x, SPEC)
    kept = 1 - masks.occluded(0, len(masks))[:, None].float()
    value, gradient = gradient_of(model, x, 1)
    scores = value + (gradient * (1 - kept) * (mu - x)).sum(dim=(1, 2, 3, 4)).double().numpy()
    change = scores - value
    q1, q3 = np.percentile(change, [25, 75])
    sides = [(change > q3 + 1.5 * (q3 - q1), change.argmax()), (change < q1 - 1.5 * (q3 - q1), change.argmin())]
    assert any(outside.any() for outside, _ in sides)
    for outside, extreme in sides:
        if outside.any():
            at = x * kept[extreme]
            f_at, j_at = gradient_of(model, at, 1)
            to = mu - at if expand == "authors" else None
            for m in np.flatnonzero(outside):
                step = (1 - kept[m]) * to if to is not None else kept[m] * x + (1 - kept[m]) * mu - at
                scores[m] = f_at + float((j_at * step).sum())
    expected = weighted_map(masks, scores, value, "authors")
    got = explainer(model, clip, 1).values
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    plain = AOSAApprox(stride=4, box=4, neighbours=1, relu=False, fill=Patches(margin=2))(model, clip, 1).values
    assert not torch.allclose(got, plain, rtol=1e-3)


def test_the_mean_of_all_draws_is_patches() -> None:
    with pytest.raises(ConfigError, match=r"explainer\.fill=sampled: choose one of .*patches$"):
        AOSAApprox(fill="sampled")


def test_similarity_and_temporal_stride_reach_the_masks() -> None:
    clip, plain = moving_clip(), AOSAApprox(**OPTIONS)
    options = {"similarity": "random", "temporal_stride": 2, "seed": 4}
    masks = AOSAApprox(**OPTIONS, **options).masks(clip, SPEC)
    assert len(masks) == 2 * len(plain.masks(clip, SPEC))
    other = AOSAApprox(**OPTIONS, **{**options, "seed": 5}).masks(clip, SPEC)
    assert (masks.groups != other.groups).any()
    assert (masks.boxes == other.boxes).all()
    sparse = AOSAApprox(**OPTIONS, **options, uncovered=True).masks(clip, SPEC)
    assert len(sparse) < len(masks)
    assert AOSAApprox(**OPTIONS, **options)(small_model(), clip, 1).values.std() > 0


def test_relu_and_iqr_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"explainer\.iqr=true needs explainer\.relu=false"):
        AOSAApprox(iqr=True)


@pytest.mark.parametrize("options", [{}, {"relu": False}, {"relu": True, "fill": "box_mean"}])
def test_what_the_authors_code_does_not_have_is_refused_with_compat(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"compat=authors needs explainer\.relu=false .*fill=constant or box_mean"):
        AOSAApprox(compat="authors", **options)


def test_it_costs_one_forward_and_one_backward_pass() -> None:
    model, clip = small_model(), moving_clip()
    calls = {"forward": 0, "backward": 0}
    first = model.network.stem[0]
    first.register_forward_hook(lambda *_: calls.update(forward=calls["forward"] + 1))
    first.register_full_backward_hook(lambda *_: calls.update(backward=calls["backward"] + 1))
    model.class_names = ["a", "b", "c"]
    AOSAApprox(**OPTIONS)(model, clip, 1)
    assert calls == {"forward": 1, "backward": 1}
