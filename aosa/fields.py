"""Options as the fields of a dataclass: name, type, default, range and meaning, spelled once."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

from aosa.errors import ConfigError
from aosa.hints import check_keys, check_type, describe, fits
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


def part(default: str, meaning: str, kinds: Sequence[type[Part]]) -> Any:
    """A dataclass field that is an object with options of its own, see `Part`: ``blur``, ``{name: blur, sigma: 8}``, or
    an object of the field's class, such as one of yours.

    Args:
        default: the name of one of the kinds.
        meaning: one line.
        kinds: the classes that can be given by name.
    """
    return field(default=default, metadata={"meaning": meaning, "kinds": tuple(kinds)})


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
        """Refuse values of another type or out of range, and make the parts that are given by name.

        Raises:
            ConfigError: naming the key, the value, and what would be right.
        """
        hints = get_type_hints(type(self))
        for own in fields(self):
            if own.init and "kinds" in own.metadata:
                key, value = full_key(self.owner, own.name), getattr(self, own.name)
                setattr(self, own.name, _made(key, value, hints[own.name], own.metadata["kinds"]))
            elif own.init:
                _check(full_key(self.owner, own.name), getattr(self, own.name), hints[own.name], own.metadata)


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
        names = _names(type(self))
        if names != list(inspect.signature(type(self)).parameters):
            raise TypeError(f"{type(self).__qualname__} must be a dataclass, and its options its fields")
        return {name: getattr(self, name) for name in names}

    def identity(self) -> dict[str, object]:
        """Name, version and options: all that changes a result, as JSON has it."""
        options = {key: _as_json(value) for key, value in self.options().items()}
        return {"name": self.name, "version": self.version, **options}


@dataclass
class Part(Options):
    """An option that has options itself. Its identity is what a user types, so that one without options is its name; a
    default that changes needs another version."""

    def changed(self) -> dict[str, object]:
        """The options that are not at their defaults, as JSON has them; and the version, once it is raised."""
        defaults = {own.name: own.default for own in fields(self)}
        version = {"version": self.version} if self.version > 1 else {}
        return {key: _as_json(v) for key, v in self.options().items() if v != defaults[key]} | version

    def spelled(self) -> str | dict[str, object]:
        """``blur``, or ``{"name": "blur", "sigma": 8}``."""
        changed = self.changed()
        return {"name": self.name, **changed} if changed else self.name


def methods_below(package: str, kinds: tuple[type[Options], ...]) -> dict[str, type[Options]]:
    """The methods that the modules of a package define, by the names of their classes: those of these kinds with a
    ``name`` of their own. Parents of families have none."""
    found = importlib.import_module(package)
    modules = [importlib.import_module(f"{package}.{own.name}") for own in pkgutil.iter_modules(found.__path__)]
    return {
        kind.__name__: kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, kinds) and kind.__module__ == module.__name__
        if kind.name != kind.__name__
    }


def _as_json(value: object) -> object:
    if isinstance(value, Part):
        return value.spelled()
    if isinstance(value, Options):
        return value.identity()
    return list(value) if isinstance(value, tuple) else value


def _names(kind: type[Checked]) -> list[str]:
    return [own.name for own in fields(kind) if own.init]


def _made(key: str, value: object, hint: Any, kinds: Sequence[type[Part]]) -> Part:
    """The object that a name, or a mapping of a name and options, means."""
    if isinstance(value, hint):
        return value  # type: ignore[no-any-return]
    known = {kind.name: kind for kind in kinds}
    given = dict(value) if isinstance(value, Mapping) else {"name": value}
    if "name" not in given:
        raise ConfigError(f"{key}.name is missing: give one of {', '.join(known)}")
    name = given.pop("name")
    owner, _, own_name = key.rpartition(".")
    check_choice(owner, **{own_name: (name, tuple(known))})
    made = known[str(name)]
    check_keys(key, given, _names(made))
    hints = get_type_hints(made)
    for own in fields(made):
        if own.name in given:
            _check(f"{key}.{own.name}", given[own.name], hints[own.name], own.metadata)
    return made(**given)


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
