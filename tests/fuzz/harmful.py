"""What the harness must see, for its own test; no group of `make fuzz`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from aosa.errors import AosaError


def check(content: bytes, folder: Path) -> None:
    if content == b"segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif content == b"hang":
        time.sleep(600)
    elif content == b"refuse":
        raise AosaError("this file is refused")
    elif content == b"error":
        raise KeyError("raw")
    elif content == b"wrong":
        raise AssertionError("another value")
    elif content == b"exit":
        sys.exit(1)
