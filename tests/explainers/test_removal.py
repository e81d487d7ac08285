"""Known answers of the removal methods, and their agreement with captum and with REVEX's code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from aosa import Clip, VideoModel
from aosa.config import build, compose
from aosa.errors import ConfigError
from aosa.explainers import LIME3D, LOCO, RISE3D, SOS, Explainer, KernelSHAP3D, Removal, Univariate
from aosa.removal.fills import FILLS, Black
from aosa.removal.forward import masked_scores
from aosa.removal.segments import grid_labels
from aosa.removal.selection import bernoulli, shapley_kernel
from aosa.removal.summary import locality
from tests.helpers import SPEC, Small3D, moving_clip, small_model
from tests.reference import formula

SIZE = (SPEC.frames, *SPEC.size)
GRID = (2, 3, 4)
CELLS = grid_labels(SIZE, GRID)
REVEX = np.load(Path(__file__).parents[1] / "reference" / "revex.npz")


class Affine(nn.Module):
    """Two classes, the second with probability .4 + w·x exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(formula.noise("affine", (3, *SIZE))).float() * 4e-4)

    def forward(self, x: Tensor) -> Tensor:
        p = 0.4 + (x * self.weight).sum(dim=(1, 2, 3, 4))
        return torch.stack([1 - p, p], dim=1).log()


def affine_model() -> VideoModel:
    return VideoModel(Affine(), SPEC, name="affine", device="cpu")


def contributions(removal: str = "black") -> tuple[np.ndarray, float, float]:
    """w·(x − fill) per voxel, f(x) and f(fill)."""
    x = moving_clip().tensor(SPEC).double()
    (fill,) = (kind()(x.float(), SPEC).double() for kind in FILLS if kind.name == removal)
    weight = affine_model().network.weight.double()
    lost = ((x - fill) * weight).sum(dim=0).detach().numpy()
    whole = float(0.4 + (x * weight).sum().detach())
    return lost, whole, whole - lost.sum()


def per_cell(volume: np.ndarray) -> np.ndarray:
    return np.bincount(CELLS.ravel(), weights=volume.ravel())


@pytest.mark.parametrize("removal", ["black", "grey", "blur", "constant"])
@pytest.mark.parametrize(
    "explainer",
    [
        lambda **o: LOCO(segmentation="grid", grid=GRID, **o),
        lambda **o: Univariate(segmentation="grid", grid=GRID, **o),
        lambda **o: KernelSHAP3D(segmentation="grid", grid=GRID, samples=200, **o),
        lambda **o: LIME3D(segmentation="grid", grid=GRID, samples=200, alpha=0, **o),
    ],
)
def test_on_an_affine_model_each_segment_has_its_own_share(explainer, removal: str) -> None:
    lost, _, _ = contributions(removal)
    saliency = explainer(removal=removal)(affine_model(), moving_clip(), 1).values.numpy()
    np.testing.assert_allclose(saliency, per_cell(lost)[CELLS], atol=2e-6)
    assert saliency.min() < -1e-3  # signs are kept


def test_lime_shrinks_by_its_ridge_as_sklearn_does() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="compares with scikit-learn")
    lost, _, nothing = contributions()
    kept = bernoulli(24, 100, 0.5, 0, "moving")
    ridge = linear_model.Ridge(alpha=1.0).fit(kept, nothing + kept @ per_cell(lost), sample_weight=locality(kept, 0.25))
    saliency = LIME3D(segmentation="grid", grid=GRID, samples=100)(affine_model(), moving_clip(), 1).values
    np.testing.assert_allclose(saliency.numpy(), ridge.coef_[CELLS], atol=2e-6)


def test_rise_on_an_affine_model() -> None:
    lost, whole, nothing = contributions()
    scale = [n / g for n, g in zip(SIZE, GRID, strict=True)]
    bumps = [ndimage.zoom(node.reshape(GRID), scale, order=1) for node in np.eye(24)]
    share = np.array([(lost * bump).sum() for bump in bumps])
    kept = np.concatenate([np.ones((1, 24), dtype=bool), bernoulli(24, 60, 0.5, 0, "moving")])
    scores = nothing + kept @ share
    mean = np.array([scores[kept[:, r]].mean() for r in range(24)])
    expected = ndimage.zoom((mean / mean.sum()).reshape(GRID), scale, order=1)
    saliency = RISE3D(grid=GRID, samples=60)(affine_model(), moving_clip(), 1).values
    np.testing.assert_allclose(saliency.numpy(), expected, atol=1e-7)
    assert scores[0] == pytest.approx(whole)


