"""Options as the fields of a dataclass: name, type, default, range and meaning, spelled once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

from aosa.errors import ConfigError
from aosa.hints import check_type, describe, fits
from aosa.options import as_text, check_choice, full_key, is_number


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
    return field(default=default, metadata=about)


def fixed(value: Any) -> Any:
    """An inherited field that is no option here: it always has this value."""
    return field(default=value, init=False, repr=False)


@dataclass
class Checked:
    """A dataclass whose fields are options, checked when it is made.

    A subclass is a dataclass too; it inherits options, adds some by `option`, and takes some away by `fixed`.

    Attributes:
        owner: the config node of the options, for messages.
    """

    owner: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Refuse values of another type or out of range.

        Raises:
            ConfigError: naming the key, the value, and what would be right.
        """
        kinds = get_type_hints(type(self))
        for part in fields(self):
            if part.init:
                _check(full_key(self.owner, part.name), getattr(self, part.name), kinds[part.name], part.metadata)


@dataclass
class Options(Checked):
    """Options that are part of an identity.

    Attributes:
        name: stable, and the only name in an identity; a class that gives none has that of the class itself.
        version: raised when a fix changes results.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # An inherited name would give two methods one identity.
        if "name" not in vars(cls):
            cls.name = cls.__name__

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
    choices, low, high = about.get("choices", ()), about.get("low", -math.inf), about.get("high", math.inf)
    if choices:
        owner, _, name = key.rpartition(".")
        check_choice(owner, **{name: (value, choices)})
        return
    expect = about.get("expect")
    if not expect and math.isinf(low):
        check_type(key, value, kind)  # names a key within, and what to put in quotes
    if not (fits(value, kind) and _is_within(value, low, high)):
        raise ConfigError(f"{key}={as_text(value)}: give {expect or _described(kind, low, high)}")


def _is_within(value: object, low: float, high: float) -> bool:
    """Whether each number is in the range, and no list empty."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_within(part, low, high) for part in value)
    return low <= value <= high if is_number(value) else True


def _described(kind: Any, low: float, high: float) -> str:
    if math.isinf(low):
        return describe(kind)
    limit = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
    return describe(kind).replace("number", f"number {limit}", 1)
