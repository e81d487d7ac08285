import numpy as np
import pytest
import torch

from aosa.removal.boxes import BoxUnions
from aosa.removal.forward import RankMasks, masked_scores
from aosa.removal.weighting import weighted_map
from tests.helpers import SPEC, moving_clip, small_model


def masks() -> BoxUnions:
    boxes = np.tile(np.array([[0, 8, 0, 8]]), (11, SPEC.frames, 1))
    boxes[:, :, 2:] += np.arange(11)[:, None, None] * 2
    return BoxUnions(boxes, np.arange(11)[:, None], (SPEC.frames, *SPEC.size))


@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_each_mask_is_scored_as_if_alone(batch_size: int) -> None:
    model, clip = small_model(batch_size=batch_size), moving_clip()
    x = clip.tensor(SPEC)
    fill = torch.full_like(x, 0.3)
    scores = masked_scores(model, x, masks(), fill, 1)
    for i in range(11):
        occluded = masks().occluded(i, i + 1)
        alone = torch.where(occluded, fill, x)[None]
        with torch.no_grad():
            assert scores[i] == pytest.approx(float(model.scores(alone)[0, 1]), rel=1e-5)
    assert np.ptp(scores) > 1e-4


def test_soft_masks_mix_the_clip_and_the_fill() -> None:
    model, clip = small_model(batch_size=2), moving_clip()
    x = clip.tensor(SPEC)
    share = torch.rand(5, *clip.size, generator=torch.Generator().manual_seed(0))

    class Soft:
        def __len__(self) -> int:
            return len(share)

        def occluded(self, start: int, stop: int, device: object) -> torch.Tensor:
            return share[start:stop]

    fill = torch.full_like(x, 0.3)
    scores = masked_scores(model, x, Soft(), fill, 1)
    per_mask = masked_scores(model, x, Soft(), lambda occluded, _: occluded[:, None] * 0 + 0.3, 1)
    for i in range(5):
        with torch.no_grad():
            alone = model.scores((x + share[i] * (fill - x))[None])[0, 1]
        assert scores[i] == pytest.approx(float(alone), rel=1e-5)
        assert per_mask[i] == pytest.approx(float(alone), rel=1e-5)


def test_a_fill_per_mask_is_told_which_masks_it_is_for() -> None:
    clip = moving_clip()
    x = clip.tensor(SPEC)
    value = torch.linspace(-1, 1, 11)

    def fill(occluded: torch.Tensor, start: int) -> torch.Tensor:
        return value[start : start + len(occluded), None, None, None, None].expand(-1, *x.shape)

    scores = masked_scores(small_model(batch_size=4), x, masks(), fill, 1)
    for i in range(11):
        alone = masked_scores(small_model(), x, masks(), torch.full_like(x, float(value[i])), 1)[i]
        assert scores[i] == pytest.approx(alone, rel=1e-5)


def test_rank_masks_occlude_the_first_or_keep_them() -> None:
    rank = torch.arange(24).view(2, 3, 4)
    first = RankMasks(rank, [0, 5, 24]).occluded(0, 3, "cpu")
    assert first.flatten(1).sum(dim=1).tolist() == [0, 5, 24]
    assert first[1].flatten()[:5].all()
    kept = RankMasks(rank, [0, 5, 24], keep=True).occluded(0, 3, "cpu")
    assert (kept == ~first).all()


def test_both_weightings_by_hand() -> None:
    unions, scores, base = masks(), np.linspace(0.2, 0.9, 11), 0.8
    kept = 1 - unions.occluded(0, 11).double().numpy()
    paper = np.einsum("m,mthw->thw", scores, kept) / 11
    np.testing.assert_allclose(weighted_map(unions, scores, base, "paper").numpy(), paper, atol=1e-6)
    weights = (scores - base) / kept.mean(axis=(1, 2, 3))
    authors = np.einsum("m,mthw->thw", weights, kept) / 11
    np.testing.assert_allclose(weighted_map(unions, scores, base, "authors").numpy(), authors, atol=1e-6)
