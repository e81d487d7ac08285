"""Pickles: the annotation of UCF101-24, damaged, and pickles made to do harm."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import struct
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from aosa.data.pyannot import read_pyannot
from aosa.unpickle import load_plain_pickle
from tests.conftest import SHARED_DATA
from tests.fuzz.mutate import mutate

_REAL = SHARED_DATA / "ucf101_24" / "pyannot.pkl"


def inputs(rng: random.Random) -> Iterator[bytes]:
    yield from CRAFTED.values()
    # Protocols above 3 tell the length of a name before it.
    pickles = [p.replace(b"numpy._core", b"numpy.core") for p in seeds()[:4]] + seeds()
    while True:
        if _REAL.is_file() and rng.random() < 0.02:
            yield mutate(rng, _REAL.read_bytes(), pickles)
        elif rng.random() < 0.7:
            yield mutate(rng, rng.choice(pickles), pickles)
        else:
            yield _instructions(rng, rng.choice(pickles))


def check(content: bytes, folder: Path) -> None:
    value = load_plain_pickle(io.BytesIO(content), "p.pkl")
    compare(value, reference(content))
    path = folder / "pyannot.pkl"
    path.write_bytes(content)
    for name, tubes in read_pyannot(path).items():
        assert len(tubes) == len(value[name]["annotations"])
        for tube, annotation in zip(tubes, value[name]["annotations"], strict=True):
            boxes = np.asarray(annotation["boxes"], np.float64)
            assert tube.start == int(annotation["sf"])
            assert (tube.boxes[:, :2] == boxes[:, :2]).all()
            assert (tube.boxes[:, 2:] - tube.boxes[:, :2] == boxes[:, 2:]).all()


@cache
def seeds() -> list[bytes]:
    """Good pickles: a part of the real annotation where it is there, else one like it; in every protocol."""
    if _REAL.is_file():
        with _REAL.open("rb") as file:
            data = load_plain_pickle(file, _REAL)
        data = {key: data[key] for key in list(data)[:6]}
    else:
        rng = np.random.default_rng(0)
        data = {
            np.str_(f"Surfing/v_Surfing_g01_c0{i}"): {
                "annotations": [
                    {"label": 17, "sf": 3, "ef": 3 + n, "boxes": rng.integers(0, 99, (n, 4)).astype(kind, order="F")}
                    for n, kind in ((5, np.uint8), (9, np.uint16))
                ],
                "numf": np.uint8(50),
                "label": 17,
            }
            for i in range(3)
        }
    return [pickle.dumps(data, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


def _instructions(rng: random.Random, content: bytes) -> bytes:
    """Whole instructions left out, repeated or swapped: what comes is still a pickle, of something else."""
    starts = [place or 0 for _, _, place in pickletools.genops(content)] + [len(content)]
    parts = [content[a:b] for a, b in pairwise(starts)]
    for _ in range(rng.choice((1, 2, 3))):
        i, k = rng.randrange(1, len(parts) - 1), rng.randrange(1, len(parts) - 1)
        kind = rng.randrange(3)
        if kind == 0:
            del parts[i]
        elif kind == 1:
            parts.insert(i, parts[k])
        else:
            parts[i], parts[k] = parts[k], parts[i]
    return b"".join(parts)


class _Begun:
    """What the reference makes of an array or a dtype: only what it is told."""

    def __init__(self, *told: Any) -> None:
        self.told = told
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def dtype(self) -> np.dtype:
        return np.dtype(self.told[0]).newbyteorder(self.state[1])

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        return np.ndarray(shape, dtype.dtype(), bytes(data), order="F" if fortran else "C")


class _Reference(pickle._Unpickler):  # type: ignore[name-defined]
    """The standard library's own reader in Python, whose calls are only noted."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "scalar":
            return lambda dtype, data: np.ndarray((), dtype.dtype(), bytes(data))[()]
        if name == "_frombuffer":
            return lambda data, dtype, shape, order: np.ndarray(shape, dtype.dtype(), bytes(data), order=order)
        if name == "encode":
            return lambda text, encoding: text.encode(encoding)
        return bytes if name == "bytes" else _Begun

    def load_frame(self) -> None:
        self.read(8)  # only a hint on how much to read ahead

    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.FRAME[0]: load_frame}  # type: ignore[attr-defined]


def reference(content: bytes) -> Any:
    """What a pickle of plain data holds; arrays are not built."""
    return _Reference(io.BytesIO(content), encoding="latin-1").load()


