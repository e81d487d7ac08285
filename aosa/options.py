"""Options: refused when out of range."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from numbers import Integral
from typing import TypeGuard

from aosa.errors import ConfigError

LARGEST = 2**63 - 1  # of whole numbers, as int64 and PyTorch's seeds have it
_NAME_BYTES = 64  # with digests, suffixes and the parts chosen of an experiment, a file's name stays below 255
# Not allowed by some file systems, or read as something else: a folder, a home, a device.
_NO_NAME = re.compile(
    r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]|^[.~\s]|[.\s]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE
)


SHARES = "different shares between 0 and 1, such as [0.1]"


def check_range(owner: str, **limits: tuple[float | None, float, float]) -> None:
    """Refuse options outside their range: ``check_range("explainer", stride=(stride, 1, inf))``; None passes, NaN and
    infinity never do.

    Raises:
        ConfigError: naming the key, the value and the range.
    """
    for key, (value, low, high) in limits.items():
        if value is not None and not (is_number(value) and low <= value <= high):
            limit = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"{full_key(owner, key)}={value}: give a number {limit}")


def check_whole(owner: str, **limits: tuple[int | None, int] | tuple[int | None, int, int]) -> None:
    """Refuse options that are not whole numbers of at least so much: ``check_whole("explainer", stride=(stride, 1))``,
    and at most so much where a third is given; None passes.

    Raises:
        ConfigError: naming the key, the value and the range.
    """
    for key, (value, low, *most) in limits.items():
        high = most[0] if most else LARGEST
        if value is not None and not (is_whole(value) and low <= value <= high):
            limit = f"from {low} to {high}" if most or (is_whole(value) and value > high) else f"of at least {low}"
            raise ConfigError(f"{full_key(owner, key)}={value}: give a whole number {limit}")


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number; True and False are none, nor is 3.0."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """A whole or real number that a float can hold, not NaN, infinity, True or False."""
    return abs(value) <= LARGEST if is_whole(value) else isinstance(value, float) and math.isfinite(value)


def check_choice(owner: str, **choices: tuple[object, tuple[object, ...]]) -> None:
    """Refuse options that are not among their choices; neither 1 nor 1.0 is True.

    Raises:
        ConfigError: naming the key, the value and the choices.
    """
    for key, (value, allowed) in choices.items():
        if not any(type(value) is type(a) and value == a for a in allowed):
            names = ", ".join(
                "null" if a is None else str(a).lower() if isinstance(a, bool) else str(a) for a in allowed
            )
            raise ConfigError(f"{full_key(owner, key)}={value}: choose one of {names}")


def check_name(key: str, value: object) -> None:
    """Refuse what is to be the name of a file or folder and cannot be one on every system: it stays where it is put.

    Raises:
        ConfigError: naming the key and the value.
    """
    if not isinstance(value, str) or not value or _NO_NAME.search(value) or len(value.encode()) > _NAME_BYTES:
        raise ConfigError(
            f"{key}={as_text(value)}: it names a folder; give 1 to {_NAME_BYTES} letters, digits, blanks or signs, but "
            f'none of / \\ : * ? " < > |, no dot, ~ or blank in front and no dot or blank at the end'
        )


def as_text(value: object) -> str:
    """A value as a user would type it, cut short where it is long."""
    text = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else str(value)
    assert text is not None
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 100 else f"{text[:100]} …"


def did_you_mean(name: str, known: Sequence[str], prefix: str = "") -> str:
    """``; did you mean <name>?`` for the closest known name, empty when none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def check_shares(owner: str, **lists: object) -> None:
    """Refuse options that are not lists of different numbers between 0 and 1, the ends left out.

    Raises:
        ConfigError: naming the key and the value.
    """
    for key, value in lists.items():
        if (
            not isinstance(value, list | tuple)
            or not value
            or any(not is_number(v) or not 0 < v < 1 for v in value)
            or len(set(value)) < len(value)
        ):
            raise ConfigError(f"{full_key(owner, key)}={value}: give {SHARES}")


def full_key(owner: str, key: str) -> str:
    """``owner.key``, or the key alone where it has no owner."""
    return f"{owner}.{key}" if owner else key
