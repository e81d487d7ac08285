"""Stage benchmark: speed and memory as ratios to what cannot be avoided."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, ListConfig

from aosa.bench import aosa, decode, explainers, memory, models
from aosa.bench.timing import moving_texture
from aosa.config import build
from aosa.environment import environment
from aosa.errors import ConfigError
from aosa.files import write_atomic
from aosa.models.base import VideoModel
from aosa.options import check_whole
from aosa.stages.keys import check_common

PARTS: dict[str, tuple[str, ModuleType]] = {
    "aosa": ("AOSA and AOSA-approx in full", aosa),
    "models": ("One clip's forward pass of each model", models),
    "explainers": ("Explainers against the passes they make, bare", explainers),
    "memory": ("Peak memory", memory),
    "decode": ("Video files against OpenCV", decode),
}


def run(config: DictConfig) -> int:
    """Print the parts named by ``what``; each ratio is between medians of repetitions done in turn in one process,
    after a warm-up of both.

    ``aosa``: AOSA against its N bare forward passes, AOSA-approx against one forward and backward pass, flow and
    tracking apart. ``models``: each model's forward pass, against the published implementation's where ``reference``
    is the folder of its clones (see `aosa.bench.references`). ``explainers``: each against the passes that it
    makes of the network, see `aosa.bench.explainers`. ``memory``: AOSA against bare passes, STEP against a
    training step. ``decode``: video files to RGB, against OpenCV. Written to ``<output_root>/bench/<model>.json`` too.

    Raises:
        ConfigError: an option out of its range.
    """
    check_common(config)
    wanted = _wanted(config)
    model: VideoModel = build(config.model, VideoModel)
    clip = moving_texture(model)
    where = environment(model)
    print(f"{model.name}, batch {model.batch_size}, {model.precision}, {where['device']}, {where['threads']} threads")
    found: dict[str, Any] = {"environment": where}
    for what in wanted:
        title, part = PARTS[what]
        print(title)
        if hasattr(part, "HEADER"):
            print(part.HEADER)
        found[what] = []
        for row in part.rows(config, model, clip):
            print(getattr(part, "line", aosa.line)(row), flush=True)
            found[what].append(row)
    path = Path(config.output_root) / "bench" / f"{model.name}.json"
    write_atomic(path, json.dumps(found, indent=1) + "\n")
    print(f"written: {path}")
    return 0


def _wanted(config: DictConfig) -> list[str]:
    wanted = list(config.what) if isinstance(config.what, ListConfig) else [config.what]
    unknown = [what for what in wanted if what not in PARTS]
    if unknown:
        raise ConfigError(f"what={unknown[0]}: choose of {', '.join(PARTS)}")
    for key in ("repeats", "model_repeats", "explainer_repeats"):
        check_whole("", **{key: (config[key], 1)})
    gone = [video for video in config.videos or [] if not Path(video).expanduser().is_file()]
    if gone:
        raise ConfigError(f"videos={gone[0]}: no such file")
    if config.reference is not None and not Path(config.reference).expanduser().is_dir():
        raise ConfigError(f"reference={config.reference}: no such folder; it holds the clones, such as mmaction2")
    return wanted
