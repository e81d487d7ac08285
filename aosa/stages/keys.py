"""The keys that stand alone in the configs of the scripts: their types and ranges."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_type_hints

import torch
from omegaconf import DictConfig, ListConfig

from aosa.config import folder_text, plain
from aosa.data.window import WindowOptions
from aosa.errors import ConfigError
from aosa.hints import check_type, fits
from aosa.models.base import MOST_CLIPS
from aosa.options import LARGEST, as_text, check_choice, is_whole

# The keys of the scripts that stand alone; one name means the same in all of them.
_KEYS: dict[str, Any] = {
    "data_root": str,
    "output_root": str,
    "checkpoint": str | None,
    "device": str,
    "precision": str,
    "batch_size": int | Literal["auto"],
    "seed": int,
    "threads": int | None,
    "limit": int | None,
    "target": int | str,
    "dry_run": bool,
    # tabulate, reproduce
    "models": list[str] | None,
    "explainers": list[str] | None,
    "clips": str,
    "breakdown": str | None,
    "explain_cell": str | None,
    "engine": str,
    "accuracy_margin": float,
    # sweep
    "name": str,
    "column": str,
    # explain_video
    "video": str | None,
    "windows": str,
    "window_stride": int | None,
    "scale": str,
    **{part.name: get_type_hints(WindowOptions)[part.name] for part in fields(WindowOptions)},
    "fps": float | None,
    # prepare
    "workers": int | None,
    # download
    "weights": str | None,
    "table": str | None,
    "list": bool,
    # benchmark
    "what": str | list[str],
    "videos": list[str] | None,
    "repeats": int,
    "stride": int,
    "box": int,
    "neighbours": int,
    "model_repeats": int,
    "reference": str | None,
    "explainer_repeats": int,
    "memory_stride": int,
}

# Of those that all stages have: what would be right, where the type does not say it all, and the range of a number.
_EXPECTED = {
    "target": ("label, predicted, an index or a class name", -LARGEST, LARGEST),
    "limit": ("a whole number of at least 1, or null", 1, LARGEST),
    "threads": ("a whole number from 1 to 1024, or null", 1, 1024),
    "seed": ("a whole number of at least 0", 0, LARGEST),
    "batch_size": (f"auto or a whole number from 1 to {MOST_CLIPS}", 1, MOST_CLIPS),
}


def check_common(config: DictConfig) -> None:
    """Refuse keys of a script of another type, and the common ones out of range, before any work; and set the number of
    threads. Parts that are built (``dataset``, ``model``, …) are checked by `aosa.config.build`.

    Raises:
        ConfigError: naming the key.
    """
    for key in config:
        if key not in _KEYS:
            continue
        value = config[key]
        if isinstance(value, ListConfig | DictConfig):
            value = plain(value)
        if key in _EXPECTED:
            expect, low, high = _EXPECTED[str(key)]
            if not fits(value, _KEYS[str(key)]) or (is_whole(value) and not low <= value <= high):
                raise ConfigError(f"{key}={as_text(value)}: give {expect}")
        check_type(str(key), value, _KEYS[str(key)])
        if value == []:
            raise ConfigError(f"{key}=[]: name at least one")
        if value == "":
            raise ConfigError(f"{key} is empty: give a value")
    for key in ("data_root", "output_root"):
        if key in config:
            folder_text(key, config[key], home=key == "data_root")
    check_choice("", precision=(config.get("precision", "fp32"), ("fp32", "bf16", "fp16")))
    if config.get("threads"):
        torch.set_num_threads(config.threads)
