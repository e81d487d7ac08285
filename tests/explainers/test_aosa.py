import numpy as np
import pytest
import torch

from aosa.errors import ConfigError
from aosa.explainers import AOSA, AOSAApprox
from tests.helpers import SPEC, linear_model, moving_clip, small_model

OPTIONS = {"stride": 4, "box": 8, "neighbours": 3}


@pytest.mark.parametrize("weighting", ["authors", "paper"])
def test_the_map_by_hand(weighting: str) -> None:
    model, clip = small_model(), moving_clip()
    explainer = AOSA(**OPTIONS, weighting=weighting)
    x = clip.tensor(SPEC)
    masks = explainer.masks(clip, SPEC)
    total = torch.zeros(clip.size, dtype=torch.float64)
    with torch.no_grad():
        base = model.probabilities(x[None])[0, 1].double()
        for i in range(len(masks)):
            kept = ~masks.occluded(i, i + 1)[0]
            score = model.probabilities((x * kept)[None])[0, 1].double()
            weight = score if weighting == "paper" else (score - base) / kept.double().mean()
            total += weight * kept
    expected = total / len(masks)
    got = explainer(model, clip, 1).double()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)


def test_the_approximation_is_exact_for_a_linear_score() -> None:
    """With tiny weights softmax is linear to first order: the two methods must agree."""
    model, clip = linear_model(), moving_clip()
    model.network.weight.data *= 1e-3
    exact = AOSA(**OPTIONS, fill="patches")(model, clip, 1)
    approx = AOSAApprox(**OPTIONS, relu=False)(model, clip, 1)
    correlation = np.corrcoef(exact.flatten(), approx.flatten())[0, 1]
    assert correlation > 0.999


def test_no_neighbours_is_the_single_mask_method() -> None:
    model, clip = small_model(), moving_clip()
    single = AOSA(stride=4, box=8, neighbours=0)(model, clip, 1)
    joined = AOSA(stride=4, box=8, neighbours=3)(model, clip, 1)
    assert not torch.allclose(single, joined)


@pytest.mark.parametrize(("key", "value"), [("fill", "grey"), ("weighting", "none"), ("margin", 0), ("stride", -8)])
def test_options_out_of_range_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"explainer\.{key}="):
        AOSA(**{key: value})
