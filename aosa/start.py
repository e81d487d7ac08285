"""A stage as a process: what Ctrl-C, SIGTERM and a closed pipe mean, from its first moment to its last."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

INTERRUPTED = "\ninterrupted; what is finished is kept, the same command goes on from there"
CLOSED_PIPE = 128 + 13  # as a shell tells SIGPIPE


def main(stage: str) -> None:
    """Run a stage as `aosa.cli.main` does, and exit.

    Ctrl-C or SIGTERM stops the work, which tidies up, and is told in one line; the second ends the process at once. The
    exit status then is 130 or 143. A reader that goes away (``| head``) ends it quietly with 141.
    """
    _handle(_end)  # there is nothing to tidy up yet
    _exit_as(lambda: _cli(f"aosa.stages.{stage}").main(stage))


def entry() -> None:
    """The console command: ``aosa <stage> [overrides]``."""
    _handle(_end)
    _exit_as(lambda: _cli().entry())


def _cli(*more: str) -> Any:
    for module in more:
        import_module(module)
    cli = import_module("aosa.cli")
    _handle(_stop)
    return cli


def _exit_as(work: Callable[[], None]) -> None:
    try:
        work()
        status: Any = 0
    except SystemExit as ended:
        status = ended.code
    except BrokenPipeError:  # as it told an error
        status = CLOSED_PIPE
    _handle(_quit)
    sys.exit(_flush() or status)


def _flush() -> int:
    """Write out what is still to be printed; 0, or the status that says it cannot be."""
    status = 0
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # closed from the start
            continue
        try:
            stream.flush()
        except OSError as error:
            # Python would try again as it ends, and tell it with a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if isinstance(error, BrokenPipeError):
                status = CLOSED_PIPE
            else:
                print(f"error: cannot print: {error.strerror}", file=sys.stderr)
                status = 1
    return status


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    """What the two signals do from now on; one that the shell has this process ignore stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    _handle(_end)
    raise KeyboardInterrupt(number)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"{INTERRUPTED}\n".encode())
    _quit(number, frame)


def _quit(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _as_before() -> None:
    """A process that this one forks (a loader of clips) takes the two signals as Python has them."""
    if signal.getsignal(signal.SIGTERM) in (_stop, _end, _quit):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_as_before)
