"""What `evaluate` keeps: values of another kind, keys that are gone, damage; as `tabulate` meets them."""

from __future__ import annotations

import atexit
import json
import random
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from omegaconf import DictConfig

from aosa.config import compose
from aosa.errors import AosaError
from aosa.experiment.collect import collect
from aosa.experiment.grid import Experiment, Unit
from tests.fuzz.generate import examples
from tests.fuzz.mutate import mutate
from tests.running import common_options, run

_GRID = "{dataset: moving_shapes, models: [r3d_tiny], explainers: [random], "
_GRID += "metrics: [deletion_insertion, truth_score], overrides: ['dataset.size=3']}"
_EXPERIMENT = ["experiment=truth", "experiment.name=fuzz", f"experiment.grids=[{_GRID}]", "experiment.gallery=1"]
_KINDS = (".json", ".json", ".json", ".time", ".b2nd")


def inputs(rng: random.Random) -> Iterator[bytes]:
    """JSON: which file, and what is done to it: a seed of damage, or a value (none: the key goes) for one key."""
    values = examples(_values(), rng)
    while True:
        given: dict[str, Any] = {"kind": rng.choice(_KINDS), "number": rng.randrange(1 << 16)}
        if given["kind"] == ".b2nd" or rng.random() < 0.4:
            given["damage"] = rng.randrange(1 << 32)
        else:
            given["key"] = rng.randrange(1 << 16)
            if rng.random() < 0.8:
                given["value"] = next(values)
        yield json.dumps(given).encode()


def check(content: bytes, folder: Path) -> None:
    """The file is named, or the table is the one that it was."""
    given = json.loads(content)
    home, config, all_units, good = _home()
    files = sorted((home / "out").rglob(f"*{given['kind']}"))
    path = files[given["number"] % len(files)]
    before = path.read_bytes()
    changed, known = _change(given, before)
    path.write_bytes(changed)
    try:
        table = _table(config, all_units)
    except AosaError as error:
        if path.name not in str(error):
            raise AssertionError(f"{path.name} is not named: {error}") from error
        raise
    finally:
        path.write_bytes(before)
    assert not known or table == good, f"{path.name} was taken: {changed[:500]!r}"


def _change(given: dict[str, Any], before: bytes) -> tuple[bytes, bool]:
    """The file's new content, and whether it is known to be wrong."""
    if "damage" in given:
        changed = mutate(random.Random(given["damage"]), before)
        # Nothing tells one number of a record from another.
        return changed, given["kind"] == ".b2nd" and changed != before
    record = json.loads(before)
    key = sorted(record)[given["key"] % len(record)]
    old = record.pop(key)
    if "value" in given:
        record[key] = given["value"]
    new = record.get(key)
    alike = isinstance(old, int | float) and isinstance(new, int | float)
    known = new is not None and not alike and type(new) is not type(old) and old is not None
    return json.dumps(record).encode(), known


@cache
def _home() -> tuple[Path, DictConfig, list[Unit], str]:
    """The results of a small experiment, what makes a table of them, and their scores."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-records-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    options = [*common_options(home / "out"), *_EXPERIMENT]
    config = compose("tabulate", options)
    all_units = Experiment(config).units
    for unit in all_units:
        for stage, more in (("explain", ()), *(("evaluate", (f"metric={name}",)) for name in unit.metrics)):
            ended = run(stage, *shlex.split(unit.command(stage, *more))[2:])
            assert ended.status == 0, ended.err
    return home, config, all_units, _table(config, all_units)


def _table(config: DictConfig, all_units: list[Unit]) -> str:
    return collect(all_units, config.clips).scores.to_csv()


def _values() -> st.SearchStrategy[Any]:
    leaf = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just("0.5")
    )
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))
