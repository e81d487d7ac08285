"""SmoothGrad, integrated gradients, guided backpropagation, Grad-CAM++ and how features find their place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa import InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import GradCAM, GradCAMPP, GuidedBackprop, IntegratedGradients, SmoothGrad
from aosa.explainers.gradients import as_volume, batched, capture
from aosa.explainers.guided_backprop import _Guided
from tests.helpers import SPEC, linear_model, moving_clip, small_model


def weights_of(model: VideoModel, target: int) -> Tensor:
    return model.network.weight[target].detach().view(3, SPEC.frames, *SPEC.size)


def test_smooth_grad_of_a_linear_model_is_its_weights() -> None:
    model, clip = linear_model(), moving_clip()
    weight = weights_of(model, 2)
    for squared, expected in ((False, weight.abs().sum(0)), (True, (weight**2).sum(0))):
        torch.testing.assert_close(SmoothGrad(samples=5, squared=squared)(model, clip, 2).values, expected)
    torch.testing.assert_close(SmoothGrad(samples=5, absolute=False)(model, clip, 2).values, weight.sum(0))


def test_smooth_grad_averages_gradients_at_noise_of_the_stated_width() -> None:
    seen: list[Tensor] = []
    model, clip = small_model(batch_size=64), moving_clip()
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    SmoothGrad(samples=40, noise=0.2)(model, clip, 1)
    x = clip.tensor(SPEC)
    noise = torch.cat(seen[-1:]) - x
    assert len(noise) == 40
    assert float(noise.std() / (x.max() - x.min())) == pytest.approx(0.2, rel=0.01)
    assert float(noise.mean(dim=0).abs().mean()) < 0.2 * float(x.max() - x.min())


def test_smooth_grad_agrees_with_captum_without_noise() -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)[None]
    for squared, kind in ((False, "smoothgrad"), (True, "smoothgrad_sq")):
        reference = captum.NoiseTunnel(captum.Saliency(model.network))
        expected = reference.attribute(x, nt_type=kind, nt_samples=3, stdevs=0.0, target=1, abs=False)[0]
        got = SmoothGrad(samples=3, noise=0, squared=squared)(model, clip, 1).values
        torch.testing.assert_close(got, expected.abs().sum(0), rtol=1e-4, atol=1e-7)


def test_smooth_grad_agrees_with_captum_in_the_mean() -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)[None]
    torch.manual_seed(0)
    reference = captum.NoiseTunnel(captum.Saliency(model.network))
    stdev = 0.15 * float(x.max() - x.min())
    expected = reference.attribute(x, nt_samples=300, nt_samples_batch_size=50, stdevs=stdev, target=1, abs=False)
    got = SmoothGrad(samples=300)(model, clip, 1).values
    at_the_clip = SmoothGrad(samples=1, noise=0)(model, clip, 1).values
    theirs, plain = (
        torch.corrcoef(torch.stack([m.flatten(), got.flatten()]))[0, 1] for m in (expected[0].abs().sum(0), at_the_clip)
    )
    assert theirs > 0.97 > plain


def test_integrated_gradients_of_a_linear_model_are_complete_at_one_step() -> None:
    model, clip = linear_model(), moving_clip()
    x = clip.tensor(SPEC)
    expected = (weights_of(model, 1) * x).sum(0)
    torch.testing.assert_close(IntegratedGradients(steps=1)(model, clip, 1).values, expected)


def test_integrated_gradients_agree_with_captum_and_add_up() -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)[None]
    black = ((0 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)).view(1, 3, 1, 1, 1).expand_as(x)
    for name, baseline in (("constant", torch.zeros_like(x)), ("black", black)):
        reference = captum.IntegratedGradients(model.network)
        expected = reference.attribute(x, baseline, target=1, n_steps=20, method="riemann_middle")[0].sum(0)
        got = IntegratedGradients(steps=20, baseline=name)(model, clip, 1).values
        torch.testing.assert_close(got, expected.detach(), rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            difference = float((model.logits(x) - model.logits(baseline))[0, 1])
        whole = IntegratedGradients(steps=200, baseline=name)(model, clip, 1).values
        assert float(whole.sum()) == pytest.approx(difference, rel=0.01)


def test_guided_backprop_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)[None]
    with pytest.warns(UserWarning, match="hook"):
        expected = captum.GuidedBackprop(model.network).attribute(x, target=1)[0].detach()
    torch.testing.assert_close(GuidedBackprop()(model, clip, 1).values, expected.abs().amax(0), rtol=1e-4, atol=1e-7)
    signed = GuidedBackprop(absolute=False)(model, clip, 1).values
    torch.testing.assert_close(signed, expected.sum(0), rtol=1e-4, atol=1e-6)


class Shared(nn.Module):
    """One ReLU module used twice, one function, one in place, one method."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv3d(3, 3, 1) for _ in range(3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.c(torch.relu(self.b(self.relu(self.a(x))))))
        return F.relu(x - 0.1).relu().mean(dim=(2, 3, 4))


