"""Networks that give other things than B×K logits: heads, containers, layouts, and the trial that tells of them."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aosa import InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import AOSA, GradCAM, SmoothGrad
from aosa.models import build_model
from tests.helpers import SPEC, Small3D, moving_clip, small_model

Pair = namedtuple("Pair", ["features", "logits"])


class Wrapped(nn.Module):
    """`Small3D` with something done to its input and its logits."""

    def __init__(
        self,
        after: Callable[[Tensor], Any] = lambda y: y,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        classes: int = 3,
    ) -> None:
        super().__init__()
        self.body, self.after, self.before = Small3D(classes), after, before

    def forward(self, x: Tensor) -> Any:
        return self.after(self.body(self.before(x)))


def model_of(network: nn.Module, **options: Any) -> VideoModel:
    return VideoModel(network, SPEC, name="mine", device="cpu", target_layer="body.layer4", **options)


def clips(count: int = 2) -> Tensor:
    return torch.stack([moving_clip(seed=seed).tensor(SPEC) for seed in range(count)])


def logits(count: int = 2, classes: int = 3) -> Tensor:
    with torch.no_grad():
        return Small3D(classes).eval()(clips(count))


def per_frame(y: Tensor) -> Tensor:
    """B×T×K whose mean over T is y."""
    return torch.stack([y - 1, y + 2, y - 3, y + 2], dim=1)


# What the network gives: a way to give it, and the options that it takes to be understood.
GIVEN: dict[str, tuple[Callable[[Tensor], Any], dict[str, Any]]] = {
    "a tensor": (lambda y: y, {}),
    "a tuple of one": (lambda y: (y,), {}),
    "logits and features": (lambda y: (y, y.new_zeros(len(y), 12)), {"class_names": ["a", "b", "c"]}),
    "features in space and logits": (lambda y: [y.new_zeros(len(y), 12, 4, 4), y], {}),
    "logits and an auxiliary head": (lambda y: (y, 2 * y), {"output": 0}),
    "a dict": (lambda y: {"features": y.new_zeros(len(y), 12), "logits": y}, {}),
    "a dict of one": (lambda y: {"anything": y}, {}),
    "a dict by key": (lambda y: {"verb": y, "noun": 2 * y}, {"output": "verb"}),
    "a named tuple": (lambda y: Pair(y.new_zeros(len(y), 12), y), {}),
    "an object": (lambda y: SimpleNamespace(loss=None, logits=y), {}),
    "B×K×1": (lambda y: y[..., None], {"class_names": ["a", "b", "c"]}),
    "B×K×1×1×1": (lambda y: y[..., None, None, None], {}),
    "B×T×K": (per_frame, {"output_layout": "BTK"}),
    "(B·T)×K": (lambda y: per_frame(y).flatten(0, 1), {"output_layout": "BTK"}),
    "B×K×T": (lambda y: per_frame(y).transpose(1, 2), {"output_layout": "BKT"}),
    "B×K×T×1×1": (lambda y: per_frame(y).transpose(1, 2)[..., None, None], {"output_layout": "BKT"}),
    "float64": (Tensor.double, {}),
}


@pytest.mark.parametrize("form", GIVEN)
def test_the_class_scores_are_found_in_what_a_network_gives(form: str) -> None:
    after, options = GIVEN[form]
    model = model_of(Wrapped(after), **options)
    model.trial()
    with torch.no_grad():
        for count in (1, 2):
            found = model.logits(clips(count))
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, logits(count), rtol=1e-5, atol=1e-6)


def test_a_single_output_may_come_without_its_dimension() -> None:
    for after in (lambda y: y[:, 0], lambda y: y.squeeze()):
        model = model_of(Wrapped(after, classes=1), head="sigmoid")
        model.trial()
        with torch.no_grad():
            torch.testing.assert_close(model.logits(clips()), logits(classes=1))
            assert model.logits(clips(1)).shape == (1, 1)


def test_frames_before_channels() -> None:
    model = model_of(Wrapped(before=lambda x: x.transpose(1, 2)), layout="BTCHW")
    with torch.no_grad():
        torch.testing.assert_close(model.logits(clips()), logits())
    saliency = SmoothGrad(samples=2)(model, moving_clip(), 1).values
    torch.testing.assert_close(saliency, SmoothGrad(samples=2)(small_model(), moving_clip(), 1).values)
    random = build_model(
        Wrapped(before=lambda x: x.transpose(1, 2)), SPEC, name="n", checkpoint="random", layout="BTCHW"
    )
    plain = build_model(Wrapped(), SPEC, name="n", checkpoint="random")
    assert random.digest() == plain.digest()


class Dropping(Wrapped):
    """Dropout in evaluation mode, as ``F.dropout`` does by default."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


