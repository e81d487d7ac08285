"""Overrides: values out of reason for keys of each kind, which must be refused, good ones, and plain nonsense."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from hypothesis import strategies as st

from aosa.config import quoted
from aosa.errors import AosaError
from tests.fuzz.generate import examples
from tests.running import run

_ODD = ("nan", "inf", "-inf", "[]", "{}", "[1,2]", "{a: 1}", "''", "1e400", "-1", "2.5", "nonsense")
_PATHS = ("../../evil", "/abs/evil", "..", "''", "a/b", "null", "[]", "{}")

# Key → good values, values to be refused.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "batch_size": (("auto", "1", "3"), (*_ODD, "true", "0", "null")),
    "threads": (("null", "1"), (*_ODD, "true", "0")),
    "limit": (("null", "1", "5"), (*_ODD, "true", "0")),
    "seed": (("0", "7"), (*_ODD, "true", "null")),
    "precision": (("fp32", "bf16"), (*_ODD, "true", "null", "fp8", "32")),
    "device": (("cpu", "auto"), (*_ODD, "true", "null", "gpu", "7")),
    "target": (("label", "predicted", "0", "5"), (*_ODD, "true", "null", "6", "nobody")),
    "checkpoint": (("random",), (*_ODD, "true", "0", "1")),
    "output_root": ((), ("null", "[]", "{}", "true", "7", "''", "nan")),
    "dataset.size": (("null", "1", "300"), (*_ODD, "true", "0", "1000000000000000000000000")),
    "dataset.seed": (("0", "7"), (*_ODD, "true", "null")),
    "dataset.split": (("train", "val", "test"), (*_ODD, "true", "null", "5")),
    "dataset.distractors": (("0", "3", "[1,4]"), ("nan", "inf", "{}", "''", "-1", "2.5", "true", "null", "[4,1]", "x")),
    "dataset.relevant": (("true", "false"), (*_ODD, "null", "7")),
    "dataset._target_": ((), ("os.system", "aosa.nothing", "5", "null", "''", "[]", "aosa.explainers.random.Random")),
    "model.name": (("my_model",), _PATHS),
    "model._target_": ((), ("os.system", "aosa.nothing", "5", "null", "''", "[]")),
    "model.spec.frames": ((), (*_ODD, "true", "0", "null")),
    "model.spec.size": ((), ("nan", "[]", "{}", "[0,0]", "[64]", "[64,-1]", "[64,nan]", "null", "true", "x")),
    "model.class_names": (("null",), ("nan", "{}", "5", "true", "nobody", "[a,b]")),
    "explainer": (("random", "grad_cam"), ("nobody", "null", "5", "[]")),
    "explainer._target_": ((), ("os.system", "aosa.nothing", "5", "null", "''")),
    "tracking": (("none",), ("nobody", "5", "null")),
    "no_such_key": ((), ("1", "null")),
}


def inputs(rng: random.Random) -> Iterator[bytes]:
    """JSON: the overrides, and whether they are ``good``, ``bad`` or neither of it is known."""
    texts = examples(st.lists(st.text(max_size=20), min_size=1, max_size=2), rng)
    values = examples(st.one_of(st.floats().map(str), st.text(max_size=10).map(quoted), st.integers().map(str)), rng)
    while True:
        kind = rng.randrange(8)
        keys = rng.sample(list(_KEYS), 3)
        if kind == 0:
            overrides, known = next(texts), "unknown"
        elif kind == 1:
            overrides, known = [f"{rng.choice(keys)}={next(values)}"], "unknown"
        else:
            good = [f"{key}={rng.choice(_KEYS[key][0])}" for key in keys[1:] if _KEYS[key][0]]
            bad = [f"{keys[0]}={rng.choice(_KEYS[keys[0]][1])}"]
            overrides, known = (good, "good") if kind == 2 else (good[:1] + bad, "bad")
        yield json.dumps({"overrides": overrides, "known": known}).encode()


def check(content: bytes, folder: Path) -> None:
    given = json.loads(content)
    inner = folder / "a" / "b" / "out"
    common = ["model=r3d_tiny", "dataset=moving_shapes", "explainer=random", "dry_run=true", "dataset.size=2"]
    common += ["checkpoint=random", "threads=1", "device=cpu", f"output_root={quoted(str(inner))}"]
    overrides = [override.replace("/abs", str(folder)) for override in given["overrides"]]
    keys = {override.partition("=")[0] for override in overrides}
    with chdir(folder):  # what is written to a relative place is seen as well
        ended = run("explain", *(c for c in common if c.partition("=")[0] not in keys), *overrides)
    said = ended.out + ended.err
    assert "Traceback" not in said, said
    assert "a bug" not in ended.err, ended.err
    outside = [p for p in folder.rglob("*") if p != inner and inner not in p.parents and p not in inner.parents]
    assert not outside, f"it wrote {outside}"
    if ended.status == 0:
        assert given["known"] != "bad", f"taken: {overrides}"
        return
    assert ended.status in (1, 2), f"status {ended.status}: {said}"
    assert given["known"] != "good", f"refused: {overrides}: {ended.err}"
    raise AosaError(ended.err)
