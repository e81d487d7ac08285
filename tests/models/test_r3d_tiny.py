"""The shipped network knows its exam, and knows it by the motion of the relevant sprite."""

from __future__ import annotations

import math

import pytest
import torch

from aosa.data.moving_shapes import CLASS_NAMES, MovingShapes
from aosa.models import VideoModel, load_model
from aosa.models.r3d_tiny import R3DTiny
from aosa.stages.train import accuracy

CHANCE = 1 / len(CLASS_NAMES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # quicker than two on cores that are shared


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return load_model("r3d_tiny", device="cpu")


def test_its_classes_are_those_of_the_data_set(model: VideoModel) -> None:
    assert model.class_names == list(CLASS_NAMES)


def test_it_passes_the_exam(model: VideoModel) -> None:
    assert accuracy(model, MovingShapes(split="test", size=300)).share >= 0.95


def test_it_needs_no_distractors(model: VideoModel) -> None:
    assert accuracy(model, MovingShapes(split="test", size=180, distractors=0)).share >= 0.95


def test_without_the_relevant_sprite_it_is_at_chance(model: VideoModel) -> None:
    result = accuracy(model, MovingShapes(split="test", size=180, relevant=False))
    assert abs(result.share - CHANCE) < 2.576 * math.sqrt(CHANCE * (1 - CHANCE) / result.total)


def test_played_backwards_a_circle_turns_the_other_way(model: VideoModel) -> None:
    data = MovingShapes(split="test", size=60)
    other = {"clockwise": "anticlockwise", "anticlockwise": "clockwise"}
    right = []
    for entry in (e for e in data.entries if e.class_name in other):
        x = data.load(entry, model.spec).tensor(model.spec).flip(1)
        with torch.no_grad():
            top = int(model.logits(x[None]).argmax())
        right.append(top == model.class_index(other[str(entry.class_name)]))
    assert sum(right) >= 0.9 * len(right)


def test_the_last_stage_keeps_some_resolution_for_grad_cam() -> None:
    network = R3DTiny(num_classes=9)
    seen: list[tuple[int, ...]] = []
    network.layer3.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape[2:])))
    assert network(torch.zeros(2, 3, 16, 64, 64)).shape == (2, 9)
    assert seen == [(8, 8, 8)]
