import numpy as np
import pytest
import torch

from aosa.config import build, compose
from aosa.errors import AosaError
from aosa.metrics import DeletionInsertion
from aosa.metrics.deletion_insertion import ranks, top_importance
from aosa.removal.fills import gaussian_blur
from tests.helpers import SPEC, linear_model, moving_clip, small_model


def test_curves_by_hand() -> None:
    model, clip = small_model(), moving_clip()
    saliency = torch.rand(clip.size, generator=torch.Generator().manual_seed(0))
    record = DeletionInsertion(steps=5)(model, clip, saliency, 1)
    x = clip.tensor(SPEC)
    order = saliency.flatten().argsort(descending=True, stable=True)
    blurred = gaussian_blur(x)
    total = order.numel()
    for i, count in enumerate(np.rint(np.linspace(0, total, 6)).astype(int)):
        top = torch.zeros(total, dtype=torch.bool)
        top[order[:count]] = True
        top = top.view(clip.size)
        with torch.no_grad():
            deleted = model.scores(torch.where(top, 0, x)[None])[0, 1]
            inserted = model.scores(torch.where(top, x, blurred)[None])[0, 1]
        assert record["deletion_curve"][i] == pytest.approx(float(deleted), rel=1e-5)
        assert record["insertion_curve"][i] == pytest.approx(float(inserted), rel=1e-5)
    for name in ("deletion", "insertion"):
        c = record[f"{name}_curve"]
        widths = np.diff(np.rint(np.linspace(0, total, 6)) / total)
        area = sum(w * (a + b) / 2 for w, a, b in zip(widths, c[:-1], c[1:], strict=True))
        assert record[name] == pytest.approx(area, abs=1e-9)
    assert record["overall"] == pytest.approx(record["insertion"] - record["deletion"])


def test_both_ends_are_the_clip_and_its_substrates() -> None:
    model, clip = small_model(), moving_clip()
    record = DeletionInsertion()(model, clip, torch.rand(clip.size), 1)
    x = clip.tensor(SPEC)[None]
    with torch.no_grad():
        f, empty = (float(model.scores(v)[0, 1]) for v in (x, torch.zeros_like(x)))
    assert len(record["deletion_curve"]) == 29
    assert record["deletion_curve"][0] == pytest.approx(f, rel=1e-5)
    assert record["insertion_curve"][-1] == pytest.approx(f, rel=1e-5)
    assert record["deletion_curve"][-1] == pytest.approx(empty, rel=1e-5)


def test_the_true_contributions_beat_any_other_order() -> None:
    model, clip = linear_model(), moving_clip()
    x = clip.tensor(SPEC)
    weight = (model.network.weight[1] - model.network.weight[[0, 2]].mean(dim=0)).detach().view_as(x)
    best = (weight * x).sum(dim=0)
    scores = [
        DeletionInsertion(insertion="constant")(model, clip, s, 1)["overall"]
        for s in (best, torch.rand(clip.size), -best)
    ]
    assert scores[0] > scores[1] > scores[2]


def test_ties_go_by_index_and_frames_rank_alone() -> None:
    saliency = torch.tensor([[[1.0, 1.0], [2.0, 0.0]], [[5.0, 5.0], [0.0, 9.0]]])
    rank, n = ranks(saliency)
    assert n == 8
    assert rank.tolist() == [[[4, 5], [3, 6]], [[1, 2], [7, 0]]]
    rank, n = ranks(saliency, "frame")
    assert n == 4
    assert rank.tolist() == [[[1, 2], [0, 3]], [[1, 2], [3, 0]]]


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0.0, [4, 0, 0, 0, 0]),
        (0.3, [4, 0, 0, 0, 0]),
        (0.4, [4, 0, 0, 0, 0]),
        (0.41, [4, 0, 3, 3, 0]),  # equal values stay together
        (0.99, [4, 0, 3, 3, 0]),
        (1.0, [4, 0, 3, 3, 0]),
    ],
)
def test_the_top_share_of_the_positive_importance(share, kept) -> None:
    assert top_importance(torch.tensor([4.0, -9.0, 3.0, 3.0, 0.0]), share).tolist() == kept
    with pytest.raises(AosaError, match="the map has no positive value"):
        top_importance(torch.tensor([-1.0, 0.0]), share)


def test_only_the_top_is_ranked_when_asked() -> None:
    """Beyond the top the order is that of the index."""
    model, clip = small_model(), moving_clip()
    saliency = torch.rand(clip.size, generator=torch.Generator().manual_seed(0))
    top = torch.where(saliency > 0.7, saliency, 0)
    share = float(top.double().sum() / saliency.double().sum())
    record = DeletionInsertion(top=share)(model, clip, saliency, 1)
    assert record == DeletionInsertion()(model, clip, top, 1)
    assert record["deletion"] != DeletionInsertion()(model, clip, saliency, 1)["deletion"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("black", {"deletion": "black", "insertion": "black"}),
        ("frame", {"ranking": "frame"}),
    ],
)
def test_variants_by_name(name, options) -> None:
    metric = build(compose("evaluate", [f"metric=deletion_insertion_{name}"]).metric)
    assert metric.identity() == DeletionInsertion(**options).identity()


def test_deletion_of_a_linear_network_in_closed_form() -> None:
    """Softmax of logits that each lose the sum of what is deleted."""
    model, clip = linear_model(), moving_clip()
    x = clip.tensor(SPEC)
    saliency = torch.rand(clip.size, generator=torch.Generator().manual_seed(1))
    parts = (model.network.weight.detach().view(3, *x.shape) * x).sum(dim=1).flatten(1).double()
    order = saliency.flatten().argsort(descending=True)
    lost = torch.cat([torch.zeros(3, 1), parts[:, order].cumsum(dim=1)], dim=1)
    counts = np.rint(np.linspace(0, len(order), 9)).astype(int)
    expected = (parts.sum(dim=1, keepdim=True) - lost)[:, counts].softmax(dim=0)[2]
    assert DeletionInsertion(steps=8)(model, clip, saliency, 2)["deletion_curve"] == pytest.approx(
        expected.tolist(), rel=1e-4
    )
