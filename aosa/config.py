"""The configs as a registry: find them, compose them, build what they describe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aosa.errors import AosaError, ConfigError
from aosa.fields import Checked
from aosa.hints import check_keys, check_type, classes_of, describe, fits
from aosa.options import as_text, check_name
from aosa.options import did_you_mean as did_you_mean


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
    overrides = [*overrides, *_searched(config_dirs)]
    try:
        with _hydra():
            return hydra_compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(describe_composition(error, config_name, overrides, config_dirs)) from None
    except ValueError as error:  # of Hydra: dataset=3, which is no name
        raise ConfigError(f"no config can be made of {' '.join(overrides)}: {error}") from None


def choices(group: str) -> list[str]:
    """The configs of a group (``model``), those of the folder given by ``--config-dir`` included."""
    with _hydra():
        loader = GlobalHydra.instance().config_loader()
        return list(loader.get_group_options(group, config_name="explain", overrides=_searched()))


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra with our configs; a job that runs has its own back afterwards."""
    running = GlobalHydra.instance()
    hydra = running.hydra
    running.clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            yield
    finally:
        running.hydra = hydra


def config_file(group: str, name: str) -> Path | None:
    """The file of a config (``explainer``, ``aosa``); None when there is none."""
    paths = (folder / group / f"{name}.yaml" for folder in (*given_dirs(), config_dir()))
    return next((path for path in paths if path.is_file()), None)


def given_dirs() -> list[Path]:
    """The folders of configs that a running job was given by ``--config-dir``."""
    if not HydraConfig.initialized():
        return []
    own = HydraConfig.get().runtime.config_sources
    return [Path(s.path) for s in own if s.provider == "command-line" and s.path]


def _searched(config_dirs: Sequence[str] = ()) -> list[str]:
    """The override that makes Hydra search further folders, and those that a running job was given."""
    extra = [*map(Path, config_dirs), *given_dirs()]
    paths = ",".join(quoted(f"file://{path.absolute()}") for path in extra)
    return [f"hydra.searchpath=[{paths}]"] if extra else []


def describe_composition(
    error: Exception, config_name: str, overrides: Sequence[str], config_dirs: Sequence[str] = ()
) -> str:
    """What is wrong with the overrides, in one message: the key or choice, what was meant, those there are."""
    text = re.split(r"\n+Config search path", str(error))[0].strip()
    if found := re.match(r"ConfigError raised while resolving interpolation: (.+)", text):
        return found.group(1)  # by a resolver of ours
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        hint = did_you_mean(name, error.options, f"{group}=")
        if group.startswith("hydra/"):
            hint = f"; pip install hydra-{name.split('_')[0]}-{group.rpartition('/')[2]}"
        return f"there is no {group}={name}{hint}\n  choices: {', '.join(error.options)}"
    found = re.match(r"(?:Could not override|Could not delete from config\.|Key) '([^']+)'", text)
    if not found:
        return _unresolved(error) if isinstance(error, OmegaConfBaseException) else text
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
    if key in keys and text.startswith("Could not override"):
        return f"{key}: {config_name} takes its keys one by one, as {key}.<key>=<value>, and only those there are"
    return f"there is no key {key!r} in the config of {config_name}{did_you_mean(key, keys)}\n  keys: {', '.join(keys)}"


def quoted(value: str) -> str:
    """A text as a value of Hydra's override grammar, whatever characters it holds."""
    # A backslash is an escape only where a quote follows.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    return f'"{escaped}"'


