"""Times of an explanation and of its parts."""

from __future__ import annotations

import time

import pytest

from aosa.explainers import AOSA, LOCO, Random
from aosa.pipeline.clock import TIMES, timed
from tests.helpers import moving_clip, small_model


@pytest.fixture
def slow(monkeypatch):
    """A small model each of whose passes takes 20 ms at least, and a list of its passes."""
    model, passes = small_model(), []
    forward = model.network.forward

    def wait(x):
        passes.append(len(x))
        time.sleep(0.02)
        return forward(x)

    monkeypatch.setattr(model.network, "forward", wait)
    return model, passes


@pytest.mark.parametrize(
    ("explainer", "name"),
    [(AOSA(stride=8, box=8), "masks"), (LOCO(segmentation="grid", grid=[1, 2, 2]), "regions")],
    ids=["aosa", "loco"],
)
def test_each_part_is_given_its_time(slow, monkeypatch, explainer, name):
    model, passes = slow
    cut = getattr(explainer, name)

    def wait(*args):
        time.sleep(0.1)
        return cut(*args)

    monkeypatch.setattr(explainer, name, wait)
    with timed(explainer, model) as spent:
        explainer(model, moving_clip(), 1)
    assert tuple(spent) == TIMES
    assert spent["seconds_segmentation"] >= 0.1
    assert spent["seconds_inference"] >= 0.02 * len(passes) > 0
    assert spent["seconds_explanation"] >= 0
    assert spent["seconds"] == pytest.approx(sum(spent[key] for key in TIMES[1:]))
    assert getattr(explainer, name) is wait
    assert not model.network._forward_hooks
    assert not model.network._forward_pre_hooks


def test_without_masks_or_passes_all_is_the_rest():
    with timed(Random(), small_model()) as spent:
        time.sleep(0.01)
    assert spent["seconds"] == spent["seconds_explanation"] >= 0.01


def test_everything_is_as_before_when_it_fails(slow):
    model, _ = slow
    explainer = AOSA(stride=8, box=8)
    masks = explainer.masks

    with pytest.raises(RuntimeError), timed(explainer, model):
        raise RuntimeError
    assert explainer.masks is masks
    assert not model.network._forward_hooks
