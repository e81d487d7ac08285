"""Every explainer and every metric with every head: it works, or says why not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa import Clip, VideoModel
from aosa.engine.accuracy import Accuracy
from aosa.errors import ConfigError
from aosa.explainers import EBR, EP3D, RISE3D, AttentionRollout, Explainer, Random
from aosa.metrics import (
    DeletionInsertion,
    Metric,
    MinimalMask,
    PreservationRatio,
    Sanity,
    SpatialPointing,
    TemporalPointing,
    TruthScore,
)
from tests.explainers.test_contract import EXPLAINERS, Subject
from tests.helpers import SPEC, Small3D, moving_clip

# Each head with a network of as many outputs: one class of several, several at once, one there or not, several
# numbers, a single one, and a network that ends in a softmax or a sigmoid itself.
HEADS = {
    "softmax": ("softmax", 3),
    "multi-label": ("sigmoid", 3),
    "binary": ("sigmoid", 1),
    "regression": ("identity", 3),
    "one number": ("identity", 1),
    "probabilities": ("probabilities", 3),
    "one probability": ("probabilities", 1),
}


class Ended(nn.Module):
    """`Small3D`; with the head ``probabilities`` it ends in a softmax or sigmoid, with ``identity`` it is negative."""

    def __init__(self, head: str, classes: int) -> None:
        super().__init__()
        self.body, self.head, self.num_classes = Small3D(classes), head, classes

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.head == "probabilities":
            return y.sigmoid() if self.num_classes == 1 else y.softmax(dim=1)
        return y - 20 if self.head == "identity" else y


def model_of(name: str) -> VideoModel:
    head, classes = HEADS[name]
    network = Ended(head, classes)
    return VideoModel(network, SPEC, name="mine", device="cpu", target_layer="body.layer4", head=head)


def clip() -> Clip:
    whole = moving_clip()
    whole.truth = torch.zeros(whole.size, dtype=torch.bool)
    whole.truth[:, 4:12, 10:18] = True
    whole.boxes = [np.array([[10, 4, 18, 12]], dtype=np.float32)] * len(whole.truth)
    whole.segment = (0, 2)
    whole.label = 0
    return whole


DATA: Any = SimpleNamespace(name="data", annotated=None)  # a data set that says nothing of its annotations

METRICS: list[Metric] = [
    DeletionInsertion(steps=4),
    MinimalMask(steps=4),
    SpatialPointing(),
    TemporalPointing(),
    TruthScore(),
]


@pytest.mark.parametrize("head", [name for name in HEADS if not name.startswith("one")])
@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_and_metric_with_every_head(name: str, head: str) -> None:
    explainer, model = EXPLAINERS[name](), model_of(head)
    if isinstance(explainer, AttentionRollout | EBR):
        with pytest.raises(ConfigError, match="is defined for model="):
            explainer.check(model)
        return
    if isinstance(explainer, EP3D) and model.head == "identity":
        for ask in (explainer.check, lambda model: explainer(model, clip(), 0)):
            with pytest.raises(ConfigError, match=r"the scores of mine \(model\.head=identity\) are none; take .*aosa"):
                ask(model)
        return
    explainer.check(model)
    saliency = explainer(model, clip(), None)
    assert saliency.target == 0
    assert torch.isfinite(saliency.values).all()
    assert saliency.values.std() > 0
    for metric in METRICS:
        if isinstance(metric, MinimalMask) and model.head == "identity":
            with pytest.raises(ConfigError, match="metric=deletion_insertion takes scores as they are"):
                metric(model, clip(), saliency)
            continue
        metric.check(model, DATA)
        record = metric(model, clip(), saliency)
        assert all(record[column] is None or np.isfinite(record[column]) for column in metric.columns)


@pytest.mark.parametrize("head", HEADS)
def test_metrics_that_explain_anew_with_every_head(head: str) -> None:
    model, saliency = model_of(head), Random()(model_of(head), clip(), 0)
    record = Sanity(EXPLAINERS["grad_cam"](), stages=["body.fc"])(model, clip(), saliency, 0)
    assert record["stages"] == ["body.fc"]
    ratio = PreservationRatio(EP3D(iterations=1, sigma=5), areas=[0.5])
    if model.head == "identity":
        with pytest.raises(ConfigError, match=r"\(model\.head=identity\) are none"):
            ratio.check(model, DATA)
    else:
        assert ratio(model, clip(), saliency, 0)["min_preservation_ratio"] in (0.5, 1.0)


@pytest.mark.parametrize("head", HEADS)
def test_accuracy_with_every_head(head: str) -> None:
    model = model_of(head)
    if HEADS[head][1] == 1 or model.head == "identity":
        message = "gives numbers" if model.head == "identity" else "mine has a single output"
        with pytest.raises(ConfigError, match=message):
            Accuracy()(model, [clip()], 0)
        return
    with torch.no_grad():
        scores = model.scores(clip().tensor(SPEC)[None])[0]
    for average in ("probability", "score"):
        record = Accuracy(average=average)(model, [clip()], 1)
        assert record["predicted"] == int(scores.argmax())
        assert record["probability"] == pytest.approx(float(scores[1]), rel=1e-4)


def test_eb_r_and_attention_rollout_on_their_own_networks() -> None:
    with pytest.raises(ConfigError, match=r"eb_r starts at a softmax, .*: set model\.head=softmax"):
        EBR().check(Subject(EBR()).model(head="sigmoid"))
    rollout = Subject(AttentionRollout())
    plain, sigmoid = (AttentionRollout()(rollout.model(head=h), rollout.clip(), 0) for h in ("softmax", "sigmoid"))
    assert torch.equal(plain.values, sigmoid.values)


class Shifted(nn.Module):
    """One number, linear in the clip, with a constant."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(1, 3 * 4 * 24 * 32, generator=generator) * 0.01)
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.shift


@pytest.mark.parametrize(
    "explainer",
    [EXPLAINERS[name]() for name in ("aosa", "osa", "lime3d", "kernel_shap3d", "loco", "smooth_grad")]
    + [RISE3D(grid=(2, 3, 4), samples=30)],
    ids=lambda e: type(e).__name__,
)
def test_a_constant_added_to_a_regression_keeps_the_order_of_the_map(explainer: Explainer) -> None:
    models = (VideoModel(Shifted(s), SPEC, device="cpu", head="identity") for s in (-90, 90))
    low, high = (explainer(model, clip(), 0).values for model in models)
    order = np.corrcoef(low.flatten().double(), high.flatten().double())[0, 1]
    assert order > (0.999 if not isinstance(explainer, RISE3D) else 0.9)


def test_the_area_of_a_regression_is_that_under_its_scores() -> None:
    model = VideoModel(Shifted(-5), SPEC, device="cpu", head="identity")
    record: dict[str, Any] = DeletionInsertion(steps=4)(model, clip(), Random()(model, clip(), 0), 0)
    with torch.no_grad():
        whole = float(model.network(clip().tensor(SPEC)[None]))
        assert record["deletion_curve"][0] == pytest.approx(whole, rel=1e-5)
        assert record["deletion_curve"][-1] == pytest.approx(-5, abs=1e-5)
    assert record["deletion"] == pytest.approx(
        np.trapezoid(record["deletion_curve"], [0, 0.25, 0.5, 0.75, 1]), rel=1e-6
    )
