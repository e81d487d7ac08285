"""No map, record or logit changes its value unseen: what `python -m tests.values` wrote is what is made now."""

from __future__ import annotations

import pytest

from tests import values

RECORDED = values.read()
HERE = values.machine()


def test_all_that_there_is_is_recorded() -> None:
    assert list(RECORDED) == ["machine", *values.keys()]
    made = {key.split("/")[2].split(" ")[0] for key in RECORDED if key.startswith("map/")}
    assert made == set(values.names("explainer"))
    assert {key.split("/")[1].split(" ")[0] for key in RECORDED if key.startswith("record/")} == set(
        values.names("metric")
    )


@pytest.mark.parametrize("key", values.keys())
def test_value(key: str) -> None:
    found = values.differences(RECORDED[key], values.measure(key), exact=RECORDED["machine"] == HERE)
    assert not found, (
        f"{key}: {'; '.join(found[:5])}; if this is meant, raise the version, and run python -m tests.values"
    )
