from pathlib import Path

import numpy as np
import pytest
import torch

from aosa.errors import ConfigError
from aosa.explainers import AOSA, AOSAApprox
from aosa.removal.draws import PatchDraws
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
        base = model.scores(x[None])[0, 1].double()
        for i in range(len(masks)):
            kept = ~masks.occluded(i, i + 1)[0]
            score = model.scores((x * kept)[None])[0, 1].double()
            weight = score if weighting == "paper" else (score - base) / kept.double().mean()
            total += weight * kept
    expected = total / len(masks)
    got = explainer(model, clip, 1).values.double()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)


def test_the_approximation_is_exact_for_a_linear_score() -> None:
    """With tiny weights softmax is linear to first order: the two methods must agree."""
    model, clip = linear_model(), moving_clip()
    model.network.weight.data *= 1e-3
    exact = AOSA(**OPTIONS, fill="patches")(model, clip, 1).values
    approx = AOSAApprox(**OPTIONS, relu=False)(model, clip, 1).values
    correlation = np.corrcoef(exact.flatten(), approx.flatten())[0, 1]
    assert correlation > 0.999


def test_no_neighbours_is_the_single_mask_method() -> None:
    model, clip = small_model(), moving_clip()
    single = AOSA(stride=4, box=8, neighbours=0)(model, clip, 1).values
    joined = AOSA(stride=4, box=8, neighbours=3)(model, clip, 1).values
    assert not torch.allclose(single, joined)


def test_a_sampled_score_is_the_mean_over_the_draws() -> None:
    model, clip = small_model(), moving_clip()
    explainer = AOSA(**OPTIONS, fill={"name": "sampled", "samples": 4, "margin": 2}, seed=3, weighting="paper")
    x = clip.tensor(SPEC)
    masks = explainer.masks(clip, SPEC)
    draws = PatchDraws(x, masks, margin=2, samples=4, seed=3, clip_id=clip.id)
    total = torch.zeros(clip.size, dtype=torch.float64)
    for i in range(len(masks)):
        occluded = masks.occluded(i, i + 1)
        drawn = draws.fill(occluded.expand(4, -1, -1, -1), 4 * i)
        with torch.no_grad():
            score = model.scores(torch.where(occluded[:, None], drawn, x))[:, 1].double().mean()
        total += score * ~occluded[0]
    got = explainer(model, clip, 1).values.double()
    torch.testing.assert_close(got, total / len(masks), rtol=1e-4, atol=1e-7)


def test_draws_of_a_linear_score_average_to_the_score_of_their_mean() -> None:
    model, clip = linear_model(), moving_clip()
    model.network.weight.data *= 1e-3  # softmax is then linear
    options = {"stride": 8, "box": 8, "neighbours": 0}
    mean = AOSA(**options, fill="patches")(model, clip, 1).values

    def error(samples: int) -> float:
        drawn = AOSA(**options, fill={"name": "sampled", "samples": samples})(model, clip, 1).values
        return float((drawn - mean).square().mean().sqrt())

    few, many = error(2), error(128)
    assert few / many == pytest.approx(8, rel=0.5)  # falls as 1/√samples: nothing else is left
    assert many < 0.5 * float(mean.std())


def test_the_seed_and_the_clips_id_decide_what_is_drawn() -> None:
    model = small_model()
    for options in ({"fill": {"name": "sampled", "samples": 2}}, {"similarity": "random"}):
        first, again, seed = (AOSA(**OPTIONS, **options, seed=s)(model, moving_clip(), 1).values for s in (0, 0, 1))
        other = AOSA(**OPTIONS, **options)(model, moving_clip(id="other"), 1).values
        assert torch.equal(first, again)
        assert not torch.allclose(first, seed)
        assert not torch.allclose(first, other)


def test_similarity_and_temporal_stride_reach_the_masks() -> None:
    model, clip = small_model(), moving_clip()
    explainer = AOSA(**OPTIONS, similarity="norm", temporal_stride=2, seed=4)
    expected = len(AOSA(**OPTIONS).masks(clip, SPEC)) * 2
    masks = explainer.masks(clip, SPEC)
    assert len(masks) == expected
    same = AOSA(**OPTIONS, temporal_stride=2).masks(clip, SPEC)
    assert (masks.groups != same.groups).any()
    sparse = AOSA(**OPTIONS, temporal_stride=2, uncovered=True).masks(clip, SPEC)
    assert len(sparse) < expected
    assert explainer(model, clip, 1).values.std() > 0


def test_the_weights_of_the_flow_count_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aosa.removal.tubes.raft_small", lambda _: None)
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (AOSA(flow="raft_small", flow_weights=str(tmp_path / name)).identity() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("key", "value"),
    [("fill", "pink"), ("weighting", "none"), ("stride", -8), ("similarity", "cos")],
)
def test_options_out_of_range_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"explainer\.{key}="):
        AOSA(**{key: value})