def plain(config: DictConfig | ListConfig) -> Any:
    """A config as plain Python, its interpolations resolved.

    Raises:
        ConfigError: one that leads nowhere, or a key without a value; it names the key.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_unresolved(error)) from None


def check(config: DictConfig, kind: type | tuple[type, ...] = object, **extra: Any) -> dict[str, Any]:
    """All checks of `build` that make nothing. Returns the config as plain Python.

    Raises:
        ConfigError: naming the key.
    """
    options = plain(config)
    _check_target(config._get_full_key(""), options, kind if isinstance(kind, tuple) else (kind,), extra)
    return dict(options)


def build(config: DictConfig | None, kind: type | tuple[type, ...] = object, **extra: Any) -> Any:
    """Make the object that a config with ``_target_`` describes; lists and mappings arrive as plain Python. All of it
    is checked first: that each ``_target_`` is a class of the right kind (or a function that is annotated to return
    one), that it has each option, and that each value is of the option's type, by the annotations; a
    `aosa.fields.Checked` class checks the values of its fields itself.

    Args:
        kind: what it must be an instance of; parts within by the annotation of the option that takes them, or a
            network where there is none.
        extra: further options, already made.

    Raises:
        AosaError: as the object raised it, or a ConfigError that says which key could not be built.
    """
    if config is None:
        raise ConfigError("there is no config to build from: the key is null")
    key = config._get_full_key("")
    options = check(config, kind, **extra)
    try:
        made = instantiate(config, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, AosaError):
            cause = cause.__cause__
        if cause is None:
            from aosa.memory import is_out_of_memory  # PyTorch is slow to import

            if error.__cause__ is not None and is_out_of_memory(error.__cause__):
                raise error.__cause__ from None
            reason = str(error.__cause__ or error).splitlines()[0]
            found = re.search(r"full_key: (.+)", str(error))
            cause = ConfigError(f"{found.group(1)}: {reason}" if found else reason)
        raise cause from None
    if not isinstance(made, kind):
        raise ConfigError(f"{key}._target_={options['_target_']} gives {type(made).__name__}: give {_kinds(kind)}")
    return made


def _check_target(key: str, value: Any, kinds: tuple[type, ...], extra: Mapping[str, Any], expect: str = "") -> None:
    """Refuse what cannot be built from a plain mapping, see `build`; `expect` says what would be of the right kind."""
    if not isinstance(value, dict) or not isinstance(value.get("_target_"), str):
        raise ConfigError(f"{key}._target_ is missing: give the path of {_kinds(kinds)}, such as package.module.Name")
    target = value["_target_"]
    try:
        thing = get_object(target)
    except Exception as error:  # the module's own errors, too
        raise ConfigError(f"{key}._target_={target}: {str(error.__cause__ or error).splitlines()[0]}") from None
    try:
        made = thing if inspect.isclass(thing) else get_type_hints(thing).get("return")
    except (NameError, TypeError):
        made = None
    if not inspect.isclass(made) or not issubclass(made, kinds):
        hint = "" if inspect.isclass(thing) else ", or a function that is annotated to return one"
        right = f"give {expect}" if expect else f"that is none of {_kinds(kinds)}{hint}"
        raise ConfigError(f"{key}._target_={target}: {right}")
    parameters = inspect.signature(thing).parameters
    try:
        # A dataclass's __init__ does not know the names of the modules that its fields are inherited from.
        takes = thing if is_dataclass(thing) or not inspect.isclass(thing) else thing.__init__
        hints = get_type_hints(takes)
    except (NameError, TypeError):
        hints = {}  # names of its own that mean nothing here
    known = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    own = {p.name: p.metadata for p in fields(thing)} if inspect.isclass(thing) and issubclass(thing, Checked) else {}
    options = {name: option for name, option in value.items() if name != "_target_"}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(key, options, known)
    for name in known:
        if parameters[name].default is inspect.Parameter.empty and name not in {**options, **extra}:
            raise ConfigError(f"{key}.{name} is missing: give it a value")
    for name, option in options.items():
        if str(name).startswith("_"):
            raise ConfigError(f"{key}.{name}: Hydra's own keys are not for configs of aosa; leave it out")
        if name == "name":
            check_name(f"{key}.name", option)  # of folders and files
        elif name not in extra:
            expect = own[name].get("expect", "") if name in own else ""
            _check_option(f"{key}.{name}", option, hints.get(name, Any), expect, checks_itself=name in own)


def _check_option(key: str, value: Any, hint: Any, expect: str = "", checks_itself: bool = False) -> None:
    if isinstance(value, dict) and "_target_" in value:
        from torch import nn

        classes = classes_of(hint)
        if not classes and not fits(object(), hint):
            raise ConfigError(f"{key}: give {expect or describe(hint)}, no _target_")
        _check_target(key, value, classes or (nn.Module,), {}, expect)
        return
    if not checks_itself:  # its own message knows the range, too
        check_type(key, value, hint)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        _check_option(f"{key}.{name}" if isinstance(value, dict) else f"{key}[{name}]", part, Any)


def _kinds(kinds: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


def _unresolved(error: Exception) -> str:
    """What OmegaConf could not resolve, after its key."""
    reason, *about = str(error).splitlines()
    found = next((line.partition("full_key: ")[2] for line in about if "full_key: " in line), "")
    return f"{found}: {reason}" if found else reason


def folder_text(key: str, value: Any, home: bool = False) -> str:
    """The path of a folder, as it was given.

    Args:
        home: it may begin with ~, which is expanded where the path is used.

    Raises:
        ConfigError: naming the key; it is no text, empty, begins with ~ or holds control characters.
    """
    check_type(key, value, str)
    if not value or not value.isprintable() or (value.startswith("~") and not home):
        tilde = "" if home else "; ~ is not expanded here"
        raise ConfigError(f"{key}={as_text(value)}: give the path of a folder{tilde}")
    return str(value)


def registered(group: str, *without: str) -> list[str]:
    """The configs of a group but for some: ``${aosa.registered:explainer,eb_r}`` in a config."""
    return [name for name in choices(group) if name not in without]


OmegaConf.register_new_resolver("aosa.registered", registered, replace=True)
# For the folders that Hydra makes before a stage begins.
OmegaConf.register_new_resolver("aosa.output_root", partial(folder_text, "output_root"), replace=True)
