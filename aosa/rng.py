"""Random draws that depend on a key alone, never on what was drawn before."""

from __future__ import annotations

import hashlib

import torch


def key_seed(*key: object) -> int:
    """A 63-bit seed from a key such as ``(seed, clip id, sample index)``."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by the key; the global RNG state is neither read nor moved."""
    return torch.Generator().manual_seed(key_seed(*key))
