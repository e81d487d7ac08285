"""Options of explainers and metrics: refused when out of range, and listed for the run's identity."""

from __future__ import annotations

import inspect
from numbers import Integral

from aosa.errors import ConfigError


def check_range(owner: str, **limits: tuple[float | None, float, float]) -> None:
    """Refuse options outside their range: ``check_range("explainer", stride=(stride, 1, inf))``; None passes.

    Raises:
        ConfigError: naming the key, the value and the range.
    """
    for key, (value, low, high) in limits.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            limit = f"of at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise ConfigError(f"{full_key(owner, key)}={value}: give a number {limit}")


def check_whole(owner: str, **limits: tuple[int | None, int]) -> None:
    """Refuse options that are not whole numbers of at least so much: ``check_whole("explainer", stride=(stride, 1))``;
    None passes.

    Raises:
        ConfigError: naming the key, the value and the least.
    """
    for key, (value, low) in limits.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < low):
            raise ConfigError(f"{full_key(owner, key)}={value}: give a whole number of at least {low}")


def check_choice(owner: str, **choices: tuple[object, tuple[object, ...]]) -> None:
    """Refuse options that are not among their choices.

    Raises:
        ConfigError: naming the key, the value and the choices.
    """
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            names = ", ".join(
                "null" if a is None else str(a).lower() if isinstance(a, bool) else str(a) for a in allowed
            )
            raise ConfigError(f"{full_key(owner, key)}={value}: choose one of {names}")


def check_shares(owner: str, **lists: object) -> None:
    """Refuse options that are not lists of different numbers between 0 and 1, the ends left out.

    Raises:
        ConfigError: naming the key and the value.
    """
    for key, value in lists.items():
        if (
            not isinstance(value, list | tuple)
            or not value
            or any(not isinstance(v, float) or not 0 < v < 1 for v in value)
            or len(set(value)) < len(value)
        ):
            raise ConfigError(f"{full_key(owner, key)}={value}: give different shares between 0 and 1, such as [0.1]")


def full_key(owner: str, key: str) -> str:
    """``owner.key``, or the key alone where it has no owner."""
    return f"{owner}.{key}" if owner else key


def options_of(thing: object) -> dict[str, object]:
    """Class, version and `__init__` options of an explainer or metric: all that changes its result.

    Each argument of ``__init__`` is kept as an attribute of the same name.
    """
    # Of the class: one without an __init__ of its own has no options.
    names = list(inspect.signature(type(thing)).parameters)
    return {
        "class": f"{type(thing).__module__}.{type(thing).__qualname__}",
        "version": getattr(thing, "version", 1),
        **{name: getattr(thing, name) for name in names},
    }
