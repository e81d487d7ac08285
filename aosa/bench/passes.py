"""Counts the passes through a network, and repeats them bare: the floor below which no explainer can go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aosa.bench.timing import noise
from aosa.models.base import VideoModel


class Pass(NamedTuple):
    """One call of the network: how many clips, and how far gradients went back: to the ``clip``, to a ``layer``, or
    not at all."""

    clips: int
    back: str | None


@contextlib.contextmanager
def counted(model: VideoModel) -> Iterator[list[Pass]]:
    """Lists the passes that the network makes inside."""
    passes: list[Pass] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        index, clips = len(passes), len(output)
        passes.append(Pass(clips, None))
        if output.requires_grad:
            back = "clip" if args[0].requires_grad else "layer"

            def noted(gradient: Tensor) -> None:
                passes[index] = Pass(clips, back)

            output.register_hook(noted)

    handle = model.network.register_forward_hook(note)
    try:
        yield passes
    finally:
        handle.remove()


def replay(model: VideoModel, passes: Sequence[Pass]) -> None:
    """Make the same passes with nothing around them. Those whose gradients stop at a layer count as forward passes."""
    if not passes:
        return
    x = noise(model, max(p.clips for p in passes))
    with model.frozen():
        for clips, back in passes:
            leaf = x[:clips].requires_grad_(back == "clip")
            with torch.set_grad_enabled(back == "clip"):
                logits = model.logits(leaf)
                if back == "clip":
                    torch.autograd.grad(logits[:, 0].sum(), leaf)


class Total(NamedTuple):
    """Clips that went forward, back to the clip, and back to a layer."""

    forward: float
    backward: float
    layer: float


def total(passes: Sequence[Pass]) -> Total:
    """How many clips the passes took."""
    return Total(*(sum(p.clips for p in passes if match(p)) for match in _KINDS))


_KINDS = (lambda p: True, lambda p: p.back == "clip", lambda p: p.back == "layer")
