"""Modules with one mistake, for tests that must notice it."""

from __future__ import annotations

import inspect
from types import ModuleType


def mutant(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """A copy of a module in whose source `right`, which must occur, reads `wrong`."""
    source = inspect.getsource(module)
    assert right in source, f"{module.__name__} has no longer: {right}"
    copy = ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), f"<mutant of {module.__name__}>", "exec"), copy.__dict__)
    return copy
