"""The rooms of the package: none imports from one above it, and none holds too much."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aosa

ROOT = Path(aosa.__file__).parent
# From the ground up; docs/architecture.md says what each is for.
ROOMS = (
    "downloads",
    "video",
    "data",
    "models",
    "removal",
    "explainers",
    "metrics",
    "report",
    "store",
    "tracking",
    "engine",
    "bench",
    "training",
    "experiment",
    "stages",
)


def imports(path: Path) -> Iterator[str]:
    """The rooms that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in filter(None, names):
            package, _, rest = name.partition(".")
            if package == "aosa" and rest.partition(".")[0] in ROOMS:
                yield rest.partition(".")[0]


def test_no_room_imports_from_one_above_it():
    up = [
        f"{path.relative_to(ROOT)} imports aosa.{other}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for other in imports(path)
        if ROOMS.index(other) > ROOMS.index(room)
    ]
    assert up == []


def test_every_room_is_listed():
    assert {p.parent.name for p in ROOT.glob("*/__init__.py")} == set(ROOMS)


def test_no_room_holds_more_than_a_fifth_of_the_lines():
    lines = Counter({r: sum(p.read_text(encoding="utf-8").count("\n") for p in (ROOT / r).glob("*.py")) for r in ROOMS})
    whole = sum(p.read_text(encoding="utf-8").count("\n") for p in ROOT.rglob("*.py"))
    (largest, most), *_ = lines.most_common(1)
    assert most < whole / 5, largest
