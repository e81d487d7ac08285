"""Accuracy over views, on networks and clips whose predictions can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aosa import Clip, VideoModel
from aosa.data.video_folder import VideoFolder
from aosa.engine.accuracy import Accuracy
from aosa.errors import ConfigError
from tests.helpers import SPEC, linear_model, moving_clip


class Table(nn.Module):
    """The logits of a clip are row `k` of a table, k being the value of its pixels."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = SPEC.mean[0], SPEC.std[0]
        return self.rows[((x[:, 0, 0, 0, 0] * std + mean) * 255).round().long()]


def table_model(*rows: list[float], batch_size: int = 2) -> VideoModel:
    return VideoModel(Table(list(rows)), SPEC, name="table", device="cpu", batch_size=batch_size)


def clips(count: int) -> list[Clip]:
    frames = [np.full((SPEC.frames, *SPEC.size, 3), k, np.uint8) for k in range(count)]
    return [Clip(id=f"v{k}", frames=torch.from_numpy(f)) for k, f in enumerate(frames)]


def test_one_view_is_the_models_own_prediction():
    model, clip = linear_model(), moving_clip()
    probabilities = model.scores(clip.tensor(SPEC)[None])[0].detach()
    record = Accuracy()(model, [clip], 1)
    assert record["predicted"] == int(probabilities.argmax())
    assert record["top1"] == int(record["predicted"] == 1)
    assert record["probability"] == pytest.approx(float(probabilities[1]), rel=1e-6)
    assert record["views"] == 1


@pytest.mark.parametrize(("average", "predicted"), [("probability", 0), ("score", 1)])
def test_probabilities_or_scores_are_averaged(average, predicted):
    """Two views are sure of class 0, one is much surer of class 1: votes against scores."""
    model = table_model([4.0, 0.0], [4.0, 0.0], [-20.0, 0.0])
    record = Accuracy(clips=3, average=average)(model, clips(3), 1)
    assert (record["predicted"], record["top1"], record["top5"], record["views"]) == (predicted, predicted, 1, 3)
    sigmoid = [1 / (1 + np.exp(4.0)), 1 / (1 + np.exp(4.0)), 1 / (1 + np.exp(-20.0))]
    expected = np.mean(sigmoid) if average == "probability" else 1 / (1 + np.exp((4 + 4 - 20) / 3))
    assert record["probability"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("label", "top1", "top5"), [(6, 1, 1), (2, 0, 1), (1, 0, 0), (0, 0, 0)])
def test_five_largest(label, top1, top5):
    record = Accuracy()(table_model([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), clips(1), label)
    assert (record["top1"], record["top5"]) == (top1, top5)


def test_ties_go_to_the_lower_index():
    model = table_model([1.0] * 7)
    assert [Accuracy()(model, clips(1), label)["top5"] for label in (0, 4, 5)] == [1, 1, 0]
    assert Accuracy()(model, clips(1), 0)["top1"] == 1


def test_views_are_taken_batch_by_batch():
    taken, waiting = [], []

    class Watched(Table):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            waiting.append((len(x), len(taken)))
            return super().forward(x)

    model = VideoModel(Watched([[0.0, 2.0]] * 5), SPEC, device="cpu", batch_size=2)
    Accuracy(clips=5)(model, (taken.append(c.id) or c for c in clips(5)), 0)
    assert waiting == [(2, 2), (2, 4), (1, 5)]


def test_views_of_a_video_on_a_linear_network(tmp_path, write_video):
    """Three clips (frames 0, 2, 5 of the 5 possible starts) × three crops (columns 0, 6, 12), cut out by hand."""
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 44, 3), np.uint8)
    write_video(tmp_path / "a" / "1.avi", frames)
    model, dataset = linear_model(), VideoFolder(tmp_path)
    mean, std = np.array(SPEC.mean), np.array(SPEC.std)
    weight = model.network.weight.detach().double().numpy()
    expected = np.zeros(3)
    for start in (0, 2, 5):
        for left in (0, 6, 12):
            part = (frames[start : start + 4, 4:28, left : left + 32] / 255 - mean) / std
            logits = weight @ part.transpose(3, 0, 1, 2).ravel()
            expected += np.exp(logits) / np.exp(logits).sum() / 9
    metric = Accuracy(clips=3, crops=3)
    records = [metric(model, dataset.load_views(dataset.entries[0], SPEC, metric), k) for k in range(3)]
    assert [r["probability"] for r in records] == pytest.approx(expected.tolist(), rel=1e-4)
    assert {r["predicted"] for r in records} == {int(expected.argmax())}
    assert records[0]["views"] == 9


def test_average_out_of_range():
    with pytest.raises(ConfigError, match=r"accuracy\.average=logit: choose one of probability, score"):
        Accuracy(average="logit")