def compare(value: Any, expected: Any) -> None:
    """Both are the same in types, order and bytes."""
    if isinstance(expected, _Begun):
        expected = expected.array()
    assert type(value) is type(expected), (type(value), type(expected))
    if isinstance(value, dict):
        compare(list(value), list(expected))
        compare(list(value.values()), list(expected.values()))
    elif isinstance(value, list | tuple):
        assert len(value) == len(expected)
        for ours, theirs in zip(value, expected, strict=True):
            compare(ours, theirs)
    elif isinstance(value, np.ndarray | np.generic):
        assert (value.dtype, value.shape, value.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    else:
        assert value == expected or value != value


def refused(content: bytes, folder: Path) -> None:
    """A pickle that `load_plain_pickle` does not take.

    Raises:
        AosaError: so it is.
    """
    raise AssertionError(f"taken: {type(load_plain_pickle(io.BytesIO(content), 'p.pkl'))}")


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def _dtype(
    name: str, order: str = "<", size: int = -1, fields: bytes = b"NN", align: int = -1, flags: int = 0
) -> bytes:
    state = _tuple(_int(3), _text(order), b"N", fields, _int(size), _int(align), _int(flags))
    return b"cnumpy\ndtype\n" + _tuple(_text(name), b"\x89", b"\x88") + b"R" + state + b"b"


_BEGIN = b"cnumpy.core.multiarray\n_reconstruct\n" + _tuple(b"cnumpy\nndarray\n", _tuple(_int(0)), _bytes(b"b")) + b"R"


def _array(dtype: bytes, shape: bytes, data: bytes, version: int = 1, fortran: bytes = b"\x89") -> bytes:
    return _BEGIN + _tuple(_int(version), shape, dtype, fortran, data) + b"b"


def _scalar(dtype: bytes, data: bytes) -> bytes:
    return b"cnumpy.core.multiarray\nscalar\n" + _tuple(dtype, data) + b"R"


def _buffer(data: bytes, dtype: bytes, shape: bytes, order: str = "C") -> bytes:
    return b"cnumpy.core.numeric\n_frombuffer\n" + _tuple(data, dtype, shape, _text(order)) + b"R"


_FAR = b"}" + _text("a") + _tuple(_dtype("f8"), _int(1 << 30)) + b"s"  # a field a gigabyte beyond its bytes
_U1, _F8, _EIGHT = _dtype("u1", "|"), _dtype("f8"), _bytes(bytes(8))
_HUGE = b"\x8a\x08" + struct.pack("<q", 1 << 62)

# Each is to be refused; none may crash, hang or take memory. STOP and the protocol are added below.
_BODIES: dict[str, bytes] = {
    "field_out_of_bounds": _array(_dtype("V8", "|", 8, _tuple(_text("a")) + _FAR, 1), _tuple(_int(1)), _EIGHT),
    "scalar_field_out_of_bounds": _scalar(_dtype("V8", "|", 8, _tuple(_text("a")) + _FAR, 1), _EIGHT),
    "object_pointer": _array(_dtype("O8", "|"), _tuple(_int(1)), _EIGHT),
    "object_pointer_by_flags": _array(_dtype("V8", "|", 8, align=1, flags=0x3F), _tuple(_int(1)), _EIGHT),
    "object_scalar": _scalar(_dtype("O8", "|"), _EIGHT),
    "object_buffer": _buffer(_EIGHT, _dtype("O8", "|"), _tuple(_int(1))),
    "object_list": _array(_dtype("O8", "|"), _tuple(_int(1)), b"]Na"),
    "size_of_dtype": _array(_dtype("f8", "<", 1 << 30), _tuple(_int(1)), _EIGHT),
    "size_of_text": _array(_dtype("U2", "<", 1 << 28), _tuple(_int(1)), _EIGHT),
    "text_beyond_unicode": _array(_dtype("U2", "<", 8), _tuple(_int(1)), _bytes(b"\xff" * 8)),
    "shape_too_large": _array(_F8, _tuple(_int(1000)), _EIGHT),
    "shape_that_overflows": _array(_U1, _tuple(_HUGE, _HUGE, _int(16)), _bytes(b"")),
    "shape_negative": _array(_U1, _tuple(_int(-1), _int(-8)), _EIGHT),
    "shape_of_bools": _array(_U1, _tuple(b"\x88", _int(8)), _EIGHT),
    "shape_of_many": _array(_U1, _tuple(_int(8), *[_int(1)] * 40), _EIGHT),
    "shape_empty_and_huge": _array(_U1, _tuple(_int(0), *[_HUGE] * 3), _bytes(b"")),
    "scalar_too_short": _scalar(_F8, _bytes(b"a")),
    "scalar_too_long": _scalar(_F8, _bytes(bytes(9))),
    "buffer_too_short": _buffer(_bytes(bytes(4)), _F8, _tuple(_int(1))),
    "bool_of_other_bytes": _array(_dtype("b1", "|"), _tuple(_int(8)), _bytes(b"\x02" * 8)),
    "byte_order": _array(_dtype("f8", "x"), _tuple(_int(1)), _EIGHT),
    "array_version": _array(_F8, _tuple(_int(1)), _EIGHT, version=0),
    "array_unbuilt": _BEGIN,
    "array_built_elsewhere": _BEGIN + b"q\x00" + b"]h\x00a" + b"N" + b"0",
    "array_of_another_class": _BEGIN.replace(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"),
    "array_begun_large": _BEGIN.replace(_tuple(_int(0)), _tuple(_int(1 << 30))),
    "array_called": b"cnumpy\nndarray\n" + _tuple(_tuple(_int(1 << 30))) + b"R",
    "dtype_as_value": _dtype("f8"),
    "dtype_of_structure": b"cnumpy\ndtype\n" + b"(" + b"]" + b"tR",
    "dtype_with_metadata": _array(_dtype("f8").replace(b"tb", b"}tb"), _tuple(_int(1)), _EIGHT),
    "class_as_value": b"cnumpy\nndarray\n",
    "state_of_a_function": b"cnumpy.core.multiarray\nscalar\n" + b"N}" + _text("__defaults__") + b"Ns\x86b",
    "state_of_a_class": b"cnumpy\nndarray\n" + b"}" + _text("x") + b"Nsb",
    "state_of_a_dict": b"}" + b"}" + _text("x") + b"Nsb",
    "bytes_of_a_size": b"cbuiltins\nbytes\n" + _tuple(_int(1 << 30)) + b"R",
    "encoding": b"c_codecs\nencode\n" + _tuple(_text("x"), _text("zlib")) + b"R",
    "persistent_id": b"Pabc\n",
    "extension": b"\x82\x01",
    "instance": b"(ios\nsystem\n",
    "new_object": b"cnumpy\nndarray\n)\x81",
    "memo_index": b"Nr\xff\xff\xff\x7fj\xff\xff\xff\x7f0",
    "memo_index_negative": b"Np-1\n",
    "protocol_of_no_python": b"\x80\xc3N",
    "claim_of_bytes": b"\x8e" + struct.pack("<Q", 1 << 40) + b"x",
    "claim_of_bytearray": b"\x96" + struct.pack("<Q", 1 << 40) + b"x",
    "claim_of_text": b"\x8d" + struct.pack("<Q", 1 << 62) + b"x",
    "claim_of_number": b"\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"x",
    "number_of_many_digits": b"L" + b"9" * 4000 + b"L\n",
    "number_of_many_bytes": b"\x8b" + struct.pack("<i", 1 << 16) + b"\x7f" * (1 << 16),
    "deep_lists": b"]" * 100_000 + b"a" * 99_999,
    "deep_tuples": b")" + b"\x85" * 200_000,
    "deep_key": b"}" + b")" + b"\x85" * 200_000 + b"Ns",
    "deep_item_of_a_set": b"\x8f(" + b")" + b"\x85" * 200_000 + b"\x90",
    "deep_encoding": b"c_codecs\nencode\n" + _text("x") + b")" + b"\x85" * 200_000 + b"\x86R",
    "deep_dtype": b"cnumpy\ndtype\n" + b")" + b"\x85" * 200_000 + b"\x85R",
    "list_in_itself": b"]q\x00h\x00a",
    "laughs": b"]q\x00Na" + b"".join(b"]q%c(%be" % (i, b"h%c" % (i - 1) * 10) for i in range(1, 30)),
    "laughs_as_shape": _array(
        _U1, b")q\x00" + b"".join(b"(%btq%c" % (b"h%c" % (i - 1) * 10, i) for i in range(1, 30)), _EIGHT
    ),
    "many_marks": b"(" * 3_000_000,
    "many_sets": b"\x8f" * 3_000_000,
    "one_buffer_many_times": _bytes(bytes(1 << 20))
    + b"q\x00"
    + _F8.replace(b"R", b"Rq\x01", 1)
    + b"("
    + b"".join(_buffer(b"h\x00", b"h\x01", _tuple(_int(1 << 17))) for _ in range(9000))
    + b"l",
    "one_array_many_times": _array(_U1, _tuple(_int(1 << 20)), _bytes(bytes(1 << 20)))
    + b"q\x00("
    + b"h\x00" * 9000
    + b"l",
    "unhashable_key": b"}]Ns",
    "half_a_pair": b"}(Nu",
    "half_a_surrogate": b"X\x03\x00\x00\x00\xed\xa0\x80",
    "nothing": b"",
}  # fmt: skip
CRAFTED = {name: b"\x80\x04" + body + b"." for name, body in _BODIES.items()}
