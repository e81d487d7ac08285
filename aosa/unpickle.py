"""Pickles of plain data, read by a machine that can build nothing else and runs nothing that a pickle asks for."""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from pickle import HIGHEST_PROTOCOL
from types import FunctionType
from typing import IO, Any

import numpy as np

from aosa.errors import AosaError

_MOST_VALUES = 2_000_000  # instructions of a pickle, and values in what comes of it
_DEEPEST = 50  # containers within containers
_MOST_DIMENSIONS = 16
_SHARED = 4  # times the bytes of the file that its arrays may come to, where one of them is held in several places
_DTYPES = {"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"}

_SCALARS = (str, int, float, bytes, type(None), np.generic)
_NUMBERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2"}
_STRINGS = {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "FLOAT", "BINFLOAT"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list},
    **{"EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set},
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GROUPS: dict[str, Callable[[list[Any]], Any]] = {
    **{"TUPLE": tuple, "LIST": list},
    "FROZENSET": lambda items: frozenset(_keys(items)),
    "DICT": lambda items: dict(_pairs(items)),
}


class _Dtype:
    """A dtype as a pickle tells it: its name at once, byte order and size afterwards."""

    __slots__ = ("name", "order", "size")

    def __init__(self, name: str) -> None:
        self.name, self.order, self.size = name, "", -1

    def build(self, state: Any) -> _Dtype:
        version, self.order, *parts, self.size, _, _ = state[:8]
        if version not in (3, 4) or parts != [None] * 3 or type(self.order) is not str or type(self.size) is not int:
            raise ValueError(f"a dtype {self.name} with fields")
        return self

    def plain(self) -> np.dtype:
        """The dtype, if it is one of the short list; or that of texts of one length."""
        text = re.fullmatch(r"U(\d{1,6})", self.name)
        if not text and self.name not in _DTYPES:
            raise ValueError(f"an array of {self.name}, which is neither of numbers nor of text")
        if self.order not in ("|", "<", ">") or (self.order == "|") != self.name.endswith("1") * (not text):
            raise ValueError(f"an array of {self.name} in the byte order {self.order!r}")
        if self.size != (4 * int(text[1]) if text else -1):
            raise ValueError(f"an array of {self.name} of {self.size} bytes each")
        return np.dtype(self.order + self.name)


class _Array:
    """An array that a pickle has begun; nothing may hold it before it is built."""

    __slots__ = ("built",)

    def __init__(self) -> None:
        self.built: np.ndarray | None = None

    def build(self, state: Any) -> np.ndarray:
        version, shape, dtype, fortran, data = state
        if version != 1 or not isinstance(fortran, bool):
            raise ValueError("an array of an unknown version")
        self.built = _array(data, dtype, shape, "F" if fortran else "C")
        return self.built


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of its own memory; all that is told of it is compared with the bytes that there are."""
    if not isinstance(dtype, _Dtype):
        raise ValueError("an array without a dtype")
    kind = dtype.plain()
    if not isinstance(data, bytes | bytearray):
        raise ValueError("an array of objects")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("an array of an impossible shape")
    if order not in ("C", "F") or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"an array of {kind} and the shape {shape} in {len(data)} bytes")
    if kind.kind == "b" and data.strip(b"\0\1"):
        raise ValueError("an array of bool with other bytes than 0 and 1")
    if kind.kind == "U":
        data.decode("utf-32-be" if kind.byteorder == ">" else "utf-32-le")
    values = np.frombuffer(data, kind) if data else np.empty(0, kind)
    return values.reshape(shape, order=order).copy(order="K")


_NDARRAY = object()  # numpy's class; it is told and never called


def _begin_array(kind: object, shape: tuple[int, ...], letter: bytes) -> _Array:
    if kind is not _NDARRAY or shape != (0,):
        raise ValueError("an array that does not begin empty")
    return _Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C")[()]


def _dtype(name: Any, align: bool = False, copy: bool = False) -> _Dtype:
    if type(name) is not str:
        raise ValueError("a dtype without a name")
    return _Dtype(name[:20])


def _latin1(text: Any, encoding: Any) -> bytes:
    """What protocols 0 to 2 write bytes with, for this one encoding."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("bytes in another encoding than Latin-1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_GLOBALS: dict[str, Any] = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _dtype,
    "_codecs.encode": _latin1,
    "builtins.bytes": _no_bytes,
    "__builtin__.bytes": _no_bytes,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _begin_array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _array),
        )
    },
}


def load_plain_pickle(file: IO[bytes], source: str | Path, most: int = 1 << 28) -> Any:
    """Read a pickle of containers, numbers, strings and numpy arrays; nothing else is ever built or called.

    Arrays are those of bool, of whole numbers of up to 64 bits, of floating-point numbers of 16, 32 or 64 bits and of
    text; they are made of the pickle's bytes after their sizes were compared. Keys and the items of sets are strings
    and numbers. Numbers have at most 64 bits. Strings of Python 2 come as text.

    Args:
        source: what the messages call it.
        most: bytes that are read; a file of more is refused.

    Raises:
        AosaError: the pickle asks for anything else, is broken, or comes to far more than it holds (values nested too
            deep, one list or array in very many places).
    """
    try:
        content = file.read(most + 1)
        if len(content) > most:
            raise AosaError(f"{source}: refused: a pickle of more than {most} bytes")
        value = _run(content, source)
        _check_value(value, len(content))
        return value
    except AosaError:
        raise
    except (IndexError, KeyError):
        raise AosaError(f"{source}: not a readable pickle (an instruction lacks its values)") from None
    except Exception as error:  # a broken pickle can raise anything
        raise AosaError(f"{source}: not a readable pickle ({str(error) or type(error).__name__})") from None


