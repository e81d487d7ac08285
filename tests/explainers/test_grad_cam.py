import pytest
import torch
import torch.nn.functional as F

from aosa.errors import ConfigError
from aosa.explainers import GradCAM, GradCAMPP
from tests.helpers import SPEC, moving_clip, small_model


def test_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)[None]
    reference = captum.LayerGradCam(model.network, model.network.layer4)
    cam = reference.attribute(x, target=1, relu_attributions=False).detach()
    for relu in (True, False):
        expected = F.interpolate(cam.relu() if relu else cam, size=clip.size, mode="trilinear", align_corners=False)
        got = GradCAM(relu=relu)(model, clip, 1).values
        torch.testing.assert_close(got, expected[0, 0], rtol=1e-4, atol=1e-6)
        assert got.std() > 0


def test_pooling_per_frame_differs_where_the_layer_has_time() -> None:
    model, clip = small_model(), moving_clip()
    whole = GradCAM(pooling="clip", relu=False, output="probability")(model, clip, 1).values
    framewise = GradCAM(pooling="frame", relu=False, output="probability")(model, clip, 1).values
    # The head averages over time, so the gradient is the same in every frame: the two must agree here …
    torch.testing.assert_close(whole, framewise, rtol=1e-4, atol=1e-6)
    # … and differ as soon as it is not.
    model.network.forward = lambda x: (  # type: ignore[method-assign]
        model.network.fc(
            (model.network.layer4(model.network.stem(x)) * torch.arange(1, 5).view(4, 1, 1)).mean((2, 3, 4))
        )
    )
    whole = GradCAM(pooling="clip", relu=False)(model, clip, 1).values
    framewise = GradCAM(pooling="frame", relu=False)(model, clip, 1).values
    assert not torch.allclose(whole, framewise, rtol=1e-2)


def test_several_layers_are_averaged() -> None:
    model, clip = small_model(), moving_clip()
    stem, last = (GradCAM(layer=name)(model, clip, 1).values for name in ("stem", "layer4"))
    both = GradCAM(layer=["stem", "layer4"])(model, clip, 1).values
    torch.testing.assert_close(both, (stem + last) / 2, rtol=1e-4, atol=1e-6)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no layer 'layer9'; it has: stem, layer4, fc"):
        GradCAM(layer="layer9")(small_model(), moving_clip(), 1)


def test_a_layer_without_a_feature_volume_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be B×C×T×H×W"):
        GradCAM(layer="fc")(small_model(), moving_clip(), 1)


@pytest.mark.parametrize("layer", [3, [], [1], {"a": 1}])
def test_a_layer_that_is_no_name(layer: object) -> None:
    for method in (GradCAM, GradCAMPP):
        with pytest.raises(ConfigError, match=r"explainer\.layer=.*: give a layer's dotted name"):
            method(layer=layer)  # type: ignore[arg-type]