def test_sos_on_an_affine_model() -> None:
    lost, whole, _ = contributions()
    values = np.zeros((3, 5, 7))
    for i in np.ndindex(values.shape):
        low = [round(k * n / (2 * g)) for k, n, g in zip(i, SIZE, GRID, strict=True)]
        window = tuple(slice(a, round(a + n / g)) for a, n, g in zip(low, SIZE, GRID, strict=True))
        values[i] = 1 - (whole - lost[window].sum())
    expected = ndimage.zoom(values, [n / g for n, g in zip(SIZE, values.shape, strict=True)], order=1)
    np.testing.assert_allclose(SOS(grid=GRID)(affine_model(), moving_clip(), 1).values.numpy(), expected, atol=2e-6)


def test_shapley_values_of_an_affine_model_are_efficient() -> None:
    _, whole, nothing = contributions()
    explainer = KernelSHAP3D(segmentation="grid", grid=GRID, samples=30)
    saliency = explainer(affine_model(), moving_clip(), 1).values.numpy()
    values = [saliency[r == CELLS][0] for r in range(24)]
    assert sum(values) == pytest.approx(whole - nothing, abs=1e-6)


@pytest.mark.parametrize("explainer", [LIME3D, KernelSHAP3D, LOCO, Univariate])
def test_one_segment(explainer: type[Explainer]) -> None:
    lost, _, _ = contributions()
    one = explainer(segmentation="grid", grid=(1, 1, 1))
    with pytest.warns(UserWarning, match="map is constant"):
        saliency = one(affine_model(), moving_clip(), 1).values
    if explainer is not LIME3D:  # its ridge shrinks
        assert float(saliency[0, 0, 0]) == pytest.approx(lost.sum(), abs=2e-6)


# Captum


SIX = (1, 2, 3)