class Mixing(Wrapped):
    """Subtracts the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y - y.mean(dim=0) if len(y) > 1 else y


class Failing(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("expected 32 frames\nmore of it")


class One(Wrapped):
    """Takes one clip at a time."""

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 1, "one clip only"
        return super().forward(x)


WRONG: dict[str, tuple[nn.Module, dict[str, Any], str]] = {
    "one logit": (Wrapped(classes=1), {}, "one output, whose softmax is 1 whatever the clip: set model.head=sigmoid"),
    "one logit of two names": (
        Wrapped(classes=1),
        {"head": "sigmoid", "class_names": ["no", "yes"]},
        "1 outputs, its class list has 2 names.*name the class that it is for alone",
    ),
    "a softmax at the end": (
        Wrapped(lambda y: y.softmax(dim=1)),
        {},
        "ends in a softmax: its outputs are probabilities already.*set model.head=probabilities",
    ),
    "a mean of softmaxes": (
        Wrapped(lambda y: per_frame(y).softmax(dim=2).mean(dim=1)),
        {"head": "sigmoid"},
        "set model.head=probabilities",
    ),
    "a sigmoid at the end": (Wrapped(torch.sigmoid), {}, "ends in a sigmoid.*set model.head=probabilities"),
    "a sigmoid module": (
        nn.Sequential(Small3D(1), nn.Sigmoid()),
        {"head": "sigmoid"},
        "ends in a sigmoid.*set model.head=probabilities",
    ),
    "logits for probabilities": (Wrapped(), {"head": "probabilities"}, "numbers from .* set model.head=softmax"),
    "logarithms": (
        Wrapped(lambda y: y.log_softmax(dim=1)),
        {"head": "sigmoid"},
        "logarithms of probabilities that sum to 1: set model.head=softmax",
    ),
    "an index": (Wrapped(lambda y: y.argmax(dim=1, keepdim=True)), {}, "gives torch.int64, such as indices"),
    "NaN": (Wrapped(lambda y: y / 0 * 0), {}, "outputs are not finite"),
    "two of one shape": (Wrapped(lambda y: (y, 2 * y)), {}, "holds 0: 1×3, 1: 1×3: set model.output to the one"),
    "unknown keys": (
        Wrapped(lambda y: {"verb": y, "noun": y}),
        {},
        "dict that holds verb: 1×3, noun: 1×3: set model.output to the one",
    ),
    "a wrong key": (Wrapped(lambda y: {"verb": y}), {"output": "noun"}, "model.output=noun: .* holds verb: 1×3"),
    "nothing": (Wrapped(lambda _: None), {}, "NoneType that holds no tensor: it must give class scores"),
    "per frame": (Wrapped(per_frame), {}, "gives 1×4×3 for a batch of 1.*set model.output_layout=BTK or BKT"),
    "one per frame": (
        Wrapped(lambda y: per_frame(y)[..., :1]),
        {"head": "sigmoid"},
        "gives 1×4×1, 4 classes or one per frame: set model.output_layout=BTK",
    ),
    "another output layout": (
        Wrapped(),
        {"output_layout": "BTK"},
        "which is not model.output_layout=BTK",
    ),
    "features in space": (Wrapped(lambda y: y[..., None, None].expand(-1, -1, 2, 2)), {}, "gives 1×3×2×2 for a batch"),
    "the batch pooled away": (Wrapped(lambda y: y.mean(dim=0)), {}, "gives 3 for a batch of 2"),
    "frames first": (
        Wrapped(before=lambda x: x.transpose(1, 2)),
        {},
        r"fails on an input of 1×3×4×24×32 \(BCTHW\) with RuntimeError: .*; set model.layout=BTCHW$",
    ),
    "channels first": (Wrapped(), {"layout": "BTCHW"}, r"input of 1×4×3×24×32 \(BTCHW\).*; set model.layout=BCTHW$"),
    "its own check": (Failing(), {}, "with ValueError: expected 32 frames; see that model.spec"),
    "a clip at a time": (One(), {}, "with AssertionError: one clip only; it takes a single clip: set batch_size=1"),
    "dropout": (Dropping(), {}, "other outputs for the same clip each time.*nn.Dropout"),
    "a batch that mixes": (Mixing(), {}, "another output for a clip among others.*set batch_size=1"),
}


@pytest.mark.parametrize("form", WRONG)
def test_a_trial_says_what_is_wrong_and_what_mends_it(form: str) -> None:
    network, options, message = WRONG[form]
    model = model_of(network, **options)
    with pytest.raises(ConfigError, match=message) as caught:
        model.trial()
    assert str(caught.value).startswith("model mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["one logit", "a softmax at the end", "NaN", "per frame", "frames first", "an index"])
def test_from_python_the_first_pass_is_the_trial(form: str) -> None:
    network, options, message = WRONG[form]
    with pytest.raises(ConfigError, match=message):
        AOSA(stride=12, box=12)(model_of(network, **options), moving_clip(), 0)


@pytest.mark.parametrize(("network", "batch_size"), [(One(), 1), (Mixing(), 1)])
def test_what_the_message_asks_for_mends_it(network: nn.Module, batch_size: int) -> None:
    model_of(network, batch_size=batch_size).trial()


def test_outputs_that_may_be_probabilities_are_remarked() -> None:
    with pytest.warns(UserWarning, match="model mine: all outputs of a trial lie in"):
        model_of(Wrapped(lambda y: 0.3 + 0.1 * y.tanh())).trial()


def test_a_trial_changes_nothing_and_is_made_once() -> None:
    model, calls = small_model(), []
    model.network.train()
    model.network.register_forward_hook(lambda *_: calls.append(1))
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    drawn = torch.get_rng_state()
    model.trial()
    made = len(calls)
    model.trial()
    assert 0 < len(calls) == made <= 2
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())
    assert all(m.training for m in model.network.modules())
    assert all(p.requires_grad for p in model.network.parameters())


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda y: y.exp() / y.exp().sum(dim=1, keepdim=True),
    "sigmoid": lambda y: 1 / (1 + (-y).exp()),
    "identity": lambda y: y,
}


@pytest.mark.parametrize("head", HEADS)
def test_scores_and_their_logarithms_by_each_head(head: str) -> None:
    model, want = model_of(Wrapped(), head=head), HEADS[head](logits())
    with torch.no_grad():
        torch.testing.assert_close(model.logits(clips()), logits())
        torch.testing.assert_close(model.scores(clips()), want)
        if head != "identity":
            torch.testing.assert_close(model.log_scores(clips()), want.log())
            ended = model_of(Wrapped(HEADS[head]), head="probabilities")
            torch.testing.assert_close(ended.scores(clips()), want)
            torch.testing.assert_close(ended.logits(clips()), want.log())
            torch.testing.assert_close(ended.log_scores(clips()), want.log())


def test_a_probability_of_0_has_a_finite_logarithm() -> None:
    certain = Wrapped(lambda y: torch.stack([1 + 0 * y[:, 0], 0 * y[:, 0]], dim=1))
    with torch.no_grad():
        found = model_of(certain, head="probabilities").logits(clips())
    assert torch.isfinite(found).all()
    assert float(found[0, 1]) < -80


def test_a_confident_sigmoid_keeps_its_logarithm_and_its_gradient() -> None:
    model = model_of(Wrapped(lambda y: y - 200), head="sigmoid")
    x = clips(1).requires_grad_()
    log = model.log_scores(x)
    torch.testing.assert_close(log, logits(1) - 200, rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(log[0, 1], x)
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "relu"}, "model.head=relu: choose one of softmax, sigmoid, identity, probabilities"),
        ({"layout": "THWC"}, "model.layout=THWC: choose one of BCTHW, BTCHW"),
        ({"output_layout": "TBK"}, "model.output_layout=TBK: choose one of BK, BTK, BKT"),
        ({"output": True}, "model.output=True: give the name or the index"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of(Wrapped(), **options)


def test_the_identity_tells_only_what_is_not_plain() -> None:
    plain = model_of(Wrapped()).identity()
    assert not {"head", "layout", "output", "output_layout"} & set(plain)
    changed = model_of(Wrapped(), head="sigmoid", layout="BTCHW", output="out", output_layout="BTK").identity()
    assert {k: v for k, v in changed.items() if k not in plain} == {
        "head": "sigmoid",
        "layout": "BTCHW",
        "output": "out",
        "output_layout": "BTK",
    }


class Detached(nn.Module):
    """A backbone whose features come without gradients, then a head."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.fc, self.how = Small3D(12), nn.Linear(12, 3), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "detach":
            return self.fc(self.body(x).detach())
        if self.how == "numpy":
            return self.fc(torch.from_numpy(self.body(x).numpy()))
        with torch.no_grad() if self.how == "no_grad" else torch.inference_mode():
            features = self.body(x)
        return self.fc(features)


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "detach", "numpy"])
def test_a_backbone_without_gradients_is_told_and_occlusion_explains_it_all_the_same(how: str) -> None:
    model = model_of(Detached(how))
    model.trial()
    assert not model.differentiable
    for explainer in (SmoothGrad(samples=2), GradCAM()):
        with pytest.raises(ConfigError, match=r"no gradient of the outputs of mine reaches .*none \(aosa"):
            explainer.check(model)
        if how != "numpy":
            with pytest.raises(ConfigError, match="no gradient of the outputs of mine reaches"):
                explainer(model, moving_clip(), 1)
    assert AOSA(stride=8, box=8)(model, moving_clip(), 1).values.std() > 0


def test_another_number_of_frames_than_the_network_takes() -> None:
    class Fixed(Wrapped):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x.flatten(1)[:, : 3 * 8 * 24 * 32] @ torch.zeros(3 * 8 * 24 * 32, 3)

    spec = InputSpec(frames=4, size=(24, 32))
    with pytest.raises(ConfigError, match=r"fails on an input of 1×3×4×24×32.*see that model\.spec \(frames, size\)"):
        VideoModel(Fixed(), spec, device="cpu").trial()
