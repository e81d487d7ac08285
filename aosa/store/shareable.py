"""What of a config, a command or a message others may see: no folders of this machine, nothing of its environment."""

from __future__ import annotations

import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

# Roots are this machine's own affair; so is how it is tracked.
_HIDDEN = ("data_root", "output_root", "tracking")
_ENVIRONMENT = "(environment)"
_FOLDERS = re.compile(r"(?<![\w./~}])~?/(?:[^\s/'\"]+/)+")
_FOUND = 6


def shareable(config: DictConfig) -> dict[str, Any]:
    """A config as others may see it: no roots, of absolute paths only the last part, and nothing that stands in the
    environment."""
    raw = _masked(OmegaConf.to_container(config, resolve=False))
    plain = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): _without_paths(value) for key, value in plain.items() if key not in _HIDDEN}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _masked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(v) for v in value]
    return _ENVIRONMENT if isinstance(value, str) and "oc.env" in value else value


def shareable_yaml(config: DictConfig) -> str:
    """See `shareable`."""
    return OmegaConf.to_yaml(OmegaConf.create(shareable(config)))


def hidden(value: Any, config: DictConfig) -> Any:
    """Plain values that were made of a config, as `shareable` has it: what the config takes from the environment is
    found by its text."""
    raw, resolved = (OmegaConf.to_container(config, resolve=resolve) for resolve in (False, True))
    return _without_paths(_without(value, _secrets(raw, resolved)))


def _secrets(raw: Any, resolved: Any) -> set[str]:
    """The texts that a config takes from the environment."""
    if isinstance(raw, dict):
        return {text for key in raw for text in _secrets(raw[key], resolved[key])}
    if isinstance(raw, list):
        return {text for pair in zip(raw, resolved, strict=True) for text in _secrets(*pair)}
    return {str(resolved)} if isinstance(raw, str) and "oc.env" in raw else set()


def _without(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without(v, secrets) for v in value]
    if str(value) in secrets:
        return _ENVIRONMENT
    if isinstance(value, str):
        for secret in secrets:
            if len(secret) >= _FOUND:  # shorter ones are found in any text
                value = value.replace(secret, _ENVIRONMENT)
    return value


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(v) for v in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return Path(value).name
    return as_cell(value)


def command_line() -> str:
    """What was typed, as others may see it: see `shareable`."""
    told = [a for a in sys.argv if re.split(r"[.=]", a.lstrip("+"), maxsplit=1)[0] not in _HIDDEN]
    return shlex.join(["python", *(str(as_cell(a)) for a in told)])


def as_cell(value: object) -> object:
    """A table's cell: numbers as Python has them, texts without the folders of this machine."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, str):
        return value
    for folder in (Path.cwd(), Path.home()):  # names of folders with blanks
        value = value.replace(f"{folder}/", "")
    return _FOLDERS.sub("", value)


class RemoveMultirun(Callback):
    """Hydra calls it after several runs at once, of which it writes down the folders of this machine."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Remove that file, which nothing reads."""
        (Path(config.hydra.sweep.dir) / "multirun.yaml").unlink(missing_ok=True)
