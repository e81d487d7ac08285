"""What `evaluate` keeps: values of another kind, keys that are gone, damage; as `tabulate` meets them."""

from __future__ import annotations

import atexit
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from aosa.errors import AosaError
from tests.fuzz.generate import examples
from tests.fuzz.mutate import mutate
from tests.running import Ended, common_options, own_configs, run

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
    home, good = _home()
    files = sorted((home / "out").rglob(f"*{given['kind']}"))
    path = files[given["number"] % len(files)]
    before = path.read_bytes()
    changed, known = _change(given, before)
    path.write_bytes(changed)
    try:
        ended = _tabulate(home)
    finally:
        path.write_bytes(before)
    said = ended.out + ended.err
    assert "Traceback" not in said, said
    assert "a bug" not in ended.err, ended.err
    named = path.name in said
    if ended.status:
        assert named, f"{path.name} is not named: {said}"
        raise AosaError(ended.err)
    assert not known or named or ended.out == good, f"{path.name} was taken: {changed[:500]!r}"


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
def _home() -> tuple[Path, str]:
    """The results of a small experiment, and the table that is made of them."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-records-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    own_configs(home)
    sys.path.insert(0, str(home))
    ended = _run(home, "reproduce")
    assert ended.status == 0, ended.err
    return home, _tabulate(home).out


def _tabulate(home: Path) -> Ended:
    return _run(home, "tabulate")


def _run(home: Path, stage: str) -> Ended:
    return run(stage, "--config-dir", str(home / "configs"), *common_options(home / "out"), "experiment=own")


def _values() -> st.SearchStrategy[Any]:
    leaf = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just("0.5")
    )
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))