def _run(content: bytes, source: str | Path) -> Any:
    """Follow the instructions, as pickletools reads them."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stack under each mark
    memo: dict[int, Any] = {}
    unbuilt = made = 0

    arg: Any
    for step, (code, arg, _) in enumerate(pickletools.genops(content)):
        if step > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES} instructions")
        name = code.name
        if name in ("LONG_BINPUT", "BINPUT", "PUT", "MEMOIZE"):
            if arg is not None and arg < 0:
                raise ValueError("a negative index of the memo")
            # A dict: no index makes it grow by more than one entry.
            memo[len(memo) if arg is None else arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET", "DUP"):
            value = stack[-1] if name == "DUP" else memo[arg]
            if isinstance(value, _Array):
                value = value.built
                if value is None:
                    raise ValueError("an array that is used before it is built")
            stack.append(value)
        elif name in _NUMBERS:
            if not -(1 << 63) <= arg < 1 << 64:
                raise ValueError("a number of more than 64 bits")
            stack.append(arg)
        elif name in _STRINGS:
            if isinstance(arg, str) and not arg.isascii():
                arg.encode()  # refuses half a surrogate pair
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(_last(stack, count))]
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in _GROUPS:
            items, stack = stack, below.pop()
            stack.append(_GROUPS[name](items))
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            items, stack = stack, below.pop()
            _extend(stack[-1], items, name)
        elif name in ("APPEND", "SETITEM"):
            count = 1 if name == "APPEND" else 2
            items = _last(stack, count)
            del stack[-count:]
            _extend(stack[-1], items, name)
        elif name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            if name == "STACK_GLOBAL":
                asked = ".".join(_last(stack, 2))
                del stack[-2:]
            else:
                asked = arg.replace(" ", ".")
            if name == "INST" or asked not in _GLOBALS:
                raise AosaError(
                    f"{source}: refused: this pickle asks for {asked:.200}, and may hold nothing but "
                    f"containers, numbers, strings and arrays"
                )
            stack.append(_GLOBALS[asked])
        elif name == "REDUCE":
            function, arguments = _last(stack, 2)
            if not isinstance(function, FunctionType) or not isinstance(arguments, tuple):
                raise ValueError("it calls what is not a function")
            result = function(*arguments)
            unbuilt += isinstance(result, _Array)
            made += _bytes_of(result)
            stack[-2:] = [result]
        elif name == "BUILD":
            begun, state = _last(stack, 2)
            if not isinstance(begun, _Dtype | _Array) or not isinstance(state, tuple):
                raise ValueError("it changes what is neither an array nor a dtype")
            unbuilt -= isinstance(begun, _Array)
            result = begun.build(state)
            made += _bytes_of(result)
            stack[-2:] = [result]
        elif name == "POP_MARK":
            stack = below.pop()
        elif name == "POP":
            if stack:
                stack.pop()
            else:
                stack = below.pop()
        elif name == "STOP":
            if unbuilt:
                raise ValueError("an array that is begun and not built")
            return stack.pop()
        elif name == "PROTO":
            if arg > HIGHEST_PROTOCOL:
                raise ValueError(f"protocol {arg}, which there is not")
        elif name != "FRAME":
            raise ValueError(f"the instruction {name}, which plain data does not need")
        if made > _SHARED * len(content):
            raise ValueError("its arrays come to far more than its bytes")
    raise ValueError("it ends too early")


def _bytes_of(value: Any) -> int:
    """Bytes that an array or a string of bytes takes; 0 for all else."""
    return value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, bytes | bytearray) else 0


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("an instruction lacks its values")
    return stack[-count:]


def _extend(container: Any, items: list[Any], name: str) -> None:
    if name.startswith("APPEND") and type(container) is list:
        container += items
    elif name.startswith("SETITEM") and type(container) is dict:
        container.update(_pairs(items))
    elif name == "ADDITEMS" and type(container) is set:
        container.update(_keys(items))
    else:
        raise ValueError(f"{name} of {type(container).__name__}")


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(_keys(items[::2]), items[1::2], strict=True))


def _keys(items: list[Any]) -> list[Any]:
    """Strings and numbers, of which none costs more to compare than to read."""
    for item in items:
        if not isinstance(item, _SCALARS):
            raise ValueError(f"a key that is a {type(item).__name__}")
    return items


def _check_value(value: Any, size: int) -> None:
    """Refuse what is no plain data, and what is far more when it is walked through than the file that it came from: one
    list in many places, or in itself.

    Raises:
        ValueError: saying which.
    """
    ahead, seen, held = [(value, 0)], 0, 0
    while ahead:
        item, depth = ahead.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ValueError(f"it comes to more than {_MOST_VALUES} values")
        if isinstance(item, np.ndarray | bytearray):
            held += _bytes_of(item)
            if held > _SHARED * size:
                raise ValueError("its arrays come to far more than its bytes")
        elif isinstance(item, list | tuple | dict | set | frozenset):
            if depth == _DEEPEST:
                raise ValueError(f"more than {_DEEPEST} containers within each other")
            if seen + len(ahead) + len(item) > _MOST_VALUES:
                raise ValueError(f"it comes to more than {_MOST_VALUES} values")
            ahead += [(part, depth + 1) for part in (item.values() if isinstance(item, dict) else item)]
        elif not isinstance(item, _SCALARS):
            raise ValueError("a value that is neither a container, a number, a string nor an array")
