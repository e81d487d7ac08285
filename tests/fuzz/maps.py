"""Maps as `explain` stores them: each has a checksum, so a map that is read is the one that was stored."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from aosa.saliency import SaliencyMap
from aosa.store.maps import load_map, save_map
from tests.fuzz.mutate import mutate

_TARGET = 3
_META: dict[str, object] = {
    "clip": "Surfing/v_Surfing_g01_c01",
    "target": _TARGET,
    "fingerprint": "0123abcd",
    "label": None,
}


def inputs(rng: random.Random) -> Iterator[bytes]:
    others = [seed for _, seed in seeds()]
    while True:
        number = rng.randrange(len(others))
        # The first byte says which map it was.
        yield bytes([number]) + mutate(rng, others[number], others)


def check(content: bytes, folder: Path) -> None:
    path = folder / "map.b2nd"
    path.write_bytes(content[1:])
    saliency, meta = load_map(path)
    number = content[0] % len(seeds())
    # A block taken from the other map may turn one into the other.
    expected = [values for values, seed in seeds() if seed == content[1:]] or [seeds()[number][0]]
    assert torch.equal(saliency.values, expected[0]), "another map than was stored"
    assert {k: meta.get(k) for k in _META} == _META, f"other meta data than was stored: {meta}"


@cache
def seeds() -> list[tuple[torch.Tensor, bytes]]:
    """Maps and their files: one that packs well, one that doesn't, one of a single frame."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(4), np.add.outer(np.arange(24), np.arange(32)))
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for values in (smooth, rng.standard_normal((4, 24, 32)), rng.standard_normal((1, 8, 8))):
            saliency = SaliencyMap(values.astype(np.float64), _TARGET)
            save_map(Path(folder) / "map.b2nd", saliency, _META)
            made.append((saliency.values, (Path(folder) / "map.b2nd").read_bytes()))
    return made
