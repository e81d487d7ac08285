"""The configs as a registry: find them, compose them, build what they describe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

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
    finally:
        running.hydra = hydra


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
