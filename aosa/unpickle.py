"""Pickles of plain data, read without running what a pickle may ask for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

from aosa.errors import AosaError

# Arrays and numpy numbers; containers, strings and numbers need no global at all.
_ALLOWED = {
    (f"{package}.{module}", name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
} | {("numpy", "ndarray"), ("numpy", "dtype")}


def _latin1(text: str, encoding: str) -> bytes:
    """What protocols 0 to 2 write bytes with, for this one encoding."""
    return text.encode({"latin1": "latin1"}[encoding])


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], source: str | Path) -> None:
        super().__init__(file)
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in _ALLOWED:
            raise AosaError(
                f"{self.source}: refused: this pickle asks for {module}.{name}, and may hold nothing but "
                f"containers, numbers, strings and arrays"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_plain_pickle(file: IO[bytes], source: str | Path) -> Any:
    """Unpickle containers, numbers, strings and numpy arrays; nothing else is ever called.

    Args:
        source: what the messages call it.

    Raises:
        AosaError: the pickle asks for anything else, or is broken.
    """
    try:
        return _Unpickler(file, source).load()
    except AosaError:
        raise
    except Exception as error:  # a broken pickle can raise anything
        raise AosaError(f"{source}: not a readable pickle ({error})") from None
