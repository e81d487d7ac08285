import numpy as np
import pytest

from aosa.removal.boxes import BoxUnions

SIZE = (3, 17, 23)


@pytest.fixture
def unions() -> BoxUnions:
    """Random boxes of all sizes, empty ones too, in unions that overlap and name a tube twice."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, SIZE[1] + 1, (20, SIZE[0], 2)), axis=-1)
    x = np.sort(rng.integers(0, SIZE[2] + 1, (20, SIZE[0], 2)), axis=-1)
    boxes = np.concatenate([y, x], axis=-1)
    boxes[rng.random((20, SIZE[0])) < 0.2] = 0
    return BoxUnions(boxes, rng.integers(0, 20, (300, 4)), SIZE)


def painted(unions: BoxUnions) -> np.ndarray:
    """The masks voxel by voxel, in the plainest way."""
    masks = np.zeros((len(unions), *SIZE), dtype=bool)
    for mask, group in zip(masks, unions.groups, strict=True):
        for tube in group:
            for t, (y0, y1, x0, x1) in enumerate(unions.boxes[tube]):
                mask[t, y0:y1, x0:x1] = True
    return masks


def test_occluded_paints_the_union(unions: BoxUnions) -> None:
    shown = np.concatenate([unions.occluded(i, min(i + 7, 300)).numpy() for i in range(0, 300, 7)])
    np.testing.assert_array_equal(shown, painted(unions))


def test_sum_is_exact_where_boxes_overlap(unions: BoxUnions) -> None:
    volume = np.random.default_rng(1).normal(size=SIZE)
    np.testing.assert_allclose(unions.sum(volume), (painted(unions) * volume).sum(axis=(1, 2, 3)), atol=1e-12)


def test_splat_is_the_weighted_sum_of_masks(unions: BoxUnions) -> None:
    weights = np.random.default_rng(2).normal(size=len(unions))
    np.testing.assert_allclose(unions.splat(weights), np.einsum("m,mthw->thw", weights, painted(unions)), atol=1e-12)


def test_share(unions: BoxUnions) -> None:
    np.testing.assert_allclose(unions.share(), painted(unions).mean(axis=(1, 2, 3)), atol=1e-15)
