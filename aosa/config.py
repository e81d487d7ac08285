"""The configs as a registry: find them, compose them, build what they describe."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aosa.errors import AosaError, ConfigError


def config_dir() -> Path:
    """Folder of the configs: ``configs/`` of a checkout, ``aosa/configs`` of an installed wheel."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "base.yaml").is_file():
            return folder
    raise ConfigError(f"no configs beside {package}: install aosa from a wheel, or run it from a checkout")


def compose(config_name: str, overrides: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> DictConfig:
    """Compose a primary config as a script would; usable inside a running Hydra job, whose own
    ``--config-dir`` stays in force.

    Args:
        config_dirs: further folders to search for configs, as ``--config-dir``.

    Raises:
        ConfigError: an unknown key or choice; the message names those there are.
    """
    extra = list(config_dirs)
    if HydraConfig.initialized():
        own = HydraConfig.get().runtime.config_sources
        extra += [s.path for s in own if s.provider == "command-line" and s.path]
    if extra:
        paths = ",".join(quoted(f"file://{Path(path).absolute()}") for path in extra)
        overrides = [*overrides, f"hydra.searchpath=[{paths}]"]
    running = GlobalHydra.instance()
    hydra = running.hydra
    running.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            return hydra_compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(describe_composition(error, config_name, overrides, config_dirs)) from None
    finally:
        running.hydra = hydra


def describe_composition(
    error: Exception, config_name: str, overrides: Sequence[str], config_dirs: Sequence[str] = ()
) -> str:
    """What is wrong with the overrides, in one message: the key or choice, what was meant, those there are."""
    text = re.split(r"\n+Config search path", str(error))[0].strip()
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        hint = did_you_mean(name, error.options, f"{group}=")
        if group.startswith("hydra/"):
            hint = f"; pip install hydra-{name.split('_')[0]}-{group.rpartition('/')[2]}"
        return f"there is no {group}={name}{hint}\n  choices: {', '.join(error.options)}"
    found = re.match(r"(?:Could not override|Could not delete from config\.|Key) '([^']+)'", text)
    if not found:
        return text
    key = found.group(1)
    rest = [o for o in overrides if o.partition("=")[0].lstrip("+~") != key]
    if len(rest) == len(overrides):
        return text
    try:
        node = compose(config_name, rest, config_dirs)
    except ConfigError:
        return text
    parent = ""
    for part in key.split(".")[:-1]:
        below = OmegaConf.select(node, part)
        if not isinstance(below, DictConfig):
            break
        node, parent = below, f"{parent}{part}."
    keys = [f"{parent}{k}" for k in map(str, node) if not k.startswith("_")]
    return f"there is no key {key!r} in the config of {config_name}{did_you_mean(key, keys)}\n  keys: {', '.join(keys)}"


def did_you_mean(name: str, known: Sequence[str], prefix: str = "") -> str:
    """``; did you mean <name>?`` for the closest known name, empty when none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def quoted(value: str) -> str:
    """A text as a value of Hydra's override grammar, whatever characters it holds."""
    # A backslash is an escape only where a quote follows.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    return f'"{escaped}"'


def build(config: DictConfig | None, **extra: Any) -> Any:
    """Make the object that a config with ``_target_`` describes; lists and mappings arrive as plain Python.

    Raises:
        AosaError: as the object raised it, or a ConfigError that says which key could not be built.
    """
    _refuse_null(config)
    try:
        return instantiate(config, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, AosaError):
            cause = cause.__cause__
        if cause is None:
            reason = str(error.__cause__ or error).splitlines()[0]
            key = re.search(r"full_key: (.+)", str(error))
            cause = ConfigError(f"{key.group(1)}: {reason}" if key else reason)
        raise cause from None


def _refuse_null(config: Any) -> None:
    """Refuse null for an option whose type does not allow it, at any depth."""
    if not isinstance(config, DictConfig) or config._is_none() or config._is_missing():
        return
    target = OmegaConf.to_container(config, resolve=False).get("_target_")  # type: ignore[union-attr]
    try:
        known = inspect.signature(get_object(target)).parameters if isinstance(target, str) else {}
    except (HydraException, TypeError, ValueError):
        known = {}  # what cannot be found is told by the instantiation
    for key in config:
        kind = known[str(key)].annotation if str(key) in known else inspect.Parameter.empty
        allowed = kind is inspect.Parameter.empty or "None" in str(kind)
        if not allowed and OmegaConf.select(config, str(key), throw_on_missing=False) is None:
            raise ConfigError(f"{config._get_full_key(str(key))}=null: give a value")
        _refuse_null(config._get_node(key))
