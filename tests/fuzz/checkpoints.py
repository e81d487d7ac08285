"""Checkpoints in each format that is read, damaged."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from aosa.models.checkpoints import load_weights
from tests.fuzz.mutate import mutate


class Network(nn.Module):
    """Small, with whole numbers (of batch norm) among its tensors."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 1)
        self.bn = nn.BatchNorm3d(4)
        self.fc = nn.Linear(4, 3)


def inputs(rng: random.Random) -> Iterator[bytes]:
    while True:
        yield mutate(rng, rng.choice(seeds()), seeds())


def check(content: bytes, folder: Path) -> None:
    path = folder / "weights.pth"
    path.write_bytes(content)
    network = Network()
    load_weights(network, path)
    state = network.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values()), "weights that are not finite"
    assert (state["bn.running_var"] >= 0).all(), "a negative variance"
    if zipfile.is_zipfile(path):
        # The only format with checksums: what it gives is what was written.
        assert all(torch.equal(value, weights()[key]) for key, value in state.items()), "other weights than written"


@cache
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Network().state_dict()


@cache
def seeds() -> list[bytes]:
    content = weights()
    made = [safetensors.torch.save(content)]
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        for wrapped in (
            content,
            {"state_dict": {f"module.{k}": v for k, v in content.items()}, "epoch": 3, "arch": "n"},
        ):
            file = io.BytesIO()
            torch.save(wrapped, file, **options)
            made.append(file.getvalue())
    return made
