"""From a data set's class names to a model's."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

import yaml

from aosa.data.tables import read_text
from aosa.errors import ConfigError


def read_class_map(value: str | Path | Mapping[str, str] | None) -> dict[str, str]:
    """A mapping "class of the data set → class of the model".

    Args:
        value: the mapping itself, the path of a YAML file that holds one, or the name of one that
            comes with the package (``ucf101_to_kinetics400``).

    Raises:
        ConfigError: no such file or name, or not a mapping of names to names.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        assets = files("aosa") / "assets" / "class_maps"
        asset, path = assets / f"{value}.yaml", Path(value)
        if not path.is_file() and not ("/" not in str(value) and asset.is_file()):
            names = sorted(p.name.removesuffix(".yaml") for p in assets.iterdir() if p.name.endswith(".yaml"))
            raise ConfigError(f"dataset.class_map={value}: neither a YAML file nor one of {', '.join(names)}")
        text = read_text(path, "dataset.class_map") if path.is_file() else asset.read_text(encoding="utf-8")
        try:
            loaded = yaml.safe_load(text)
            node = yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"dataset.class_map={value}: not YAML ({error})") from None
        if not isinstance(loaded, Mapping):
            raise ConfigError(f"dataset.class_map={value}: must hold lines 'class of the data set: class of the model'")
        # YAML would take the last of two.
        twice = Counter(str(key.value) for key, _ in node.value).most_common(1)
        if twice and twice[0][1] > 1:
            raise ConfigError(f"dataset.class_map={value}: {twice[0][0]!r} is there twice")
        value = loaded
    wrong = [k for k, v in value.items() if not isinstance(k, str) or not isinstance(v, str)]
    if wrong:
        raise ConfigError(f"dataset.class_map: {wrong[0]!r} must map a class name to a class name (quote it?)")
    return {str(k): str(v) for k, v in value.items()}


def check_classes(wanted: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """`wanted` as a list, refused when a name is not among `known`.

    Raises:
        ConfigError: the message names close matches, and says when only the case differs.
    """
    wanted, known = [str(w) for w in wanted], list(known)
    for name in wanted:
        if name in known:
            continue
        same = [k for k in known if k.casefold() == name.casefold()]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"it differs only in case from {same[0]!r}" if same else f"close: {', '.join(close) or 'none'}"
        raise ConfigError(f"dataset.classes: {name!r} is not one of the {len(known)} classes of {where}; {hint}")
    return wanted
