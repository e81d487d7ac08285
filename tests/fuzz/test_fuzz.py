"""A short form of `make fuzz`, and that the harness sees what it is there to see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz import harness
from tests.fuzz.harness import GROUPS, Pool, inputs, judge

_COUNTS = dict.fromkeys(GROUPS, 20) | {"config": 4, "records": 4}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as made:
        yield made


@pytest.mark.parametrize("name", GROUPS)
def test_no_input_ends_badly(name: str, pool: Pool) -> None:
    figures = pool.run(name, inputs(name, _COUNTS[name], seed=1))
    assert figures.inputs == _COUNTS[name]
    assert figures.right + figures.refused + len(figures.findings) == figures.inputs
    assert not figures.findings, "\n\n".join(finding.what for finding in figures.findings)


@pytest.mark.parametrize("name", GROUPS)
def test_one_seed_gives_one_series(name: str) -> None:
    assert list(inputs(name, 5, seed=3)) == list(inputs(name, 5, seed=3))
    assert len(set(inputs(name, 5, seed=3))) > 1


def test_a_child_that_dies_is_a_finding_and_is_replaced(pool: Pool) -> None:
    figures = pool.run("harmful", [b"segfault", b"right", b"refuse", b"error", b"wrong", b"exit"])
    found = {f.content: f.what.split("\n")[0] for f in figures.findings}
    assert found == {b"segfault": "crash", b"error": "raw error", b"wrong": "wrong in silence", b"exit": "raw error"}
    assert "SIGSEGV" in next(f.what for f in figures.findings if f.content == b"segfault")
    assert (figures.inputs, figures.right, figures.refused) == (6, 1, 1)


def test_a_hang_is_a_finding(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "HANG", 1.0)
    figures = pool.run("harmful", [b"hang", b"right"])
    assert [f.what.split("\n")[0] for f in figures.findings] == ["hang"]
    assert figures.right == 1


def test_too_much_memory_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "MEMORY", 1)
    assert judge("harmful", b"right").verdict == "memory"
