import numpy as np
import pytest
import torch

from aosa.removal.boxes import BoxUnions
from aosa.removal.draws import PatchDraws
from aosa.removal.fills import patch_mean
from aosa.removal.forward import masked_scores
from tests.helpers import small_model

SIZE = (2, 13, 17)
M = 2
SHIFTS = [(dy, dx) for dy in range(-M, M + 1) for dx in range(-M, M + 1) if dy or dx]


@pytest.fixture
def x() -> torch.Tensor:
    noise = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    return noise + noise.roll(1, dims=3) + 2  # neighbouring pixels covary


def unions() -> BoxUnions:
    """Tube 0 lies inside the frame, 1 over its corner and over 2 in the first frame, 3 in the second frame only."""
    boxes = np.array(
        [
            [[4, 8, 6, 9], [5, 9, 7, 10]],
            [[0, 3, 0, 2], [0, 3, 0, 2]],
            [[1, 5, 1, 4], [9, 13, 14, 17]],
            [[0, 0, 0, 0], [6, 10, 2, 5]],
        ]
    )
    return BoxUnions(boxes, np.array([[0, 3], [1, 2], [2, 1], [3, 0]]), SIZE)


def draws(x: torch.Tensor, samples: int = 3, seed: int = 0, clip_id: str = "a") -> PatchDraws:
    return PatchDraws(x, unions(), margin=M, samples=samples, seed=seed, clip_id=clip_id)


def fills(made: PatchDraws, start: int, stop: int) -> torch.Tensor:
    return made.fill(made.occluded(start, stop, "cpu"), start)


def test_mean_and_covariance_are_those_of_the_patches_around(x: torch.Tensor) -> None:
    n = 6000
    seen = fills(draws(x, n), 0, n)
    patches = np.stack([x[:, 0, 4 + dy : 8 + dy, 6 + dx : 9 + dx].flatten().numpy() for dy, dx in SHIFTS])
    got = seen[:, :, 0, 4:8, 6:9].flatten(1).numpy()
    expected = np.cov(patches.T)
    deviation = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    np.testing.assert_allclose(got.mean(axis=0), patches.mean(axis=0), atol=0.06 * deviation.max() ** 0.5)
    np.testing.assert_allclose(np.cov(got.T) / deviation, expected / deviation, atol=0.07)
    assert np.abs(np.corrcoef(patches.T) - np.eye(36)).max() > 0.3  # the off-diagonal is put to the test


def test_at_the_border_only_pixels_of_the_frame_count(x: torch.Tensor) -> None:
    n = 6000
    seen = fills(draws(x, n), n, 2 * n)
    for y, col in ((0, 0), (2, 1)):
        values = torch.stack(
            [x[:, 0, y + dy, col + dx] for dy, dx in SHIFTS if 0 <= y + dy < 13 and 0 <= col + dx < 17]
        )
        got = seen[:, :, 0, y, col]
        torch.testing.assert_close(
            got.mean(dim=0), values.mean(dim=0), rtol=0, atol=0.06 * float(values.std(dim=0).max())
        )
        torch.testing.assert_close(got.std(dim=0), values.std(dim=0), rtol=0.05, atol=0)


@pytest.mark.parametrize(("frame", "y", "col"), [(0, 1, 1), (1, 9, 14)])
def test_a_draw_is_the_sum_of_shifted_patches(x: torch.Tensor, frame: int, y: int, col: int) -> None:
    """The first pixel of tube 2's box: (1, 1) has 4×4 − 1 neighbours within two pixels, (9, 14) all 24."""
    made = draws(x)
    inside = [k for k, (dy, dx) in enumerate(SHIFTS) if y + dy >= 0 and col + dx >= 0]
    assert len(inside) == (15 if frame == 0 else 24)
    values = torch.stack([x[:, frame, y + SHIFTS[k][0], col + SHIFTS[k][1]] for k in inside])
    mean = values.mean(dim=0)
    noise = made.noise(2, 1)[frame, inside, None]
    expected = mean + (noise * (values - mean)).sum(dim=0) / (len(inside) - 1) ** 0.5
    mask_2_sample_1 = fills(made, 7, 8)[0]
    torch.testing.assert_close(mask_2_sample_1[:, frame, y, col], expected, rtol=1e-4, atol=1e-5)


def test_boxes_frames_samples_seeds_and_clips_have_their_own_draws(x: torch.Tensor) -> None:
    noise = draws(x).noise(0, 0)
    assert noise.shape == (2, 24)
    others = [
        draws(x).noise(1, 0),
        draws(x).noise(0, 1),
        draws(x, seed=1).noise(0, 0),
        draws(x, clip_id="b").noise(0, 0),
    ]
    for other in [*others, noise.flip(0)]:
        assert not torch.isclose(noise, other).any()
    assert torch.equal(noise, draws(x).noise(0, 0))


def test_a_masks_own_box_lies_above_its_neighbours(x: torch.Tensor) -> None:
    """Tubes 1 and 2 share [1, 3) × [1, 2) of the first frame; masks 1 and 2 unite them, each in its own order."""
    seen = fills(draws(x, 1), 0, 4)
    first, second = seen[1, :, 0], seen[2, :, 0]
    assert not torch.isclose(first[:, 1:3, 1:2], second[:, 1:3, 1:2]).any()
    assert torch.equal(first[:, 0], second[:, 0])  # tube 1 alone
    assert torch.equal(first[:, 3:5], second[:, 3:5])  # tube 2 alone
    outside = ~draws(x, 1).occluded(1, 2, "cpu")[0]
    assert torch.equal(seen[1][:, outside], patch_mean(x, M)[:, outside])


def test_each_mask_is_shown_so_many_times(x: torch.Tensor) -> None:
    made = draws(x, 3)
    assert len(made) == 12
    alone = unions().occluded(0, 4)
    assert torch.equal(made.occluded(0, 12, "cpu"), alone.repeat_interleave(3, dim=0))
    assert torch.equal(made.occluded(4, 7, "cpu"), alone[[1, 1, 2]])


def test_the_same_fills_and_scores_whatever_the_batch_size(x: torch.Tensor) -> None:
    made = draws(x, 3)
    whole = fills(made, 0, 12)
    assert torch.equal(torch.cat([fills(made, 0, 5), fills(made, 5, 6), fills(made, 6, 12)]), whole)
    one, many = (masked_scores(small_model(batch_size=b), x, made, made.fill, 1) for b in (1, 5))
    np.testing.assert_allclose(one, many, rtol=1e-5)
    assert np.ptp(one) > 1e-4
