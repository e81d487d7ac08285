"""Times of an explanation and of its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import torch

from aosa.engine.clock import TIMES, explain_timed
from aosa.explainers import Explainer, Random
from tests.helpers import moving_clip, small_model


@dataclass
class Slow(Explainer):
    """Prepares for 60 ms, asks the network twice, and sums up for 30 ms."""

    def prepare(self, clip, spec):
        time.sleep(0.06)
        return "prepared"

    def explain(self, model, clip, target, prepared):
        assert prepared == "prepared"
        for _ in range(2):
            model.logits(clip.tensor(model.spec)[None])
        time.sleep(0.03)
        return torch.rand(clip.size)


def test_each_part_is_given_its_time():
    model = small_model()
    handle = model.network.register_forward_pre_hook(lambda module, args: None)
    model.network.fc.register_forward_pre_hook(lambda module, args: time.sleep(0.02))
    saliency, spent = explain_timed(Slow(), model, moving_clip(), 1)
    assert saliency.target == 1
    assert tuple(spent) == TIMES
    assert 0.06 <= spent["seconds_segmentation"] < spent["seconds"]
    assert spent["seconds_inference"] >= 0.04
    assert spent["seconds_explanation"] >= 0.03
    assert spent["seconds"] == pytest.approx(sum(spent[key] for key in TIMES[1:]))
    assert list(model.network._forward_pre_hooks) == [handle.id]
    assert not model.network._forward_hooks


def test_without_passes_none_is_timed():
    _, spent = explain_timed(Random(), small_model(class_names=["a", "b", "c"]), moving_clip(), 1)
    assert spent["seconds_inference"] == 0


def test_no_hook_is_left_when_it_fails():
    class Broken(Slow):
        def explain(self, model, clip, target, prepared):
            raise RuntimeError

    model = small_model()
    with pytest.raises(RuntimeError):
        explain_timed(Broken(), model, moving_clip(), 1)
    assert not model.network._forward_hooks
    assert not model.network._forward_pre_hooks
