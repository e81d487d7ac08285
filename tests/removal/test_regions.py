import numpy as np
import pytest
import torch
from scipy import ndimage

from aosa.errors import ConfigError
from aosa.removal.regions import Segments, SoftGrid, Windows

SIZE = (4, 14, 17)
GRID = (2, 3, 4)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))


def random_rows(count: int, regions: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, regions)) < 0.5


def shown(regions: Segments | SoftGrid | Windows, kept: np.ndarray) -> np.ndarray:
    masks = regions.masks(kept)
    return torch.cat([masks.occluded(i, min(i + 3, len(masks)), "cpu") for i in range(0, len(masks), 3)]).numpy()


def test_segments_are_removed_and_painted_voxel_by_voxel(x: torch.Tensor) -> None:
    labels = np.random.default_rng(1).integers(0, 6, SIZE)
    regions = Segments(labels)
    kept = random_rows(8, regions.count)
    np.testing.assert_array_equal(shown(regions, kept), ~kept[:, labels])
    np.testing.assert_array_equal(regions.paint(np.arange(6.0)).numpy(), labels)
    mean = regions.mean_colour(x)
    for r in range(6):
        inside = torch.from_numpy(labels == r)
        torch.testing.assert_close(mean[:, inside], x[:, inside].mean(dim=1, keepdim=True).expand(3, int(inside.sum())))


def test_the_soft_grid_is_scipys_linear_zoom(x: torch.Tensor) -> None:
    regions = SoftGrid(GRID, SIZE)
    kept = random_rows(8, regions.count)
    scale = [n / g for n, g in zip(SIZE, GRID, strict=True)]
    zoomed = np.stack([ndimage.zoom((~row).astype(float).reshape(GRID), scale, order=1) for row in kept])
    np.testing.assert_allclose(shown(regions, kept), zoomed, atol=1e-6)
    values = np.random.default_rng(2).normal(size=regions.count)
    np.testing.assert_allclose(
        regions.paint(values).numpy(), ndimage.zoom(values.reshape(GRID), scale, order=1), atol=1e-6
    )
    mean = regions.mean_colour(x)
    torch.testing.assert_close(mean[:, 0, 0, 0], x[:, :2, :4, :3].mean(dim=(1, 2, 3)))


def test_ends_of_the_soft_grid_are_the_clip_and_the_fill() -> None:
    ends = np.array([[True] * 24, [False] * 24])
    whole, nothing = shown(SoftGrid(GRID, SIZE), ends)
    assert whole.max() == 0
    np.testing.assert_allclose(nothing, 1, atol=1e-6)


def test_windows_lie_at_every_half_of_their_length(x: torch.Tensor) -> None:
    regions = Windows(GRID, SIZE)
    assert regions.count == 3 * 5 * 7
    boxes = shown(regions, ~np.eye(regions.count, dtype=bool))
    index = 0
    for t in range(3):
        for r in range(5):
            for c in range(7):
                low = [round(i * n / (2 * g)) for i, n, g in zip((t, r, c), SIZE, GRID, strict=True)]
                high = [round(a + n / g) for a, n, g in zip(low, SIZE, GRID, strict=True)]
                expected = np.zeros(SIZE, dtype=bool)
                expected[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
                np.testing.assert_array_equal(boxes[index], expected)
                index += 1
    colour = regions.mean_colour(x)(torch.from_numpy(boxes[40:42]))
    torch.testing.assert_close(colour[1].flatten(), x[:, torch.from_numpy(boxes[41])].mean(dim=1))


def test_the_papers_windows() -> None:
    assert Windows((4, 7, 7), (16, 112, 112)).count == 1183


@pytest.mark.parametrize("kind", [SoftGrid, Windows])
def test_a_grid_finer_than_the_clip_is_refused(kind: type) -> None:
    with pytest.raises(ConfigError, match=r"explainer\.grid=\[4, 15, 4\] is finer than the clip of 4×14×17"):
        kind((4, 15, 4), SIZE)
