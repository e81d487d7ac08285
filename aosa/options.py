"""Options of explainers and metrics: refused when out of range, and listed for the run's identity."""

from __future__ import annotations

import inspect
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from aosa.errors import ConfigError

SHARES = "different shares between 0 and 1, such as [0.1]"


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
            raise ConfigError(f"{full_key(owner, key)}={value}: give {SHARES}")


def full_key(owner: str, key: str) -> str:
    """``owner.key``, or the key alone where it has no owner."""
    return f"{owner}.{key}" if owner else key


def option(
    default: Any = MISSING,
    meaning: str = "",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[object] = (),
    expect: str = "",
) -> Any:
    """A dataclass field that is an option: its default, what it means, and what it may be.

    Args:
        default: none = it must be given.
        meaning: one line.
        low, high: ends of a number's range, both allowed; of every number, for a list.
        choices: the only values it may have.
        expect: how a message says what would be right, where type and range do not say it well.
    """
    about = {"meaning": meaning, "low": low, "high": high, "choices": tuple(choices), "expect": expect}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=about)
    return field(default=default, metadata=about)


def fixed(value: Any) -> Any:
    """An inherited field that is no option here: it always has this value."""
    return field(default=value, init=False, repr=False)


@dataclass
class Options:
    """What has options: a dataclass whose fields they are, checked when it is made.

    A subclass is a dataclass too; it inherits options, adds some by `option`, and takes some away by `fixed`.

    Attributes:
        owner: the config node of the options, for messages.
        name: stable, and the only name in an identity; a class that gives none has that of the class itself.
        version: raised when a fix changes results.
    """

    owner: ClassVar[str] = ""
    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # An inherited name would give two methods one identity.
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __post_init__(self) -> None:
        """Refuse values of another type or out of range.

        Raises:
            ConfigError: naming the key, the value, and what would be right.
        """
        kinds = get_type_hints(type(self))
        for part in fields(self):
            if part.init:
                _check(full_key(self.owner, part.name), getattr(self, part.name), kinds[part.name], part.metadata)

    def options(self) -> dict[str, object]:
        """Each option's value.

        Raises:
            TypeError: arguments of ``__init__`` that are no fields; an identity without them would be wrong.
        """
        names = [part.name for part in fields(self) if part.init]
        if names != list(inspect.signature(type(self)).parameters):
            raise TypeError(f"{type(self).__qualname__} must be a dataclass, and its options its fields")
        return {name: getattr(self, name) for name in names}

    def identity(self) -> dict[str, object]:
        """Name, version and options: all that changes a result, as JSON has it."""
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options().items()}
        return {"name": self.name, "version": self.version, **options}


def _check(key: str, value: object, kind: Any, about: Mapping[str, Any]) -> None:
    choices = about.get("choices", ())
    if choices:
        owner, _, name = key.rpartition(".")
        if isinstance(value, Hashable):
            check_choice(owner, **{name: (value, choices)})
            return
    elif any(_fits(value, one, about) for one in _members(kind)):
        return
    wanted = about.get("expect") or " or ".join(filter(None, (_described(k, about) for k in _members(kind))))
    raise ConfigError(f"{key}={'null' if value is None else value}: give {wanted}")


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _fits(value: object, kind: Any, about: Mapping[str, Any]) -> bool:
    """Whether a value is of a type, and a number in its range."""
    low, high = about.get("low", -math.inf), about.get("high", math.inf)
    origin = get_origin(kind)
    if origin in (tuple, list, Sequence):
        kinds = get_args(kind)
        if not isinstance(value, list | tuple) or not value:
            return False
        kinds = kinds if origin is tuple and kinds[-1] is not Ellipsis else (kinds[0],) * len(value)
        return len(kinds) == len(value) and all(_fits(v, k, about) for v, k in zip(value, kinds, strict=True))
    if kind in (None, NoneType):
        return value is None
    if kind in (int, float):
        number = Integral if kind is int else Real
        return (
            isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high
        )
    return kind is Any or isinstance(value, kind)


def _described(kind: Any, about: Mapping[str, Any]) -> str:
    """A type and its range in words."""
    low, high = about.get("low", -math.inf), about.get("high", math.inf)
    if kind in (int, float):
        number = "a whole number" if kind is int else "a number"
        if math.isinf(low):
            return number
        return f"{number} of at least {low:g}" if math.isinf(high) else f"{number} from {low:g} to {high:g}"
    if get_origin(kind) in (tuple, list, Sequence):
        return "a list"
    return {NoneType: "null", bool: "true or false", str: "a text"}.get(kind, "a value")