def cells(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    return torch.from_numpy(grid_labels(SIZE, grid))[None, None].expand_as(x).contiguous()


@pytest.fixture
def parts() -> tuple[VideoModel, Clip, Tensor, Tensor]:
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    return model, clip, x[None], Black()(x, SPEC)[None].contiguous()


def test_loco_is_captums_feature_ablation(parts) -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip, x, black = parts
    ablation = captum.FeatureAblation(model.scores)
    expected = ablation.attribute(x, black, target=1, feature_mask=cells(x, GRID), perturbations_per_eval=8)[0, 0]
    saliency = LOCO(segmentation="grid", grid=GRID)(model, clip, 1).values
    torch.testing.assert_close(saliency, expected, rtol=1e-4, atol=1e-6)


def test_kernel_shap_is_captums_exact_shapley_values(parts) -> None:
    captum = pytest.importorskip("captum.attr")
    model, clip, x, black = parts
    exact = captum.ShapleyValues(model.scores)
    thirds = cells(x, (1, 1, 3))
    expected = exact.attribute(x, black, target=1, feature_mask=thirds, perturbations_per_eval=8)[0, 0]
    saliency = KernelSHAP3D(segmentation="grid", grid=(1, 1, 3))(model, clip, 1).values
    torch.testing.assert_close(saliency, expected, rtol=1e-4, atol=1e-6)


def test_lime_is_captums_on_the_same_samples(parts) -> None:
    pytest.importorskip("sklearn", reason="captum's linear models need scikit-learn")
    captum = pytest.importorskip("captum.attr")
    from captum._utils.models.linear_model import SkLearnRidge

    model, clip, x, black = parts
    kept = bernoulli(6, 40, 0.5, 0, clip.id)
    samples = iter(torch.from_numpy(kept).long()[:, None])
    lime = captum.Lime(
        model.scores,
        interpretable_model=SkLearnRidge(alpha=1.0),
        similarity_func=lambda _, __, sample, **___: torch.from_numpy(locality(sample.numpy(), 0.25)),
        perturb_func=lambda *_, **__: next(samples),
    )
    mask = cells(x, SIX)
    expected = lime.attribute(x, black, target=1, feature_mask=mask, n_samples=40, perturbations_per_eval=8)[0, 0]
    saliency = LIME3D(segmentation="grid", grid=SIX, samples=40)(model, clip, 1).values
    torch.testing.assert_close(saliency, expected, rtol=1e-3, atol=1e-6)


def test_kernel_shap_is_captums_on_the_same_samples(parts) -> None:
    """Captum lets the sum differ a little: it weighs the two ends by 10⁶ instead of holding them."""
    pytest.importorskip("sklearn", reason="captum's linear models need scikit-learn")
    captum = pytest.importorskip("captum.attr")
    model, clip, x, black = parts
    kept, weights = shapley_kernel(6, 40, 0, clip.id)
    ends = np.array([[True] * 6, [False] * 6])
    rows = torch.from_numpy(np.concatenate([ends, kept])).long()
    samples, weighing = iter(rows[:, None]), iter([1e6, 1e6, *(weights * len(weights))])
    shap = captum.KernelShap(model.scores)
    shap.perturb_func = lambda *_, **__: next(samples)
    shap.similarity_func = lambda *_, **__: torch.tensor([next(weighing)])
    mask = cells(x, SIX)
    expected = shap.attribute(x, black, target=1, feature_mask=mask, n_samples=42, perturbations_per_eval=8)[0, 0]
    saliency = KernelSHAP3D(segmentation="grid", grid=SIX, samples=40)(model, clip, 1).values
    torch.testing.assert_close(saliency, expected, rtol=1e-3, atol=1e-5)


# REVEX's code, on the same frames, segments and masks


@pytest.fixture
def revex() -> tuple[VideoModel, Clip]:
    frames = ((formula.clip(0, SIZE) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 3, 0).copy()
    model = VideoModel(formula.fill(Small3D()), SPEC, name="small", device="cpu")
    return model, Clip(id="formula", frames=torch.from_numpy(frames))


@pytest.mark.parametrize(
    ("name", "explainer"),
    [
        ("loco", LOCO(segmentation="grid", grid=GRID)),
        ("univariate", Univariate(segmentation="grid", grid=GRID)),
        ("loco_region_mean", LOCO(segmentation="grid", grid=GRID, removal="region_mean")),
    ],
)
def test_loco_and_univariate_are_revexs(revex, name: str, explainer: Explainer) -> None:
    saliency = explainer(*revex, 1).values.numpy()
    # REVEX rounds the mean colour down to 8 bits.
    limit = 2e-4 if "mean" in name else 1e-6
    np.testing.assert_allclose(saliency, REVEX[name][CELLS], atol=limit)


def test_exact_shapley_values_are_the_shap_packages(revex) -> None:
    saliency = KernelSHAP3D(segmentation="grid", grid=(1, 2, 3))(*revex, 1).values.numpy()
    np.testing.assert_allclose(saliency, REVEX["shap_exact"][grid_labels(SIZE, (1, 2, 3))], atol=1e-6)


class Given(Removal):
    """With REVEX's draws in place of its own."""

    def __init__(self, kept: np.ndarray, **options) -> None:
        super().__init__(**options)
        self.kept = kept

    def select(self, regions: int, clip_id: str) -> tuple[np.ndarray, np.ndarray]:
        return self.kept, np.ones(len(self.kept))


def unpack(name: str) -> np.ndarray:
    return np.unpackbits(REVEX[name]).reshape(100, 24).astype(bool)


def test_lime_is_revexs(revex) -> None:
    saliency = Given(unpack("lime_kept"), segmentation="grid", grid=GRID)(*revex, 1).values.numpy()
    np.testing.assert_allclose(saliency, REVEX["lime"][CELLS], atol=1e-6)


def test_rise_is_revexs(revex) -> None:
    """REVEX's masked clips are rounded down to 8 bits, ours are not: half a grey level in the input."""
    model, clip = revex
    explainer = Given(unpack("rise_kept"), segmentation="soft_grid", grid=GRID, summary="mean")
    rows = np.concatenate([np.ones((1, 24), dtype=bool), unpack("rise_kept")])
    x = clip.tensor(SPEC)
    masks = explainer.regions(clip).masks(rows)
    scores = masked_scores(model, x, masks, Black()(x, SPEC), 1)
    np.testing.assert_allclose(scores, REVEX["rise_scores"], atol=1e-3)
    whole, rest = REVEX["rise_scores"][:1], REVEX["rise_scores"][1:]
    values = explainer.summarise(rows[1:], np.ones(100), rest, whole)
    np.testing.assert_allclose(values, REVEX["rise"], atol=1e-12)
    painted = explainer.regions(clip).paint(values).numpy()
    np.testing.assert_allclose(painted[:, ::7, ::5], REVEX["rise_map"], atol=1e-8)
    saliency = explainer(model, clip, 1).values.numpy()
    assert np.corrcoef(saliency[:, ::7, ::5].ravel(), REVEX["rise_map"].ravel())[0, 1] > 0.999


def test_sos_is_revexs(revex) -> None:
    saliency = SOS(grid=GRID)(*revex, 1).values.numpy()
    np.testing.assert_allclose(saliency[:, ::7, ::5], REVEX["sos_map"], atol=1e-6)


# Choices


def test_a_new_method_from_the_choices_alone() -> None:
    """LOCO on soft nodes, and mean colours: no class of its own."""
    lost, _, _ = contributions("constant")
    explainer = Removal("soft_grid", grid=GRID, selection="one_out", removal="constant", summary="difference")
    scale = [n / g for n, g in zip(SIZE, GRID, strict=True)]
    share = [(lost * ndimage.zoom(node.reshape(GRID), scale, order=1)).sum() for node in np.eye(24)]
    expected = ndimage.zoom(np.reshape(share, GRID), scale, order=1)
    np.testing.assert_allclose(explainer(affine_model(), moving_clip(), 1).values.numpy(), expected, atol=2e-6)


def test_a_new_method_is_a_config(tmp_path: Path) -> None:
    (tmp_path / "explainer").mkdir()
    (tmp_path / "explainer" / "pieces.yaml").write_text(
        "defaults: [removal, _self_]\nsegmentation: grid\ngrid: [2, 3, 4]\nselection: one_out\nsummary: difference\n"
    )
    explainer = build(compose("explain", ["explainer=pieces"], [str(tmp_path)]).explainer)
    saliency = explainer(affine_model(), moving_clip(), 1).values
    torch.testing.assert_close(saliency, LOCO(segmentation="grid", grid=GRID)(affine_model(), moving_clip(), 1).values)
    with pytest.raises(ConfigError, match="colour"):
        compose("explain", ["explainer=pieces", "explainer.colour=black"], [str(tmp_path)])


@pytest.mark.parametrize("removal", ["black", "grey", "region_mean", "blur", "inpaint", "constant", "clip_mean"])
@pytest.mark.parametrize("segmentation", ["grid", "slic", "soft_grid", "windows"])
def test_every_removal_on_every_segmentation(segmentation: str, removal: str) -> None:
    explainer = Removal(
        segmentation,
        segments=12,
        compactness=100,
        grid=(1, 2, 3),
        selection="one_out",
        removal=removal,
        summary="value",
    )
    saliency = explainer(small_model(batch_size=4), moving_clip(), 1).values
    other = explainer(small_model(batch_size=16), moving_clip(), 1).values
    assert saliency.std() > 0
    torch.testing.assert_close(saliency, other, rtol=1e-4, atol=1e-6)


def test_as_many_passes_as_samples_and_ends() -> None:
    passes, samples = {}, 21
    for name, explainer in {
        "lime": LIME3D(segmentation="grid", grid=GRID, samples=samples),
        "shap": KernelSHAP3D(segmentation="grid", grid=GRID, samples=samples),
        "rise": RISE3D(grid=GRID, samples=samples),
        "loco": LOCO(segmentation="grid", grid=GRID),
        "univariate": Univariate(segmentation="grid", grid=GRID),
        "sos": SOS(grid=GRID),
    }.items():
        model = small_model(batch_size=8, class_names=["a", "b", "c"])
        seen: list[int] = []
        model.network.register_forward_hook(lambda _, args, __, seen=seen: seen.append(len(args[0])))
        explainer(model, moving_clip(), 1)
        passes[name] = sum(seen)
    assert passes == {
        "lime": samples,
        "shap": samples + 2,
        "rise": samples + 1,
        "loco": 25,
        "univariate": 25,
        "sos": 105,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segmentation": "watershed"}, r"explainer\.segmentation=watershed: choose one of grid, slic"),
        ({"removal": "white"}, r"explainer\.removal=white: choose one of black, grey, region_mean, blur, inpaint"),
        ({"grid": (4, 7)}, r"explainer\.grid=\(4, 7\): give \[time, height, width\]"),
        (
            {"grid": (0, 7, 7)},
            r"explainer\.grid=\(0, 7, 7\): give \[time, height, width\], whole numbers of at least 1",
        ),
        ({"spacing": (0, 1, 1)}, r"explainer\.spacing=\(0, 1, 1\): give \[time, height, width\], numbers above 0"),
        ({"keep": 1.5}, r"explainer\.keep=1\.5"),
        ({"samples": 0}, r"explainer\.samples=0"),
        ({"l1_reg": "bic"}, r"explainer\.l1_reg=bic"),
        ({"flow": "farneback", "segmentation": "soft_grid"}, r"explainer\.flow=farneback needs"),
        ({"segmentation": "windows"}, r"segmentation=windows needs explainer\.selection=one_out"),
        ({"summary": "shapley"}, r"summary=shapley needs explainer\.selection=shapley, not bernoulli"),
        ({"summary": "value", "selection": "one_in"}, r"summary=value needs explainer\.selection=one_out, not one_in"),
        ({"summary": "difference"}, r"summary=difference needs explainer\.selection=one_out or one_in"),
    ],
)
def test_choices_that_do_not_exist_or_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Removal(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("explainer", [LOCO(segmentation="grid"), RISE3D(samples=5), SOS()])
def test_a_clip_smaller_than_the_grid(explainer: Explainer) -> None:
    explainer.grid = (5, 7, 7)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"explainer\.grid=\[5, 7, 7\] is finer than the clip of 4×24×32"):
        explainer(small_model(), moving_clip(), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1_reg": "bic"}, "l1_reg=bic: give null, aic, or a number of regions"),
        ({"l1_reg": True}, "l1_reg=true: give null, aic, or a number of regions"),
        ({"selection": "shapley", "summary": "mean"}, "summary=mean needs samples of equal weight"),
    ],
)
def test_choices_that_say_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Removal(**options)  # type: ignore[arg-type]
