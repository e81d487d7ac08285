import numpy as np
import pytest
import torch

from aosa import InputSpec
from aosa.config import build, compose
from aosa.errors import ConfigError
from aosa.explainers import AOSA, LIME3D, OSA, AOSAApprox
from aosa.metrics import DeletionInsertion
from aosa.removal.draws import Sampled
from aosa.removal.fills import (
    FILLS,
    REGION_FILLS,
    Black,
    Blur,
    BoxMean,
    ClipFill,
    ClipMean,
    Constant,
    Grey,
    Inpaint,
    Patches,
    box_mean,
    gaussian_blur,
    patch_mean,
)
from aosa.removal.regions import Segments
from tests.running import ROOT

SPEC = InputSpec(frames=2, size=(13, 17), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 2, 13, 17, generator=torch.Generator().manual_seed(0))


def test_patches_are_the_mean_of_the_shifted_clips(x: torch.Tensor) -> None:
    m = 2
    mu = patch_mean(x, m)
    for y, col in ((0, 0), (6, 8), (12, 16), (1, 15)):
        values = [
            x[:, :, y + dy, col + dx]
            for dy in range(-m, m + 1)
            for dx in range(-m, m + 1)
            if (dy or dx) and 0 <= y + dy < 13 and 0 <= col + dx < 17
        ]
        torch.testing.assert_close(mu[:, :, y, col], torch.stack(values).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_patches_follow_the_closed_form_inside(x: torch.Tensor) -> None:
    mu = patch_mean(x, 4)
    expected = (81 * box_mean(x, 9) - x) / 80
    torch.testing.assert_close(mu[:, :, 4:-4, 4:-4], expected[:, :, 4:-4, 4:-4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_box_mean_covers_its_window(x: torch.Tensor, n: int) -> None:
    mean = box_mean(x, n)
    for y, col in ((0, 0), (6, 8), (12, 16)):
        top, left = y - (n - 1) // 2, col - (n - 1) // 2
        window = x[:, :, max(top, 0) : y + n // 2 + 1, max(left, 0) : col + n // 2 + 1]
        torch.testing.assert_close(mean[:, :, y, col], window.sum(dim=(2, 3)) / n**2, rtol=1e-4, atol=1e-5)


def test_blur_is_a_gaussian_of_eleven_pixels() -> None:
    x = torch.zeros(3, 1, 21, 21)
    x[:, :, 10, 10] = 1
    at = torch.arange(-5.0, 6)
    kernel = torch.exp(-(at**2) / 50)
    kernel /= kernel.sum()
    blurred = gaussian_blur(x)
    torch.testing.assert_close(blurred[0, 0, 5:16, 5:16], kernel[:, None] * kernel[None], rtol=1e-5, atol=1e-8)
    assert blurred[0, 0, :5].abs().max() == 0


def test_black_is_black_and_constant_is_the_mean_colour(x: torch.Tensor) -> None:
    assert SPEC.denormalise(Black()(x, SPEC).contiguous()).max() == 0
    colour = SPEC.denormalise(Constant()(x, SPEC))[0, 0, 0]
    assert colour.tolist() == [102, 128, 153]
    assert SPEC.denormalise(Grey()(x, SPEC).contiguous()).unique().tolist() == [128]
    torch.testing.assert_close(ClipMean()(x, SPEC)[:, 0, 0, 0], x.mean(dim=(1, 2, 3)))


def test_an_option_of_a_fill_changes_it_as_it_says(x: torch.Tensor) -> None:
    colour = SPEC.denormalise(Constant(colour=(1, 0, 0.2))(x, SPEC).contiguous())[1, 5, 7]
    assert colour.tolist() == [255, 0, 51]
    assert torch.equal(Blur(sigma=2, size=5)(x, SPEC), gaussian_blur(x, 5, 2.0))
    assert torch.equal(BoxMean(window=4)(x, SPEC), box_mean(x, 4))
    assert torch.equal(Patches(margin=2)(x, SPEC), patch_mean(x, 2))


@pytest.mark.parametrize("kind", [*FILLS, *REGION_FILLS, Sampled])
def test_a_fill_is_given_by_name_by_options_or_as_an_object(kind: type) -> None:
    defaults, takes = kind().options(), (lambda fill: AOSA(fill=fill).fill)
    if kind in REGION_FILLS:
        takes = lambda fill: LIME3D(removal=fill).removal  # noqa: E731
    made = takes(kind.name)
    assert made == takes({"name": kind.name, **defaults}) == takes(kind()) == kind()
    assert made.spelled() == kind.name  # what an identity holds is what it held before fills had options


def test_options_of_a_fill_are_part_of_the_identity() -> None:
    assert OSA(fill={"name": "blur", "sigma": 5}).identity() == OSA(fill="blur").identity()
    assert OSA(fill=Blur(sigma=8)).identity()["fill"] == {"name": "blur", "sigma": 8}
    red = Constant(colour=(1, 0, 0))
    assert DeletionInsertion(deletion=red).identity()["deletion"] == {"name": "constant", "colour": [1, 0, 0]}

    class Newer(Blur):
        name, version = "blur", 2

    assert Newer().spelled() == {"name": "blur", "version": 2}


def test_options_of_fills_stand_beside_it_in_the_identity_of_aosa() -> None:
    """So that maps made when these were options of AOSA are found."""
    found = AOSA(fill=Sampled(samples=3)).identity()
    assert [found[k] for k in ("fill", "margin", "samples", "window")] == ["sampled", 4, 3, 9]
    found = AOSAApprox(fill={"name": "patches", "margin": 10}).identity()
    assert [found[k] for k in ("fill", "margin", "window")] == ["patches", 10, 9]
    assert "samples" not in found


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        ("pink", f"explainer.fill=pink: choose one of {', '.join(f.name for f in FILLS)}$"),
        ("inpaint", "explainer.fill=inpaint: choose one of"),
        (3, "explainer.fill=3: choose one of"),
        ({"sigma": 3}, "explainer.fill.name is missing: give one of constant, black"),
        ({"name": "blur", "radius": 3}, "there is no key explainer.fill.radius\n  keys: sigma, size"),
        ({"name": "blur", "sigma": 0}, "explainer.fill.sigma=0: give a number of at least 0.01"),
        ({"name": "blur", "size": 10}, "fill.size=10: give an odd number"),
        ({"name": "constant", "colour": [255, 0, 0]}, r"explainer.fill.colour=.*give null, or \[red, green, blue\]"),
    ],
)
def test_a_wrong_fill_is_refused(fill: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OSA(fill=fill)


def test_a_fill_with_options_on_the_command_line_and_one_of_your_own() -> None:
    config = compose("evaluate", ["explainer=osa", "explainer.fill={name: blur, sigma: 8}"])
    assert build(config.explainer).fill == Blur(sigma=8)
    again = compose("evaluate", ["explainer=aosa_approx_iqr", "explainer.fill.margin=7"])
    assert build(again.explainer).fill == Patches(margin=7)
    own = compose("evaluate", ["metric=deletion_insertion", f"metric.deletion={{_target_: {__name__}.Noise}}"])
    assert type(build(own.metric).deletion).__name__ == "Noise"
    with pytest.raises(ConfigError, match=r"metric\.deletion\._target_=.*Inpaint"):
        build(compose("evaluate", ["metric.deletion={_target_: aosa.removal.fills.Inpaint}"]).metric)


class Noise(ClipFill):
    name = "noise"

    def __call__(self, x: torch.Tensor, spec: InputSpec) -> torch.Tensor:
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def test_the_page_of_fills_names_each_with_its_options() -> None:
    page = (ROOT / "docs" / "fills.md").read_text()
    for kind in {*FILLS, *REGION_FILLS, Sampled}:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{kind.name}` |"))
        for name, default in kind().options().items():
            assert f"`{name}={'null' if default is None else format(default, 'g')}`" in row


def painting(frames: torch.Tensor) -> object:
    regions = Segments(np.zeros(frames.shape[:3]))
    return Inpaint().of_regions(SPEC.normalise(frames), SPEC, regions)


def test_inpainting_sees_only_what_is_left() -> None:
    frames = torch.full((2, 13, 17, 3), 90, dtype=torch.uint8)
    frames[:, 4:9, 4:9] = 250
    occluded = torch.zeros(3, 2, 13, 17)
    occluded[0, 0, 3:10, 3:10] = 1
    occluded[0, 0, 0, 0] = 0.4  # less than half: seen
    occluded[1] = 1
    painted = painting(frames)(occluded)
    hidden, black, whole = (SPEC.denormalise(p) for p in painted)
    assert (hidden[0].int() - 90).abs().max() <= 4  # the patch behind the hole leaves no trace
    assert torch.equal(hidden[1], frames[1])
    assert black.max() == 0
    assert torch.equal(whole, frames)


def test_inpainting_removes_a_pixel_from_one_half_on() -> None:
    frames = torch.full((2, 13, 17, 3), 90, dtype=torch.uint8)
    frames[0, 3, 3] = frames[0, 9, 12] = 250
    occluded = torch.zeros(1, 2, 13, 17)
    occluded[0, 0, 3, 3], occluded[0, 0, 9, 12] = 0.499, 0.5
    painted = SPEC.denormalise(painting(frames)(occluded)[0])
    assert painted[0, 3, 3].tolist() == [250] * 3
    assert (painted[0, 9, 12].int() - 90).abs().max() <= 4
