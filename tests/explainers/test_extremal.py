"""EP-3D and STEP: their parts against the public implementation, the optimisation against known answers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from aosa import InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import EP3D, STEP, EP3DEvenly, EP3DGaussian
from aosa.explainers.ep3d import area_loss, minimum_preservation_ratio
from aosa.explainers.step import ellipsoid
from aosa.removal.smooth_mask import BlurPyramid, SmoothMax, rank_loss
from tests.helpers import moving_clip, small_model
from tests.reference import formula

REFERENCE = np.load(Path(__file__).resolve().parents[1] / "reference" / "extremal_perturbation.npz")
FRAMES, SIZE, GRID = 9, (33, 40), (5, 6)
SPEC = InputSpec(frames=4, size=(24, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def seeds() -> Tensor:
    return torch.from_numpy((formula.noise("step seeds", (FRAMES, *GRID)) + 1) / 2).float()


def test_masks_and_their_gradients_are_those_of_the_public_code() -> None:
    leaf = seeds().requires_grad_()
    masks, padded = SmoothMax(SIZE, 7, 11)(leaf)
    np.testing.assert_allclose(masks.detach(), REFERENCE["masks"], atol=5e-6)
    assert float(padded.detach().sum()) == pytest.approx(float(REFERENCE["padded_sum"]), rel=1e-5)
    weights = torch.from_numpy(formula.noise("step gradient", (FRAMES, 1, *SIZE))).float()[:, 0]
    (masks * weights).sum().backward()
    np.testing.assert_allclose(leaf.grad, REFERENCE["gradient"], atol=1e-4 * np.abs(REFERENCE["gradient"]).max())


def test_the_kernel_reaches_sigma_and_seeds_lie_on_their_pixels() -> None:
    one = torch.zeros(1, *GRID)
    one[0, 2, 3] = 1
    mask, _ = SmoothMax(SIZE, 7, 11)(one)
    assert divmod(int(mask.argmax()), SIZE[1])[0] in range(14 - 5, 14 + 6)
    # Within σ/2 of the seed the kernel is 1: the value is 1·e^20 / (e^20 + 48 zeros).
    assert float(mask[0, 14, 21]) == pytest.approx(math.exp(20) / (math.exp(20) + 48))
    far = math.exp(-2 * (14 / 11 - 0.5) ** 2)
    assert float(mask[0, 28, 21]) == pytest.approx(far * math.exp(20 * far) / (math.exp(20 * far) + 48), rel=1e-5)


def test_the_perturbed_clip_is_that_of_the_public_code() -> None:
    x = torch.from_numpy(formula.noise("step clip", (3, FRAMES, *SIZE))).float()
    masks, _ = SmoothMax(SIZE, 7, 11)(seeds())
    perturbed = BlurPyramid(x)(masks[None])[0]
    np.testing.assert_allclose(perturbed[:, ::4, ::3, ::3], REFERENCE["perturbed"], atol=2e-5)
    assert torch.equal(BlurPyramid(x)(torch.ones(1, FRAMES, *SIZE))[0], x)


def test_the_losses_are_those_of_the_public_code() -> None:
    _, padded = SmoothMax(SIZE, 7, 11)(seeds())
    assert float(area_loss(padded.flatten()[None], 0.1)) == pytest.approx(float(REFERENCE["area_loss"]), rel=1e-5)
    assert float(area_loss(padded.flatten(1), 0.1)) == pytest.approx(float(REFERENCE["even_loss"]), rel=1e-5)
    assert float(STEP().core_loss(padded, 0.1)) == pytest.approx(float(REFERENCE["core_loss"]), rel=1e-5)
    assert float(ellipsoid(7).sum()) == float(REFERENCE["kernel_sum"]) == 311
    assert int(REFERENCE["z"]) == 443
    for other in (STEP(z=311), STEP(temporal_stride=11)):
        assert float(other.core_loss(padded, 0.1)) != pytest.approx(float(REFERENCE["core_loss"]), rel=1e-3)


def test_rank_loss_is_the_sorted_template_loss_and_one_of_equals_is_chosen_at_random_for_good() -> None:
    values = torch.tensor([[0.1, 0.7, 0.7, 0.3, 0.7, 0.9]], requires_grad=True)
    for count in range(1, 7):
        ordered = values.detach().sort(descending=True).values[0]
        top, rest = (part.item() for part in rank_loss(values, count))
        assert top == pytest.approx(float(((ordered[:count] - 1) ** 2).sum()), abs=1e-6)
        assert rest == pytest.approx(float((ordered[count:] ** 2).sum()), abs=1e-6)
    for _ in range(2):
        values.grad = None
        sum(rank_loss(values, 3)).sum().backward()
        assert sorted(values.grad[0].tolist()) == pytest.approx([-0.6, -0.6, -0.2, 0.2, 0.6, 1.4])
    equal = torch.full((1, 10_000), 0.5, requires_grad=True)
    sum(rank_loss(equal, 1000)).sum().backward()
    chosen = (equal.grad[0] < 0).nonzero().flatten()
    assert len(chosen) == 1000
    assert float(chosen.float().mean()) == pytest.approx(5000, rel=0.06)


class Place(nn.Module):
    """Looks for fine texture in one place: two frames of a square."""

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, 1:3, 6:18, 6:18]
        texture = (seen.diff(dim=-1).abs().mean(dim=(1, 2, 3, 4)) + seen.diff(dim=-2).abs().mean(dim=(1, 2, 3, 4))) * 2
        return torch.stack([texture - 2, 2 - texture], dim=1)


@pytest.mark.parametrize("method", [EP3D, STEP, EP3DEvenly, EP3DGaussian])
def test_finds_the_only_place_that_the_network_looks_at(method: type[EP3D]) -> None:
    model, clip = VideoModel(Place(), SPEC, device="cpu"), moving_clip(SPEC)
    mask = method(areas=[0.1], iterations=60, sigma=5)(model, clip, 0).values
    inside = torch.zeros(mask.shape, dtype=torch.bool)
    inside[1:3, 6:18, 6:18] = True
    assert float(mask[inside].mean()) > float(mask[~inside].mean()) + 0.3
    unseen = mask[[0, 3]].mean()
    if method is EP3DEvenly:
        assert unseen > 0.05
    elif method is EP3D:
        assert unseen < 0.01


def template_loss(mask: Tensor, area: float) -> Tensor:
    """mean((sort(M) − r_a)²), as it is printed."""
    ordered = mask.flatten().sort().values
    template = (torch.arange(len(ordered)) >= int(len(ordered) * (1 - area))).float()
    return ((ordered - template) ** 2).mean()


class Uneven(EP3D):
    """Seeds of different weight: no two places of a mask are equal, so that sorting has one answer."""

    def smoothed(self, seeds: Tensor) -> Tensor:
        noise = torch.from_numpy(formula.noise("uneven", tuple(seeds.shape[1:]))).float()
        return seeds * (0.8 + 0.2 * noise)


def test_the_optimisation_is_the_papers_step_by_step() -> None:
    model, clip, area, steps = VideoModel(Place(), SPEC, device="cpu"), moving_clip(SPEC), 0.3, 8
    x = clip.tensor(SPEC)
    explainer, up, pyramid = Uneven(areas=[area], iterations=steps, sigma=5), SmoothMax(SPEC.size, 7, 5), BlurPyramid(x)
    seeds, velocity = torch.ones(1, SPEC.frames, 4, 4), None
    for _ in range(steps):
        leaf = seeds.clone().requires_grad_()
        masks, padded = up(explainer.smoothed(leaf)[0])
        log_score = model.scores(pyramid(masks[None]))[0, 0].log()
        energy = -100 * log_score + 300 * template_loss(padded, area)
        (gradient,) = torch.autograd.grad(energy, leaf)
        # SGD of PyTorch: the first step isn't dampened.
        velocity = gradient if velocity is None else 0.9 * velocity + (1 - 0.9) * gradient
        seeds = (seeds - 0.05 * velocity).clamp(0, 1)
    # Both ends of the range are reached, and the middle is not empty.
    assert (seeds == 0).any()
    assert (seeds == 1).any()
    assert ((seeds > 0.1) & (seeds < 0.9)).any()
    expected, _ = up(explainer.smoothed(seeds)[0])
    torch.testing.assert_close(explainer(model, clip, 0).values, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [EP3D, EP3DEvenly])
def test_the_energy_without_a_core_weighs_the_score_by_100_and_the_area_by_300(method: type[EP3D]) -> None:
    model, clip = small_model(), moving_clip()
    explainer, up, pyramid = method(), SmoothMax(model.spec.size), BlurPyramid(clip.tensor(model.spec))
    leaf = torch.from_numpy((formula.noise("seeds", (1, model.spec.frames, *up.grid)) + 1) / 2).float().requires_grad_()
    with model.frozen(), torch.enable_grad():
        got = float(explainer._descend(model, pyramid, up, leaf, slice(0, 1), 1, [0.1], 1500))
    masks, padded = up(leaf.detach()[0])
    with torch.no_grad():
        score = model.scores(pyramid(masks[None]))[0, 1].log()
    parts = padded if method is EP3DEvenly else [padded]
    area = torch.stack([template_loss(part, 0.1) for part in parts]).mean()
    assert got == pytest.approx(float(-100 * score + 300 * area), rel=1e-5)


@pytest.mark.parametrize(("side", "grid", "sigma"), [(112, 16, 11), (224, 32, 23)])
def test_seeds_are_7_pixels_apart_and_their_kernel_grows_with_the_frame(side: int, grid: int, sigma: int) -> None:
    seen = {}

    class Seen(EP3D):
        def smoothed(self, seeds: Tensor) -> Tensor:
            seen["seeds"] = tuple(seeds.shape)
            return seeds

        def penalty(self, mask: Tensor, area: float, iteration: int) -> Tensor:
            seen["mask"] = mask.detach()
            return super().penalty(mask, area, iteration)

    spec = InputSpec(frames=3, size=(side, side))
    Seen(iterations=1)(VideoModel(Place(), spec, device="cpu"), moving_clip(spec), 0)
    assert seen["seeds"] == (1, 3, grid, grid)
    _, padded = SmoothMax((side, side), 7, sigma)(torch.ones(3, grid, grid))
    torch.testing.assert_close(seen["mask"], padded)


def test_the_map_of_several_areas_is_their_sum_smoothed_by_10_pixels_per_frame() -> None:
    known = torch.from_numpy((formula.noise("masks", (3, SPEC.frames, *SPEC.size)) > 0.9).astype(np.float32))

    class Known(EP3D):
        def masks(self, model: VideoModel, x: Tensor, target: int, areas: list[float]) -> Tensor:
            return known

    got = Known(areas=[0.05, 0.1, 0.2])(VideoModel(Place(), SPEC, device="cpu"), moving_clip(SPEC), 0)
    smooth = np.stack(
        [gaussian_filter(f, sigma=10, mode="constant", truncate=4) for f in known.sum(dim=0).double().numpy()]
    )
    np.testing.assert_allclose(got, smooth / smooth.max(), atol=1e-5)


def test_larger_areas_keep_more_and_maps_of_several_are_their_smoothed_sum() -> None:
    model, clip = VideoModel(Place(), SPEC, device="cpu"), moving_clip(SPEC)
    with model.frozen():
        masks = EP3D(iterations=50, sigma=5).masks(model, clip.tensor(SPEC), 0, [0.05, 0.2, 0.5])
    shares = masks.mean(dim=(1, 2, 3))
    assert shares[0] < shares[1] < shares[2]
    both = EP3D(areas=[0.05, 0.2, 0.5], iterations=50, sigma=5)(model, clip, 0).values
    assert float(both.max()) == 1
    assert float(torch.corrcoef(torch.stack([both.flatten(), masks.sum(0).flatten()]))[0, 1]) > 0.7


def test_each_area_is_learnt_as_if_alone_whatever_the_batch_size() -> None:
    clip = moving_clip()
    maps = []
    for batch_size, areas in ((1, [0.1, 0.3]), (2, [0.1, 0.3]), (8, [0.3])):
        model = small_model(batch_size=batch_size)
        with model.frozen():
            maps.append(STEP(iterations=10, sigma=5).masks(model, clip.tensor(model.spec), 1, areas)[-1])
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(maps[1], maps[2], rtol=1e-4, atol=1e-4)


def test_the_energy_is_the_papers_sum() -> None:
    model, clip = small_model(), moving_clip()
    x = clip.tensor(model.spec)
    explainer, up = STEP(iterations=2000), SmoothMax(model.spec.size)
    small = torch.from_numpy((formula.noise("seeds", (1, model.spec.frames, *up.grid)) + 1) / 2).float()
    leaf = small.clone().requires_grad_()
    for t in (0, 100, 101, 1500):
        with model.frozen(), torch.enable_grad():
            got = explainer._descend(model, BlurPyramid(x), up, leaf, slice(0, 1), 1, [0.1], t)
        masks, padded = up(small[0])
        with torch.no_grad():
            score = model.scores(BlurPyramid(x)(masks[None]))[0, 1].log()
        expected = -score + 300 * 1.0008668**t * template_loss(padded, 0.1)
        expected += 300 * explainer.core_loss(padded, 0.1) if t > 100 else 0
        assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_a_shorter_run_sees_the_whole_schedule() -> None:
    _, padded = SmoothMax(SIZE, 7, 11)(seeds())
    long, short = STEP(iterations=2000), STEP(iterations=20)
    for t in (0, 100, 1000, 1900):
        assert float(long.penalty(padded, 0.1, t)) == pytest.approx(float(short.penalty(padded, 0.1, t // 100)))


def test_gaussian_smoothing_of_seeds() -> None:
    one = torch.zeros(1, 5, 1, 1)
    one[0, 2] = 1
    side = math.exp(-1 / 0.6)
    got = EP3DGaussian(delta=1).smoothed(one)[0, :, 0, 0].tolist()
    assert got == pytest.approx([0, side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side), 0])
    # Eq. 12 divides by .6·Δt, not by its square.
    one = torch.zeros(1, 7, 1, 1)
    one[0, 3] = 1
    weights = [math.exp(-(u**2) / 1.2) for u in (-2, -1, 0, 1, 2)]
    got = EP3DGaussian(delta=2).smoothed(one)[0, 1:6, 0, 0].tolist()
    # The outer frames' means lack the neighbour that lies before the first frame, or after the last.
    whole, cut = sum(weights), sum(weights[1:])
    assert got == pytest.approx([weights[0] / cut, *(w / whole for w in weights[1:4]), weights[4] / cut])
    assert EP3DGaussian(delta=3).smoothed(torch.ones(2, 5, 3, 4)).flatten().tolist() == pytest.approx([1] * 120)


def test_patience_stops_early_and_only_when_asked() -> None:
    calls = []
    model, clip = small_model(), moving_clip()
    model.network.register_forward_hook(lambda *_: calls.append(1))
    EP3D(iterations=20, sigma=5)(model, clip, 1)
    whole = len(calls)
    calls.clear()
    model.network.fc.weight.data.zero_()
    EP3D(iterations=150, patience=3, sigma=5)(model, clip, 1)
    assert whole >= 20
    assert len(calls) < 140


def test_minimum_preservation_ratio_is_the_smallest_area_that_keeps_the_score() -> None:
    model, clip = VideoModel(Place(), SPEC, device="cpu"), moving_clip(SPEC)

    class Known(EP3D):
        def masks(self, model: VideoModel, x: Tensor, target: int, areas: list[float]) -> Tensor:
            kept = torch.zeros(len(areas), *x.shape[1:])
            for mask, area in zip(kept, areas, strict=True):
                mask[1:3, 5:19, 5 : 19 if area >= 0.3 else 12] = 1
            return kept

    assert minimum_preservation_ratio(Known(), model, clip, 0, [0.5, 0.1, 0.3, 0.2]) == 0.3
    assert minimum_preservation_ratio(Known(), model, clip, 0, [0.1, 0.2]) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"areas": [0.1, 1.0]}, r"explainer\.areas=\[0\.1, 1\.0\]: give different shares between 0 and 1"),
        ({"areas": []}, r"explainer\.areas=\[\]"),
        ({"iterations": 0}, r"explainer\.iterations=0"),
        ({"z": 300}, r"explainer\.z=300: choose one of 443, 311"),
        ({"patience": 0}, r"explainer\.patience=0"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        STEP(**options)  # type: ignore[arg-type]