def test_guided_backprop_guides_every_kind_of_relu() -> None:
    model = VideoModel(Shared(), SPEC, device="cpu")
    counts = []
    for relu in (F.relu, torch.relu, Tensor.relu):
        leaf = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
        with _Guided() as guide:
            (relu(leaf) * torch.tensor([5.0, -5.0, 5.0])).sum().backward()
        counts.append(guide.relus)
        assert leaf.grad.tolist() == [0.0, 0.0, 5.0]
    assert counts == [1, 1, 1]
    with _Guided() as guide, torch.no_grad():
        model.logits(moving_clip().tensor(SPEC)[None])
    assert guide.relus == 5


IN_PLACE: dict[str, Callable[[Tensor], object]] = {
    "F.relu_": F.relu_,
    "torch.relu_": torch.relu_,
    "Tensor.relu_": Tensor.relu_,
    "keyword": lambda x: F.relu(input=x, inplace=True),
    "position": lambda x: F.relu(x, True),
    "module": nn.ReLU(inplace=True),
}


class Ignoring(nn.Module):
    """Two layers with a ReLU after each, whose return value nobody takes."""

    def __init__(self, relu: Callable[[Tensor], object] | None) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b, self.fc = nn.Conv3d(3, 6, 3, padding=1), nn.Conv3d(6, 6, 3, padding=1), nn.Linear(6, 3)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b):
            x = layer(x)
            if self.relu is None:
                x = torch.relu(x)
            else:
                self.relu(x)
        return self.fc(x.mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("kind", IN_PLACE)
def test_guided_backprop_guides_a_relu_in_place_also_where_its_return_value_is_ignored(kind: str) -> None:
    relu, clip = IN_PLACE[kind], moving_clip()
    model, plain = (VideoModel(Ignoring(r), SPEC, device="cpu") for r in (relu, None))
    x = clip.tensor(SPEC)[None]
    with torch.no_grad():
        expected = plain.logits(x)
        with _Guided() as guide:
            torch.testing.assert_close(model.logits(x), expected, rtol=0, atol=0)
    assert guide.relus == 2
    got = GuidedBackprop(absolute=False)(model, clip, 1).values
    torch.testing.assert_close(got, GuidedBackprop(absolute=False)(plain, clip, 1).values)
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.logits(leaf)[0, 1], leaf)
    assert float((got - gradient[0].sum(dim=0)).abs().max()) > 0.1 * float(got.abs().max())
    kept = torch.tensor([-1.0, 2.0, 3.0])
    with _Guided():
        assert relu(kept) is kept
    assert kept.tolist() == [0.0, 2.0, 3.0]


def test_guided_backprop_refuses_a_network_without_relu() -> None:
    for ask in (lambda e, m: e.check(m), lambda e, m: e(m, moving_clip(), 1)):
        with pytest.raises(ConfigError, match="linear has none; choose a network that has them"):
            ask(GuidedBackprop(), linear_model())
    GuidedBackprop().check(small_model())


def test_grad_cam_pp_follows_the_derivatives_of_the_exponential() -> None:
    model, clip = small_model(), moving_clip()
    features = model.network.stem(clip.tensor(SPEC)[None])
    a = model.network.layer4(features).detach().double().requires_grad_()
    # Eq. 19 of the paper by autograd: Y = exp(S), its first three derivatives for every single place.
    head = model.network.fc.double()

    def y(v: Tensor) -> Tensor:
        return (head(v.mean(dim=(2, 3, 4))) * 0.4)[0, 1].exp()

    (first,) = torch.autograd.grad(y(a), a)
    # The head is linear in every place, so d²Y = g·dY and d³Y = g²·dY with g the gradient of the logit.
    g = first / y(a).detach()
    second, third = g * first, g**2 * first
    alpha = second / (2 * second + a.detach().sum(dim=(2, 3, 4), keepdim=True) * third)
    weights = (alpha * first.relu()).sum(dim=(2, 3, 4), keepdim=True)
    cam = F.interpolate((weights * a.detach()).sum(1, keepdim=True).relu(), size=clip.size, mode="trilinear")[0, 0]
    model.network.fc.float()
    got = GradCAMPP()(model, clip, 1).values
    torch.testing.assert_close(got / got.max(), (cam / cam.max()).float(), rtol=1e-4, atol=1e-5)
    plain = GradCAM()(model, clip, 1).values
    assert not torch.allclose(got / got.max(), plain / plain.max(), rtol=0.05)


