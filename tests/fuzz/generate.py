"""Values by Hypothesis, as a stream: they are judged in other processes, and so cannot steer what comes next."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
_BATCH = 100


def examples(strategy: SearchStrategy[T], rng: random.Random) -> Iterator[T]:
    """Endless values of a strategy; the same state of `rng` gives the same."""
    while True:
        yield from _batch(strategy, rng.randrange(1 << 32))


def _batch(strategy: SearchStrategy[T], number: int) -> list[T]:
    made: list[T] = []

    @seed(number)
    @settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: T) -> None:
        made.append(value)

    collect()
    return made
