"""No map, record or logit changes its value unseen: what `python -m tests.values` wrote is what is made now."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import values

RECORDED = values.read()
HERE = values.machine()


def test_all_that_there_is_is_recorded() -> None:
    assert list(RECORDED) == ["machine", *values.keys()]
    made = {key.split("/")[2].split(" ")[0] for key in RECORDED if key.startswith("map/")}
    assert made == set(values.names("explainer"))
    scored = {key.split("/")[1].split(" ")[0] for key in RECORDED if key.startswith("record/")}
    assert scored == {*values.names("metric"), "accuracy"}


@pytest.mark.parametrize("key", values.keys())
def test_value(key: str) -> None:
    found = values.differences(key, RECORDED[key], values.measure(key), exact=RECORDED["machine"] == HERE)
    advice = "if this is meant, raise the version, and run python -m tests.values"
    assert not found, f"{key}: {'; '.join(found[:5])}; {advice}"


NOISE = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("change", "tolerated"),
    [
        (lambda m: m, True),
        (lambda m: m * (1 + 1e-6), True),
        (lambda m: -m, False),
        (lambda m: m + 0.05, False),
        (lambda m: m * 1.01, False),
        (lambda m: m.flip(0), False),
        (lambda m: m.relu(), False),
        (lambda m: m.roll(1, 2), False),
    ],
)
def test_a_changed_map_is_told(change: Callable[[Tensor], Tensor], tolerated: bool) -> None:
    wanted, found = values.digest(NOISE), values.digest(change(NOISE))
    assert (values.differences("map/net/random/0", wanted, found, exact=True) == []) == torch.equal(
        NOISE, change(NOISE)
    )
    assert (values.differences("map/net/random/0", wanted, found, exact=False) == []) == tolerated


@pytest.mark.parametrize(
    ("change", "tolerated"),
    [
        ({}, True),
        ({"score": 0.5 + 1e-5}, True),
        ({"score": 0.51}, False),
        ({"hit": 0}, False),
        ({"curve": [0.9, 0.1]}, False),
        ({"curve": [0.9, 0.5, 0.2]}, False),
        ({"more": 1}, False),
    ],
)
def test_a_changed_record_is_told(change: dict[str, object], tolerated: bool) -> None:
    wanted = {"score": 0.5, "hit": 1, "curve": [0.9, 0.5, 0.1]}
    found = {**wanted, **change}
    assert (values.differences("record/metric/0", wanted, found, exact=True) == []) == (wanted == found)
    assert (values.differences("record/metric/0", wanted, found, exact=False) == []) == tolerated