def test_the_place_of_frames_and_tokens() -> None:
    model = VideoModel(nn.Identity(), InputSpec(frames=3, size=(8, 8)), name="any", device="cpu")
    volume = torch.arange(2 * 3 * 4 * 4).float().view(2, 3, 4, 4)
    tokens = volume.permute(1, 2, 3, 0).flatten(1, 2)
    with_class = torch.cat([torch.full((3, 1, 2), -1.0), tokens], dim=1)
    for features in (volume[None], volume.transpose(0, 1), with_class):
        assert torch.equal(as_volume(features, model, "x"), volume)
    refused = [torch.zeros(1, 5), torch.zeros(3, 16, 2), torch.zeros(2, 3, 4, 4, 4)]
    # Tokens of all frames side by side, and those of each patch over time, are no frames.
    refused += [torch.zeros(1, 1 + 64, 2), torch.zeros(16, 1 + 9, 2), torch.zeros(4, 3, 4, 4)]
    for wrong in refused:
        with pytest.raises(ConfigError, match=r"explainer\.layer=fc of any gives .* no place in time and space"):
            as_volume(wrong, model, "fc")
    model.network.grid = (2, 8)
    wide = volume.flatten(2).unflatten(2, (2, 8))
    assert torch.equal(as_volume(with_class, model, "x"), wide)


class Tokens(nn.Module):
    """Frames as tokens after a class token, as TimeSformer's spatial attention sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 8, stride=8)
        self.norm = nn.Identity()
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.patches(x.transpose(1, 2).flatten(0, 1)[..., :24]).flatten(2).transpose(1, 2)
        tokens = self.norm(torch.cat([frames.mean(dim=1, keepdim=True), frames], dim=1))
        return self.fc(tokens[:, 1:].mean(dim=1)).unflatten(0, (len(x), -1)).mean(dim=1)


def test_grad_cam_reads_tokens_without_the_class_token() -> None:
    torch.manual_seed(1)
    model, clip = VideoModel(Tokens(), SPEC, device="cpu", target_layer="norm"), moving_clip()
    x = clip.tensor(SPEC)[None]
    patches = model.network.patches(x.transpose(1, 2).flatten(0, 1)[..., :24]).detach()
    cam = (patches * model.network.fc.weight[1].detach().view(5, 1, 1)).sum(1)
    expected = F.interpolate(cam[None, None], size=clip.size, mode="trilinear")[0, 0]
    got = GradCAM(relu=False)(model, clip, 1).values
    torch.testing.assert_close(got / got.std(), expected / expected.std(), rtol=1e-3, atol=1e-3)


def test_an_inplace_operation_after_the_layer_does_not_reach_what_was_kept() -> None:
    model = small_model()
    model.network.layer4 = nn.Sequential(model.network.layer4[0])
    after = nn.ReLU(inplace=True)
    network = model.network
    network.forward = lambda x: network.fc(after(network.layer4(network.stem(x))).mean((2, 3, 4)))  # type: ignore[method-assign]
    _, (kept,) = capture(model, ["layer4"], lambda: model.logits(moving_clip().tensor(SPEC)[None]))
    assert float(kept.detach().min()) < 0
    assert GradCAM(relu=False)(model, moving_clip(), 1).values.std() > 0


def test_batches_are_drawn_as_they_are_needed() -> None:
    drawn = []

    def samples() -> object:
        for i in range(5):
            drawn.append(i)
            yield torch.tensor([i])

    batches = batched(samples(), 2)  # type: ignore[arg-type]
    assert next(batches).tolist() == [[0], [1]]
    assert drawn == [0, 1]
    assert [b.tolist() for b in batches] == [[[2], [3]], [[4]]]
