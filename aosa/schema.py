"""What stored JSON must hold: keys and kinds, declared beside what writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aosa.errors import StoreError


@dataclass(frozen=True)
class Kind:
    """A kind of value: what it is called, and whether a value is one."""

    what: str
    fits: Callable[[Any], bool]


Schema = Mapping[str, Kind]
ALL = ""  # the key that stands for the object as a whole

NUMBER = Kind("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))
WHOLE = Kind("a whole number from 0", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0)
POSITIVE = Kind("a number from 0", lambda v: NUMBER.fits(v) and v >= 0)
SHARE = Kind("a number from 0 to 1", lambda v: NUMBER.fits(v) and 0 <= v <= 1)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
TEXT = Kind("a text", lambda v: isinstance(v, str))
SHA256 = Kind("a sha256", lambda v: isinstance(v, str) and len(v) == 64 and set(v) <= set("0123456789abcdef"))


def index(count: int | None) -> Kind:
    """One of so many classes; None = of any number."""
    if count is None:
        return WHOLE
    return Kind(f"a whole number from 0 to {count - 1}", lambda v: WHOLE.fits(v) and v < count)


def optional(kind: Kind) -> Kind:
    """That kind, or null."""
    return Kind(f"{kind.what} or null", lambda v: v is None or kind.fits(v))


def exactly(value: object) -> Kind:
    """This value alone."""
    return Kind(repr(value), lambda v: type(v) is type(value) and v == value)


def listing(kind: Kind, count: int | None = None) -> Kind:
    """A list of that kind, of so many values; None = of any number."""
    return Kind(
        f"a list of {'' if count is None else f'{count} times '}{kind.what}",
        lambda v: isinstance(v, list) and count in (None, len(v)) and all(map(kind.fits, v)),
    )


def alike(*keys: str) -> Kind:
    """Lists of one length at these keys, which their own kinds must come before; goes with `ALL`."""
    return Kind(f"as many {' as '.join(keys)}", lambda v: len({len(v[key]) for key in keys}) == 1)


def mapping(kind: Kind) -> Kind:
    """Names with values of that kind."""
    return Kind(f"names, each with {kind.what}", lambda v: isinstance(v, dict) and all(map(kind.fits, v.values())))


def parse(text: str, schema: Schema) -> dict[str, Any]:
    """A JSON object that holds what `schema` names, and may hold more; all its numbers are finite.

    Raises:
        ValueError: it is none, in a few words.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_refuse, parse_float=_finite, parse_int=_moderate
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    for key, kind in schema.items():
        if key == ALL:
            if not kind.fits(value):
                raise ValueError(f"not {kind.what}")
        elif key not in value:
            raise ValueError(f"{key!r} is missing")
        elif not kind.fits(value[key]):
            shown = json.dumps(value[key], ensure_ascii=False)
            raise ValueError(f"{key!r} is {shown[:60]}{'…' * (len(shown) > 60)}, not {kind.what}")
    return value


def read_object(path: Path, schema: Schema, remedy: str) -> dict[str, Any] | None:
    """What a file holds, see `parse`; None when it is missing.

    Raises:
        StoreError: it is something else; `remedy` says what to do.
    """
    try:
        return parse(path.read_bytes().decode(), schema)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise StoreError(f"{path}: damaged ({error}); {remedy}") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice")
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _moderate(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"{text[:18]}… is too large")
    return int(text)
