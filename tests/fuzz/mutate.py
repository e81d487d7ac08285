"""Damage as it happens to files, and as somebody would do it on purpose."""

from __future__ import annotations

import random
from collections.abc import Sequence

_ODD = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 8,
    b"\x80",
    b"-1",
    b"\n",
    b"9" * 20,
)


def mutate(rng: random.Random, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes: bits, bytes, numbers at their limits, a cut, blocks moved, repeated, left out, or taken from
    another file.
    """
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        at = rng.randrange(len(data))
        length = min(rng.choice((1, 2, 4, 16, 64, 512, 4096)), len(data) - at)
        kind = rng.randrange(9)
        if kind <= 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at] = rng.randrange(256)
        elif kind == 3:
            odd = rng.choice(_ODD)
            data[at : at + len(odd)] = odd
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            del data[at : at + length]
        elif kind == 6:
            there = rng.randrange(len(data))
            data[there:there] = data[at : at + length]
        elif kind == 7:
            there = rng.randrange(len(data))
            data[there : there + length] = data[at : at + length]
        else:
            other = rng.choice(others) if others else bytes(rng.randrange(256) for _ in range(length))
            data[at : at + length] = other[at % max(1, len(other)) :][:length]
    return bytes(data)
