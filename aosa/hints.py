"""Values of a config against the annotations of what takes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from aosa.errors import ConfigError
from aosa.options import LARGEST, as_text, did_you_mean, is_number, is_whole

_WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("a text", "texts"),
    NoneType: ("null", "null"),
}


def check_type(key: str, value: object, hint: Any) -> None:
    """Refuse a value that is not what an annotation says. A number must be finite, a whole number be written as one and
    fit 64 bits, true is no number; a text is no list; None only passes where the annotation has it. Of a TypedDict and
    within lists and mappings each key is told by its own name. Classes of objects and unknown annotations pass.

    Raises:
        ConfigError: naming the key, the value and what would be right.
    """
    options = _options(hint)
    deep = [o for o in options if is_typeddict(o) or any(map(is_typeddict, get_args(o)))]
    if is_typeddict(hint) and isinstance(value, Mapping):
        hints = get_type_hints(hint)
        check_keys(key, value, hints, hint.__required_keys__)
        for name, part in value.items():
            check_type(f"{key}.{name}", part, hints[name])
    elif deep and isinstance(value, list) and get_origin(deep[0]) is list:
        for number, part in enumerate(value):
            check_type(f"{key}[{number}]", part, get_args(deep[0])[0])
    elif isinstance(value, Mapping) and get_origin(hint) is Mapping:
        for name, part in value.items():
            check_type(f"{key}.{name}", part, get_args(hint)[1])
    elif not fits(value, hint):
        numeral = isinstance(value, int | float) and not isinstance(value, bool) and str in options
        quote = f", in quotes where it looks like a number: '{key}=\"{value}\"'" if numeral else ""
        raise ConfigError(f"{key}={as_text(value)}: give {describe(hint)}{quote}")


def check_keys(key: str, value: Mapping[str, Any], known: Iterable[str], required: Iterable[str] = ()) -> None:
    """Refuse a mapping with other keys than these, or without those that are required.

    Raises:
        ConfigError: naming the key.
    """
    names = list(known)
    for name in value:
        if name not in names:
            raise ConfigError(
                f"there is no key {key}.{name}{did_you_mean(str(name), names)}\n  keys: {', '.join(names)}"
            )
    for name in sorted(set(required) - set(value)):
        raise ConfigError(f"{key}.{name} is missing: give it a value")


def fits(value: object, hint: Any) -> bool:
    """Whether a value is what an annotation says, see `check_type`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in inner)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in inner)
    if hint in (None, NoneType):
        return value is None
    if hint is bool or hint is str:
        return isinstance(value, hint)
    if hint is int:
        return is_whole(value) and abs(value) <= LARGEST
    if hint is float:
        return is_number(value)
    if hint is Path:
        return isinstance(value, str | Path)
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (list, tuple, Sequence) or hint in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(fits(part, inner[0]) for part in value if inner)
    if origin in (dict, Mapping) or hint in (dict, Mapping) or is_typeddict(hint):
        return isinstance(value, Mapping) and all(fits(part, inner[1]) for part in value.values() if inner)
    if hint is Any or hint is object or hint is inspect.Parameter.empty or not inspect.isclass(hint):
        return True
    return isinstance(value, hint)


def describe(hint: Any) -> str:
    """An annotation in words: ``a whole number, or null``."""
    words = list(dict.fromkeys(word for option in _options(hint) for word in _words(option)))
    return f"{', '.join(words[:-1])}, or {words[-1]}" if len(words) > 1 else words[0]


def classes_of(hint: Any) -> tuple[type, ...]:
    """The classes of objects, not of plain values, that an annotation names."""
    plain = (*_WORDS, Path, object, list, tuple, dict, Mapping, Sequence)
    return tuple(o for o in _options(hint) if inspect.isclass(o) and o not in plain and get_origin(o) is None)


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _words(hint: Any) -> list[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return [str(option) for option in inner]
    if hint in _WORDS:
        return [_WORDS[hint][0]]
    if origin is tuple and Ellipsis not in inner:
        return [f"a list of {len(inner)} {_WORDS.get(inner[0], ('', 'values'))[1]}"]
    if origin in (list, tuple, Sequence) or hint in (list, tuple, Sequence):
        element = inner[0] if inner else None
        mappings = is_typeddict(element) or get_origin(element) is dict
        return [f"a list of {'mappings' if mappings else _WORDS.get(element, ('', 'values'))[1]}"]
    if origin in (dict, Mapping) or hint in (dict, Mapping) or is_typeddict(hint):
        return ["a mapping"]
    return ["the path of a file"] if hint is Path else [f"an object of the class {getattr(hint, '__name__', hint)}"]
