"""Options as dataclass fields: checked by type, range and choices, and all of them in the identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from aosa.errors import ConfigError
from aosa.fields import Options, fixed, option


@dataclass
class Base(Options):
    owner: ClassVar[str] = "thing"
    name: ClassVar[str] = "base"

    count: int = option(1, "how many", low=1)
    share: float = option(0.5, "of all", low=0, high=1)
    kind: str = option("a", "which", choices=("a", "b"))
    flag: bool = option(False, "whether")
    size: tuple[int, int] | None = option(None, "of it", low=1, expect="[height, width]")
    parts: Sequence[float] = option((0.1,), "of it", low=0)


@dataclass
class Derived(Base):
    kind: str = fixed("b")
    more: int | None = option(None, "further", low=0)


WRONG = [
    ("count", 0, "thing.count=0: give a whole number of at least 1"),
    ("count", 1.0, "thing.count=1.0: give a whole number"),
    ("count", True, "thing.count=true: give a whole number"),
    ("count", "1", "thing.count=1: give a whole number"),
    ("count", None, "thing.count=null: give a whole number"),
    ("share", math.nan, "thing.share=nan: give a number from 0 to 1"),
    ("share", math.inf, "thing.share=inf: give a number from 0 to 1"),
    ("share", 1.1, "thing.share=1.1: give a number from 0 to 1"),
    ("kind", "c", "thing.kind=c: choose one of a, b"),
    ("kind", ["a"], "thing.kind="),
    ("flag", 1, "thing.flag=1: give true or false"),
    ("size", 3, r"thing.size=3: give \[height, width\]"),
    ("size", [3], r"give \[height, width\]"),
    ("size", [3, 0], r"give \[height, width\]"),
    ("size", [3, True], r"give \[height, width\]"),
    ("parts", [], "thing.parts="),
    ("parts", [0.1, "x"], "thing.parts="),
    ("parts", [-0.1], "thing.parts="),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_wrong_values_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Base(**{key: value})


def test_right_values_pass() -> None:
    made = Base(count=3, share=1, kind="b", flag=True, size=[2, 3], parts=[0, 0.5])
    assert made.identity() == {
        "name": "base", "version": 1, "count": 3, "share": 1, "kind": "b", "flag": True, "size": [2, 3],
        "parts": [0, 0.5],
    }  # fmt: skip


def test_a_subclass_inherits_options_and_fixes_some() -> None:
    made = Derived(count=2, more=4)
    assert made.kind == "b"
    assert made.identity() == {
        "name": "Derived", "version": 1, "count": 2, "share": 0.5, "flag": False, "size": None, "parts": [0.1],
        "more": 4,
    }  # fmt: skip
    with pytest.raises(TypeError, match="kind"):
        Derived(kind="a")


def test_a_subclass_never_has_its_parents_identity() -> None:
    class Silent(Base):
        pass

    assert Silent().identity()["name"] != Base().identity()["name"]


def test_arguments_that_are_no_fields_are_refused() -> None:
    class Old(Base):
        def __init__(self, extra: int = 1) -> None:
            super().__init__()
            self.extra = extra

    with pytest.raises(TypeError, match="must be a dataclass, and its options its fields"):
        Old().identity()
