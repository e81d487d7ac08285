"""What every explainer promises, whatever its method."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from aosa import Clip, VideoModel
from aosa.errors import AosaError, ConfigError
from aosa.explainers import (
    AOSA,
    LIME3D,
    LOCO,
    OSA,
    RISE3D,
    SOS,
    AOSAApprox,
    Explainer,
    GradCAM,
    GradCAMPP,
    GuidedBackprop,
    IntegratedGradients,
    KernelSHAP3D,
    Random,
    Removal,
    SmoothGrad,
    Univariate,
)
from tests.helpers import SPEC, moving_clip, small_model

EXPLAINERS = {
    "aosa": lambda: AOSA(stride=4, box=8),
    "aosa_single": lambda: AOSA(stride=4, box=8, neighbours=0),
    "aosa_approx": lambda: AOSAApprox(stride=4, box=8),
    "aosa_approx_iqr": lambda: AOSAApprox(stride=4, box=8, relu=False, iqr=True),
    "osa": lambda: OSA(stride=(1, 6, 6)),
    "grad_cam": lambda: GradCAM(),
    "grad_cam_pp": lambda: GradCAMPP(),
    "smooth_grad": lambda: SmoothGrad(samples=5),
    "integrated_gradients": lambda: IntegratedGradients(steps=5),
    "guided_backprop": lambda: GuidedBackprop(),
    "lime3d": lambda: LIME3D(compactness=100, segments=12, samples=30),
    "kernel_shap3d": lambda: KernelSHAP3D(segmentation="grid", grid=(1, 3, 4), flow="farneback", samples=30),
    "rise3d": lambda: RISE3D(grid=(2, 3, 4), samples=30),
    "loco": lambda: LOCO(compactness=100, segments=12, removal="region_mean"),
    "univariate": lambda: Univariate(segmentation="grid", grid=(2, 3, 4), removal="blur"),
    "sos": lambda: SOS(grid=(1, 2, 3)),
    "removal": lambda: Removal("soft_grid", grid=(2, 3, 4), samples=30, removal="inpaint"),
    "random": lambda: Random(),
}


@pytest.fixture(params=EXPLAINERS)
def explainer(request: pytest.FixtureRequest) -> Explainer:
    return EXPLAINERS[request.param]()


def state(model: VideoModel) -> list[object]:
    hooks = [(len(m._forward_hooks), len(m._backward_hooks), m.training) for m in model.network.modules()]
    return [hooks, [(p.requires_grad, p.grad is None) for p in model.network.parameters()]]


def test_the_map_is_float32_finite_and_of_the_clips_size(explainer: Explainer) -> None:
    saliency = explainer(small_model(), moving_clip(), 2)
    assert saliency.dtype == torch.float32
    assert tuple(saliency.shape) == moving_clip().size
    assert torch.isfinite(saliency).all()
    assert saliency.std() > 0
    assert saliency.target == 2


def test_the_same_bytes_whatever_came_before(explainer: Explainer) -> None:
    model = small_model()
    first = explainer(model, moving_clip(), 1)
    torch.manual_seed(99)
    np.random.seed(99)
    explainer(model, moving_clip(id="another", seed=5), 0)
    again = explainer(model, moving_clip(), 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, explainer(model, moving_clip(id="another", seed=5), 1))


def test_the_same_map_whatever_the_batch_size(explainer: Explainer) -> None:
    one, many = (explainer(small_model(batch_size=b), moving_clip(), 1) for b in (3, 16))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
    assert spearmanr(one.flatten(), many.flatten()).statistic >= 0.9999


def test_the_model_is_left_as_found_also_after_an_exception(explainer: Explainer) -> None:
    model = small_model()
    model.network.train()
    model.network.fc.eval()
    model.network.fc.weight.requires_grad_(False)
    before = state(model)
    explainer(model, moving_clip(), 1)
    assert state(model) == before
    failing = model.network.fc.register_forward_hook(lambda *_: 1 / 0)
    before = state(model)
    if not isinstance(explainer, Random):
        with pytest.raises(ZeroDivisionError):
            explainer(model, moving_clip(), 1)
    assert state(model) == before
    failing.remove()


def test_the_target_is_the_label_then_the_top_class(explainer: Explainer) -> None:
    model = small_model()
    clip = moving_clip()
    assert explainer(model, clip).target == clip.label
    unlabelled = Clip(id="x", frames=clip.frames)
    with torch.no_grad():
        top = int(model.logits(clip.tensor(SPEC)[None]).argmax())
    assert explainer(model, unlabelled).target == top


def test_a_target_out_of_range(explainer: Explainer) -> None:
    with pytest.raises(ConfigError, match=r"target=3 is out of range: model small has classes 0 to 2"):
        explainer(small_model(), moving_clip(), 3)


def test_nan_weights_give_an_error_not_a_map(explainer: Explainer) -> None:
    if isinstance(explainer, Random):
        pytest.skip("random never looks at the model")
    model = small_model()
    model.network.fc.weight.data[1, 0] = float("nan")
    with pytest.raises(AosaError, match="not finite"):
        explainer(model, moving_clip(), 1)


def test_a_constant_map_warns() -> None:
    model = small_model()
    for parameter in model.network.parameters():
        parameter.data.zero_()
    with pytest.warns(UserWarning, match="map is constant"):
        GradCAM()(model, moving_clip(), 1)


def test_options_are_kept_for_the_identity(explainer: Explainer) -> None:
    identity = explainer.identity()
    assert identity["version"] == type(explainer).version
    assert identity["class"].endswith(type(explainer).__name__)
    if isinstance(explainer, AOSA):
        assert identity["stride"] == 4
        assert identity["weighting"] == "authors"
