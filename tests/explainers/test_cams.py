"""Score-CAM, Layer-CAM and HiRes-CAM against closed forms, and against a few lines of autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa import Clip, InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import GradCAM, HiResCAM, LayerCAM, ScoreCAM
from tests.explainers.test_attention_rollout import SPEC as TOKENS_SPEC
from tests.explainers.test_attention_rollout import small_timesformer
from tests.helpers import moving_clip, small_model

PLAIN = InputSpec(frames=2, size=(2, 2), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
PIXELS = torch.tensor([[[0, 51], [102, 255]], [[0, 0], [51, 0]]], dtype=torch.uint8)  # 0, .2, .4, 1; 0, 0, .2, 0
A = PIXELS / 255


class Known(nn.Module):
    """Features are A (the red of the clip), 1 − A, and a constant; the logits of two classes are sums over places."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(3, 3, 1)
        self.features.weight.data = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0]]).view(3, 3, 1, 1, 1)
        self.features.bias.data = torch.tensor([0.0, 1, 0.5])

    def forward(self, x: Tensor) -> Tensor:
        first, second, _ = self.features(x).unbind(dim=1)
        # The first class: A² summed, and a term of the other channel that lowers it.
        return torch.stack([(first**2 - 0.5 * second).sum(dim=(1, 2, 3)), second.sum(dim=(1, 2, 3))], dim=1)


def known() -> tuple[VideoModel, Clip]:
    model = VideoModel(Known(), PLAIN, name="known", device="cpu", target_layer="features", batch_size=2)
    return model, Clip(id="x", frames=PIXELS[..., None].repeat(1, 1, 1, 3), label=0)


def test_layer_cam_drops_what_lowers_the_class_place_by_place() -> None:
    # ∂y/∂A = 2A, ∂y/∂(1 − A) = −½, which ReLU drops.
    torch.testing.assert_close(LayerCAM()(*known(), 0).values, 2 * A * A)


def test_hires_cam_keeps_the_sign_until_the_channels_are_summed() -> None:
    torch.testing.assert_close(HiResCAM(relu=False)(*known(), 0).values, 2 * A * A - 0.5 * (1 - A))
    torch.testing.assert_close(HiResCAM()(*known(), 0).values, (2 * A * A - 0.5 * (1 - A)).relu())


def test_score_cam_weighs_channels_by_the_clip_that_is_seen_through_them() -> None:
    # The masks are A, 1 − A and 0, for A reaches from 0 to 1; the clip through them A², A(1 − A) and 0, whose logit is
    # Σ (v² − ½(1 − v)).
    seen = torch.stack([A * A, A * (1 - A), torch.zeros_like(A)])
    weights = (seen**2 - 0.5 * (1 - seen)).sum(dim=(1, 2, 3)).softmax(dim=0)
    assert weights.std() > 0.05
    expected = weights[0] * A + weights[1] * (1 - A) + weights[2] * 0.5
    torch.testing.assert_close(ScoreCAM()(*known(), 0).values, expected)


def test_score_cam_of_a_probability_and_of_fewer_channels() -> None:
    model, clip = known()
    seen = torch.stack([A * A, A * (1 - A), torch.zeros_like(A)])
    scores = model.scores(seen[:, None].repeat(1, 3, 1, 1, 1)).detach()[:, 0]
    weights = scores.softmax(dim=0)
    expected = weights[0] * A + weights[1] * (1 - A) + weights[2] * 0.5
    torch.testing.assert_close(ScoreCAM(output="probability")(model, clip, 0).values, expected)
    # Means: .23, .77, .5. Of two channels the last two remain, of one the second, whose weight is 1.
    torch.testing.assert_close(ScoreCAM(channels=1)(model, clip, 0).values, 1 - A)
    assert ScoreCAM(channels=2).passes(model, clip) == (3, 0)
    assert ScoreCAM(channels=9).passes(model, clip) == ScoreCAM().passes(model, clip) == (4, 0)


def features_of(model: VideoModel, clip: Clip, layer: str) -> tuple[Tensor, Tensor]:
    """What a layer gives, and the gradient of a logit with respect to it."""
    kept: list[Tensor] = []
    handle = model.network.get_submodule(layer).register_forward_hook(lambda *a: kept.append(a[2]))
    logit = model.network(clip.tensor(model.spec)[None])[0, 1]
    handle.remove()
    return kept[0].detach(), torch.autograd.grad(logit, kept[0])[0]


def resized(volume: Tensor, clip: Clip) -> Tensor:
    return F.interpolate(volume[:, None], size=clip.size, mode="trilinear")[:, 0]


@pytest.mark.parametrize(("kind", "weigh"), [(LayerCAM, lambda g: g.relu()), (HiResCAM, lambda g: g)])
def test_maps_are_those_of_plain_autograd(kind: type[LayerCAM], weigh: Callable[[Tensor], Tensor]) -> None:
    model, clip = small_model(), moving_clip()
    feature, gradient = features_of(model, clip, "stem")
    expected = resized((weigh(gradient) * feature).sum(dim=1).relu(), clip)[0]
    torch.testing.assert_close(kind(layer="stem")(model, clip, 1).values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("relu", [True, False])
def test_hires_cam_is_grad_cam_before_global_average_pooling(relu: bool) -> None:
    model, clip = small_model(), moving_clip()
    pooled = HiResCAM(relu=relu)(model, clip, 1).values
    torch.testing.assert_close(pooled, GradCAM(relu=relu)(model, clip, 1).values, rtol=1e-4, atol=1e-7)
    early = HiResCAM(layer="stem", relu=relu)(model, clip, 1).values
    assert not torch.allclose(early, GradCAM(layer="stem", relu=relu)(model, clip, 1).values, rtol=0.1)


@pytest.mark.parametrize("kind", [LayerCAM, HiResCAM, ScoreCAM])
def test_patch_tokens_are_features_in_time_and_space(kind: type[LayerCAM]) -> None:
    model, clip, layer = small_timesformer(), moving_clip(TOKENS_SPEC), "blocks.1.spatial.norm"
    feature, weight = (
        tokens[:, 1:].unflatten(1, model.network.grid).permute(3, 0, 1, 2)  # type: ignore[arg-type]
        for tokens in features_of(model, clip, layer)
    )
    if kind is LayerCAM:
        weight = weight.relu()
    elif kind is ScoreCAM:
        large = resized(feature, clip)
        low, high = large.amin(dim=(1, 2, 3), keepdim=True), large.amax(dim=(1, 2, 3), keepdim=True)
        with torch.no_grad():
            logits = model.logits(clip.tensor(model.spec) * ((large - low) / (high - low))[:, None])
        weight = logits[:, 1].softmax(dim=0).view(-1, 1, 1, 1)
    expected = resized((weight * feature).sum(dim=0).relu()[None], clip)[0]
    assert expected.std() > 0
    got = kind(layer=layer)(model, clip, 1).values
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize(("key", "value"), [("channels", 0), ("channels", 1.5), ("output", "class"), ("layer", 3)])
def test_options_out_of_range(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"explainer\.{key}="):
        ScoreCAM(**{key: value})


def test_a_layer_without_a_place_is_refused_before_any_clip() -> None:
    with pytest.raises(ConfigError, match=r"explainer\.layer=fc of small gives 1×3"):
        ScoreCAM(layer="fc").check(small_model())
