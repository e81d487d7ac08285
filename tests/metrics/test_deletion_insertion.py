import numpy as np
import pytest
import torch

from aosa.metrics import DeletionInsertion
from aosa.metrics.deletion_insertion import ranks
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
            deleted = model.probabilities(torch.where(top, 0, x)[None])[0, 1]
            inserted = model.probabilities(torch.where(top, x, blurred)[None])[0, 1]
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
        f, empty = (float(model.probabilities(v)[0, 1]) for v in (x, torch.zeros_like(x)))
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
