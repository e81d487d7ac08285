"""Runs a stage as a script: compose the config, call the stage, turn errors into one clear message."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aosa.config import compose, config_dir
from aosa.errors import AosaError

STAGES = ("prepare", "explain", "evaluate", "tabulate", "reproduce", "explain_video", "benchmark", "train")
_FULL = "HYDRA_FULL_ERROR"


def main(stage: str) -> None:
    """Run one stage with the overrides of the command line, and exit with its status.

    Exit status: 0 all done; 1 an error, told in one message; 3 finished, but some videos failed;
    130 interrupted. With ``HYDRA_FULL_ERROR=1`` errors show their traceback.
    """
    wants_traceback = os.environ.get(_FULL) == "1"
    module = importlib.import_module(f"aosa.pipeline.{stage}")
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=stage)
    def job(config: DictConfig) -> None:
        try:
            codes.append(module.run(config) or 0)
        except Exception as error:
            if wants_traceback:
                raise
            # Told here, so that the other jobs of a sweep go on.
            codes.append(_tell(error, stage))

    if wants_traceback:
        job()
    else:
        # Hydra then hands its errors on instead of printing them its own way.
        os.environ[_FULL] = "1"
        try:
            job()
        except KeyboardInterrupt:
            print("\ninterrupted; what is finished is kept, the same command goes on from there", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            sys.exit(_tell(error, stage))
        finally:
            del os.environ[_FULL]
    sys.exit(max(codes, default=0))


def _tell(error: Exception, stage: str) -> int:
    print(f"error: {describe(error, stage, sys.argv[1:])}", file=sys.stderr)
    return 1


def entry() -> None:
    """The console command: ``aosa <stage> [overrides]``."""
    stages = ", ".join(STAGES)
    if len(sys.argv) < 2 or sys.argv[1] not in STAGES:
        print(f"usage: aosa <stage> [key=value ...]\nstages: {stages}", file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    stage = sys.argv.pop(1)
    main(stage)


def describe(error: Exception, stage: str, overrides: Sequence[str]) -> str:
    """One message for the user."""
    if isinstance(error, AosaError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _quoting(error, stage)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error, stage, overrides)
    if isinstance(error, OSError):
        return _system(error)
    return f"{type(error).__name__}: {error}\n(a bug, or something aosa should have told you better; {_FULL}=1 shows where)"


def _quoting(error: OverrideParseException, stage: str) -> str:
    key, _, value = error.override.partition("=")
    if not value:
        return f"{error.override!r} is not an override: write key=value"
    inner = value.strip("'\"").replace("\\", "\\\\").replace('"', '\\"')
    return (
        f"the value of {key!r} holds characters that Hydra's grammar reserves; quote it twice:\n"
        f"  python scripts/{stage}.py '{key}=\"{inner}\"'"
    )


def _composition(error: Exception, stage: str, overrides: Sequence[str]) -> str:
    text = re.split(r"\n+Config search path", str(error))[0].strip()
    found = re.search(r"Could not override '([^']+)'", text)
    if not found:
        return text
    key = found.group(1)
    rest = [o for o in overrides if "=" in o and not o.startswith("-") and o.partition("=")[0].strip("+~") != key]
    try:
        config = compose(stage, rest)
    except Exception:
        return text
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    keys = [f"{parent}.{k}" if parent else str(k) for k in node] if isinstance(node, DictConfig) else []
    keys = [k for k in keys if not k.endswith("_target_")]
    close = difflib.get_close_matches(key, keys, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"there is no key {key!r} in the config of {stage}{hint}\n  keys: {', '.join(keys)}" if keys else text


def _system(error: OSError) -> str:
    where = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return (
            f"no room to write {where}: {error.strerror}. What is finished is kept; "
            f"free some space, or set output_root, and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return f"cannot write {where}: {error.strerror}. Set output_root to a folder that can be written"
    return f"{where}: {error.strerror or error}"
