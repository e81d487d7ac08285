"""Runs a stage as a script: compose the config, call the stage, turn errors into one clear message."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from multiprocessing import active_children
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from aosa.config import compose, config_dir, describe_composition, quoted
from aosa.errors import AosaError, ConfigError
from aosa.memory import out_of_memory
from aosa.start import CLOSED_PIPE, INTERRUPTED

STAGES = (
    "prepare",
    "explain",
    "evaluate",
    "accuracy",
    "tabulate",
    "reproduce",
    "explain_video",
    "benchmark",
    "train",
    "download",
    "sweep",
)
_FULL = "HYDRA_FULL_ERROR"


def main(stage: str) -> None:
    """Run one stage with the overrides of the command line, and exit with its status.

    Exit status: 0 all done; 1 an error, told in one message; 3 finished, but some videos failed;
    130 interrupted, 143 by SIGTERM; 141 nobody reads what it prints. With ``HYDRA_FULL_ERROR=1`` errors show their
    traceback.
    """
    # The folder of the scripts comes first there, and its names (tabulate) would hide packages.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(sys.argv[0]).resolve().parent]
    wants_traceback = os.environ.get(_FULL) == "1"
    module = importlib.import_module(f"aosa.stages.{stage}")
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=stage)
    def job(config: DictConfig) -> float | None:
        try:
            result = module.run(config)
        except Exception as error:
            if wants_traceback:
                raise
            if isinstance(error, BrokenPipeError):  # nobody is there to read it
                codes.append(CLOSED_PIPE)
                return None
            error = out_of_memory(error, config.get("batch_size")) or error
            # Told here, so that the other jobs of a sweep go on.
            codes.append(_tell(describe(error, stage, sys.argv[1:])))
            return None
        if isinstance(result, float):  # the score of one setting of a sweep
            return result
        codes.append(result or 0)
        return None

    if wants_traceback:
        job()
    else:
        # Hydra then hands its errors on instead of printing them its own way.
        os.environ[_FULL] = "1"
        try:
            job()
        except KeyboardInterrupt as stop:
            for child in active_children():  # which Python would wait for
                child.terminate()
            print(INTERRUPTED, file=sys.stderr)
            sys.exit(128 + (stop.args or (signal.SIGINT,))[0])
        except BrokenPipeError:
            sys.exit(CLOSED_PIPE)
        except (AosaError, HydraException, OmegaConfBaseException, OSError) as error:
            sys.exit(_tell(describe(error, stage, sys.argv[1:])))
        except Exception as error:
            sys.exit(_tell(_before_or_beside(error)))
        finally:
            del os.environ[_FULL]
    codes += getattr(module, "statuses", [])
    sys.exit(1 if 1 in codes else max(codes, default=0))


def _before_or_beside(error: Exception) -> str:
    """What went wrong outside of any job: a launcher's process died, or Hydra's own checks (dataset=null)."""
    if type(error).__module__.partition(".")[0] in ("submitit", "joblib"):
        return (
            f"a process of the sweep died ({type(error).__name__}): {error}\n"
            "what is finished is kept, the same command goes on from there"
        )
    return f"no config can be made of these options: {error}"


def _tell(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def entry() -> None:
    """The console command: ``aosa <stage> [overrides]``."""
    stages = ", ".join(STAGES)
    if len(sys.argv) < 2 or sys.argv[1] not in STAGES:
        print(f"usage: aosa <stage> [key=value ...]\nstages: {stages}", file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    stage = sys.argv.pop(1)
    main(stage)


def describe(error: Exception, stage: str, arguments: Sequence[str]) -> str:
    """One message for the user."""
    if isinstance(error, AosaError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _quoting(error, stage, arguments)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error, stage, arguments)
    if isinstance(error, OSError):
        return _system(error)
    return (
        f"{type(error).__name__}: {error}\n"
        f"(a bug, or something aosa should have told you better; {_FULL}=1 shows where)"
    )


def _quoting(error: OverrideParseException, stage: str, arguments: Sequence[str]) -> str:
    key, equals, _ = error.override.partition("=")
    if not equals:
        return f"{error.override!r} is not an override: write key=value"
    return (
        f"the value of {key!r} holds characters that Hydra's grammar reserves; quote it twice:\n"
        f"  {_command(stage, [_requote(a) if _is_override(a) and not _parses(a) else a for a in arguments])}"
    )


def _requote(override: str) -> str:
    key, _, value = override.partition("=")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return f"{key}={quoted(value)}"


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return False
    return True


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _command(stage: str, arguments: Sequence[str]) -> str:
    program = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else ["aosa", stage]
    return shlex.join([*program, *arguments])


def _composition(error: Exception, stage: str, arguments: Sequence[str]) -> str:
    found = re.match(r"Ambiguous value for argument '(.+)'", str(error))
    if found:
        override = found.group(1)
        key, _, value = override.partition("=")
        return (
            f"{override}: to run once for each of these values add -m; for a list write {key}=[{value}]; for one value "
            f"with commas:\n  {_command(stage, [_requote(a) if a == override else a for a in arguments])}"
        )
    if "requires --multirun" in str(error):
        # A sweep that does not compose is taken for a single run: what is wrong lies elsewhere.
        try:
            compose(stage, [a for a in arguments if a.startswith("hydra")], _config_dirs(arguments))
        except ConfigError as cause:
            return str(cause)
    return describe_composition(
        error, stage, [a for a in arguments if _is_override(a) or a.startswith("~")], _config_dirs(arguments)
    )


def _config_dirs(arguments: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    return parser.parse_known_args(arguments)[0].config_dir


def _system(error: OSError) -> str:
    where = str(error.filename or "a file")
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return (
            f"no room to write {where}: {error.strerror}. What is finished is kept; "
            f"free some space, or set output_root, and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return f"cannot write {where}: {error.strerror}. Set output_root to a folder that can be written"
    return f"{where}: {error.strerror or error}"
