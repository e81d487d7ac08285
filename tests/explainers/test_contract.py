"""What every explainer promises, whatever its method."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from aosa import Clip, InputSpec, VideoModel, explainers
from aosa.bench.passes import counted, total
from aosa.config import config_dir
from aosa.errors import AosaError, ConfigError
from aosa.explainers import (
    AOSA,
    EBR,
    EP3D,
    LIME3D,
    LOCO,
    OSA,
    RISE3D,
    SOS,
    STEP,
    AOSAApprox,
    AttentionRollout,
    EP3DEvenly,
    EP3DGaussian,
    Explainer,
    GradCAM,
    IntegratedGradients,
    KernelSHAP3D,
    Random,
    Removal,
    SmoothGrad,
    Univariate,
)
from aosa.models.checkpoints import head
from aosa.models.vgg16_lstm import VGG16LSTM, ReLULSTMCell
from tests.explainers.test_attention_rollout import SPEC as TOKENS_SPEC
from tests.explainers.test_attention_rollout import small_timesformer
from tests.helpers import SPEC, moving_clip, small_model

FRAMES_SPEC = InputSpec(frames=2, size=(224, 224))

# Short work; a method that is not among them is tried at its defaults.
SHORT = {
    "aosa": lambda: AOSA(stride=4, box=8),
    "aosa_single": lambda: AOSA(stride=4, box=8, neighbours=0),
    "aosa_sampled": lambda: AOSA(stride=4, box=8, fill={"name": "sampled", "samples": 3}),
    "aosa_later_starts": lambda: AOSA(stride=4, box=8, similarity="random", temporal_stride=2),
    "aosa_approx": lambda: AOSAApprox(stride=4, box=8),
    "aosa_approx_iqr": lambda: AOSAApprox(stride=4, box=8, relu=False, iqr=True),
    "osa": lambda: OSA(stride=(1, 6, 6)),
    "smooth_grad": lambda: SmoothGrad(samples=5),
    "integrated_gradients": lambda: IntegratedGradients(steps=5),
    "lime3d": lambda: LIME3D(compactness=100, segments=12, samples=30),
    "kernel_shap3d": lambda: KernelSHAP3D(segmentation="grid", grid=(1, 3, 4), flow="farneback", samples=30),
    "rise3d": lambda: RISE3D(grid=(2, 3, 4), samples=30),
    "loco": lambda: LOCO(compactness=100, segments=12, removal="region_mean"),
    "univariate": lambda: Univariate(segmentation="grid", grid=(2, 3, 4), removal="blur"),
    "sos": lambda: SOS(grid=(1, 2, 3)),
    "removal": lambda: Removal("soft_grid", grid=(2, 3, 4), samples=30, removal="inpaint"),
    "ep3d": lambda: EP3D(areas=[0.1, 0.3], iterations=4),
    "ep3d_evenly": lambda: EP3DEvenly(iterations=4),
    "ep3d_gaussian": lambda: EP3DGaussian(iterations=4, delta=2),
    "step": lambda: STEP(areas=[0.1, 0.2, 0.3, 0.4], iterations=4),
}
METHODS = [getattr(explainers, name) for name in explainers.__all__ if name != "Explainer"]
EXPLAINERS = {**{kind.name: kind for kind in METHODS}, **SHORT}


def small_vgg16_lstm(**options: object) -> VideoModel:
    """The network with a few channels in each layer."""
    with torch.device("meta"):
        network = VGG16LSTM(3)
    torch.manual_seed(0)
    channels = 3
    for name in [n for n, m in network.named_children() if isinstance(m, nn.Conv2d)]:
        setattr(network, name, nn.Conv2d(channels, 6, 3, padding=1))
        channels = 6
    network.fc6, network.fc7 = nn.Linear(6 * 49, 16), nn.Linear(16, 16)
    network.lstm1, network.fc8_final = ReLULSTMCell(16, 8), nn.Linear(8, 3)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return VideoModel(network, FRAMES_SPEC, name="small", device="cpu", **options)  # type: ignore[arg-type]


@dataclass
class Subject:
    """An explainer, with the networks and clips that it is tried on."""

    explainer: Explainer

    def model(self, **options: object) -> VideoModel:
        if isinstance(self.explainer, AttentionRollout):
            return small_timesformer(**options)
        return small_vgg16_lstm(**options) if isinstance(self.explainer, EBR) else small_model(**options)

    def clip(self, **options: object) -> Clip:
        specs = {AttentionRollout: TOKENS_SPEC, EBR: FRAMES_SPEC}
        return moving_clip(specs.get(type(self.explainer), SPEC), **options)  # type: ignore[arg-type]


@pytest.fixture(params=EXPLAINERS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(EXPLAINERS[request.param]())


def state(model: VideoModel) -> list[object]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [(m.training, *(len(getattr(m, kind)) for kind in kinds)) for m in model.network.modules()]
    return [hooks, [(p.requires_grad, p.grad is None) for p in model.network.parameters()]]


def test_names_are_stable_and_tell_the_methods_apart() -> None:
    names = [getattr(explainers, name).name for name in explainers.__all__ if name != "Explainer"]
    assert len(set(names)) == len(names)
    assert set(names) <= {path.stem for path in (config_dir() / "explainer").glob("*.yaml")}


def test_the_map_is_float32_finite_and_of_the_clips_size(subject: Subject) -> None:
    saliency = subject.explainer(subject.model(), subject.clip(), 2)
    assert saliency.values.dtype == torch.float32
    assert saliency.shape == subject.clip().size
    assert torch.isfinite(saliency.values).all()
    assert saliency.values.std() > 0
    assert saliency.target == 2
    # Nothing is below 0 in a map of magnitudes, masks or ranks; AOSA's and OSA's are, around a mean that is not 0.
    occluding = isinstance(subject.explainer, AOSA | OSA)
    assert saliency.signed == subject.explainer.signed == bool(saliency.values.min() < 0 and not occluding)


def test_it_makes_the_passes_that_it_says(subject: Subject) -> None:
    model, clip = subject.model(), subject.clip()
    outputs = model.logits(clip.tensor(model.spec)[None]).shape[1]
    model.class_names = [str(i) for i in range(outputs)]  # so that the target is checked without a pass
    said = subject.explainer.passes(model, clip)
    assert said is not None
    with counted(model) as passes:
        subject.explainer(model, clip, 1)
    made = total(passes)
    if isinstance(subject.explainer, EBR):  # walks the parts of its network, which are not counted
        assert (said, made.forward) == ((1, 1), 0)
    elif getattr(subject.explainer, "iqr", False):  # expands again only where there are outliers
        assert 1 <= made.forward <= said.forward == 3
        assert made.backward <= said.backward
    else:
        assert (made.forward, made.backward + made.layer) == said


def test_what_is_prepared_needs_no_network_and_gives_the_same_map(subject: Subject) -> None:
    model, clip = subject.model(), subject.clip()
    prepared = subject.explainer.prepare(clip, model.spec)
    assert torch.equal(subject.explainer(model, clip, 1, prepared).values, subject.explainer(model, clip, 1).values)


def test_the_same_bytes_whatever_came_before(subject: Subject) -> None:
    model, explainer = subject.model(), subject.explainer
    first = explainer(model, subject.clip(), 1).values
    torch.manual_seed(99)
    np.random.seed(99)
    explainer(model, subject.clip(id="another", seed=5), 0)
    again = explainer(model, subject.clip(), 1).values
    assert torch.equal(first, again)
    assert not torch.equal(first, explainer(model, subject.clip(id="another", seed=5), 1).values)


def test_the_same_map_whatever_the_batch_size(subject: Subject) -> None:
    one, many = (subject.explainer(subject.model(batch_size=b), subject.clip(), 1).values for b in (3, 16))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
    assert spearmanr(one.flatten(), many.flatten()).statistic >= 0.9999


def test_the_model_is_left_as_found_also_after_an_exception(subject: Subject) -> None:
    model, explainer = subject.model(), subject.explainer
    last = head(model.network)[1]
    model.network.train()
    last.eval()
    last.weight.requires_grad_(False)
    before = state(model)
    explainer(model, subject.clip(), 1)
    assert state(model) == before
    failing = last.register_forward_hook(lambda *_: 1 / 0)
    before = state(model)
    if not isinstance(explainer, Random):
        with pytest.raises(ZeroDivisionError):
            explainer(model, subject.clip(), 1)
    assert state(model) == before
    failing.remove()


def test_the_target_is_the_label_then_the_top_class(subject: Subject) -> None:
    model, clip = subject.model(), subject.clip()
    assert subject.explainer(model, clip).target == clip.label
    unlabelled = Clip(id="x", frames=clip.frames)
    with torch.no_grad():
        top = int(model.logits(clip.tensor(model.spec)[None]).argmax())
    assert subject.explainer(model, unlabelled).target == top


def test_a_target_out_of_range(subject: Subject) -> None:
    with pytest.raises(ConfigError, match=r"target=9 is out of range: model \w+ has classes 0 to [23]"):
        subject.explainer(subject.model(), subject.clip(), 9)


def test_nan_weights_give_an_error_not_a_map(subject: Subject) -> None:
    if isinstance(subject.explainer, Random):
        pytest.skip("random never looks at the model")
    model = subject.model()
    rollout = isinstance(subject.explainer, AttentionRollout)
    layer = model.network.blocks[0].spatial.qkv if rollout else head(model.network)[1]
    layer.weight.data[1, 0] = float("nan")
    with pytest.raises(AosaError, match="not finite"):
        subject.explainer(model, subject.clip(), 1)


def test_a_constant_map_warns() -> None:
    model = small_model()
    for parameter in model.network.parameters():
        parameter.data.zero_()
    with pytest.warns(UserWarning, match="map is constant"):
        GradCAM()(model, moving_clip(), 1)


def test_options_are_kept_for_the_identity(subject: Subject) -> None:
    explainer = subject.explainer
    identity = explainer.identity()
    assert identity["version"] == type(explainer).version
    assert identity["name"] == type(explainer).name
    assert "aosa." not in str(identity)  # moving a class changes no digest
    if isinstance(explainer, AOSA):
        assert identity["stride"] == 4
        assert identity["weighting"] == "authors"
