import pytest
import torch

from aosa import InputSpec
from aosa.errors import ConfigError
from aosa.removal.fills import FILLS, box_mean, gaussian_blur, inpainting, make_fill, patch_mean

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
    assert SPEC.denormalise(make_fill("black", x, SPEC).contiguous()).max() == 0
    colour = SPEC.denormalise(make_fill("constant", x, SPEC))[0, 0, 0]
    assert colour.tolist() == [102, 128, 153]
    assert SPEC.denormalise(make_fill("grey", x, SPEC).contiguous()).unique().tolist() == [128]
    torch.testing.assert_close(make_fill("clip_mean", x, SPEC)[:, 0, 0, 0], x.mean(dim=(1, 2, 3)))


def test_an_unknown_fill_names_the_choices(x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=", ".join(FILLS)):
        make_fill("pink", x, SPEC)


def test_inpainting_sees_only_what_is_left() -> None:
    frames = torch.full((2, 13, 17, 3), 90, dtype=torch.uint8)
    frames[:, 4:9, 4:9] = 250
    occluded = torch.zeros(3, 2, 13, 17)
    occluded[0, 0, 3:10, 3:10] = 1
    occluded[0, 0, 0, 0] = 0.4  # less than half: seen
    occluded[1] = 1
    painted = inpainting(SPEC.normalise(frames), SPEC)(occluded)
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
    painted = SPEC.denormalise(inpainting(SPEC.normalise(frames), SPEC)(occluded)[0])
    assert painted[0, 3, 3].tolist() == [250] * 3
    assert (painted[0, 9, 12].int() - 90).abs().max() <= 4
