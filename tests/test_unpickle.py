"""Pickles that hold plain data are read; whatever asks for more is refused and never run."""

from __future__ import annotations

import codecs
import io
import os
import pickle
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aosa.errors import AosaError
from aosa.unpickle import load_plain_pickle
from tests.fuzz.harness import Pool
from tests.fuzz.pickles import CRAFTED, compare, reference


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(protocol: int) -> None:
    data = {"a": [1, 2.5, None, True, (b"x", "ü")], "boxes": np.arange(8, dtype=np.int16).reshape(2, 4), 3: {"f": 0.1}}
    data["number"] = np.float32(0.25)
    back = load_plain_pickle(io.BytesIO(pickle.dumps(data, protocol)), "p.pkl")
    assert (back["boxes"] == data["boxes"]).all()
    assert back["boxes"].dtype == np.int16
    assert {k: v for k, v in back.items() if k != "boxes"} == {k: v for k, v in data.items() if k != "boxes"}


def test_arrays_of_old_numpy_are_read() -> None:
    new = pickle.dumps(np.arange(3.0), protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    assert load_plain_pickle(io.BytesIO(old), "p.pkl").tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(-6, 6, dtype=">i4").reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.uint16).reshape(3, 4)),
        np.array([[True], [False]]),
        np.array([np.nan, np.inf, -0.0], np.float16),
        np.empty((0, 4), np.uint8),
        np.array(2**64 - 1, np.uint64),
        np.array(["Surfing", "Ü"]),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_arrays_come_back_with_dtype_shape_and_order(array: np.ndarray, protocol: int) -> None:
    back = load_plain_pickle(io.BytesIO(pickle.dumps([array, array[()]], protocol)), "p.pkl")
    compare(back, [array, array[()]])
    assert back[0].flags.f_contiguous == array.flags.f_contiguous
    assert back[0].flags.writeable
    assert back[0].base is None


def test_text_scalars_are_keys() -> None:
    data = {np.str_("Surfing/v_Surfing_g01_c01"): np.uint8(3)}
    back = load_plain_pickle(io.BytesIO(pickle.dumps(data, 3)), "p.pkl")
    assert back == data
    assert type(next(iter(back))) is np.str_


def test_one_list_in_several_places_is_read() -> None:
    shared = [1, (2,)]
    data = {"a": shared, "b": shared, "c": {1, 2}, "d": frozenset("x"), "e": bytearray(b"y"), "f": shared[1]}
    assert load_plain_pickle(io.BytesIO(pickle.dumps(data, 5)), "p.pkl") == data


@pytest.fixture(scope="module")
def child() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("name", CRAFTED)
def test_a_pickle_made_to_do_harm_is_refused(name: str, child: Pool) -> None:
    """In a process of its own: some end a process that follows them."""
    figures = child.run("pickles", [CRAFTED[name]])
    assert not figures.findings, figures.findings[0].what
    assert figures.refused == 1
    assert figures.peak < 1500, f"{figures.peak} MiB"


def test_a_file_of_more_bytes_than_are_read_is_refused() -> None:
    with pytest.raises(AosaError, match=r"p\.pkl: refused: a pickle of more than 100 bytes"):
        load_plain_pickle(io.BytesIO(pickle.dumps("x" * 100)), "p.pkl", most=100)


@pytest.mark.real
def test_the_real_annotation_is_what_it_was(shared_data: Path) -> None:
    path = shared_data / "ucf101_24" / "pyannot.pkl"
    with path.open("rb") as file:
        data = load_plain_pickle(file, path)
    assert len(data) == 3194
    compare(data, reference(path.read_bytes()))


class Calls:
    """Unpickled without care, it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_bytes_of_old_protocols_come_in_one_encoding_only() -> None:
    with pytest.raises(AosaError, match=r"p\.pkl: not a readable pickle"):
        load_plain_pickle(io.BytesIO(pickle.dumps(Calls(codecs.encode, b"aosa", "zlib"), 3)), "p.pkl")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("function", [os.mkdir, exec, getattr])
def test_a_function_is_refused_by_name_and_not_called(
    function: Callable[..., Any], protocol: int, nested: bool, tmp_path: Path
) -> None:
    victim = str(tmp_path / "pwned")
    arguments = {os.mkdir: (victim,), exec: (f"import os; os.mkdir({victim!r})",), getattr: ("", "join")}
    payload: Any = Calls(function, *arguments[function])
    if nested:  # inside an array of objects, behind what is allowed
        inner, payload = payload, np.empty(1, object)
        payload[0] = inner
    content = pickle.dumps({"boxes": payload}, protocol)
    with pytest.raises(AosaError, match=rf"evil\.pkl: refused: this pickle asks for \w+\.{function.__name__}"):
        load_plain_pickle(io.BytesIO(content), "evil.pkl")
    assert not (tmp_path / "pwned").exists()


def test_a_class_is_refused_too() -> None:
    with pytest.raises(AosaError, match=r"refused: this pickle asks for fractions\.Fraction"):
        load_plain_pickle(io.BytesIO(pickle.dumps(Fraction(1, 3))), "p.pkl")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", pickle.dumps({"a": np.arange(100)})[:60]])
def test_a_broken_pickle_is_named(content: bytes) -> None:
    with pytest.raises(AosaError, match=r"broken\.pkl: not a readable pickle"):
        load_plain_pickle(io.BytesIO(content), "broken.pkl")
