"""The models: one architecture, one file; what a config describes is built here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from torch import nn

from aosa.clip import InputSpec
from aosa.errors import CheckpointError, ConfigError
from aosa.models.base import VideoModel
from aosa.models.checkpoints import load_weights
from aosa.rng import key_seed

__all__ = ["VideoModel", "build_model", "load_model"]


def build_model(
    network: nn.Module,
    spec: InputSpec,
    *,
    name: str,
    class_names: str | Sequence[str] | None = None,
    target_layer: str | Sequence[str] | None = None,
    weights: str | None = None,
    checkpoint: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int | str = "auto",
    channels_last: bool = False,
    hint: str = "",
) -> VideoModel:
    """What every config of a model builds.

    Args:
        network: B×3×T×H×W → B×K logits.
        spec: its input.
        name: what folders and tables call it.
        class_names: K names; or the name of a list that comes with the package (``ucf101``, ``kinetics400``), or the
            path of a text file with one name per line.
        weights: default weights, a file that comes with the package or a path.
        checkpoint: the user's weights, taken instead; ``random`` leaves the network as it was made, from a seed.
        hint: how to get the weights, said when they are not there.
        target_layer, device, precision, batch_size, channels_last: see `VideoModel`.

    Raises:
        CheckpointError: no weights, or weights that do not fit.
        ConfigError: an option out of its range, or class names that do not fit the head.
    """
    chosen = checkpoint or weights
    if chosen is None:
        raise CheckpointError(f"model {name} comes without weights: give checkpoint=<file>. {hint}".strip())
    if chosen == "random":
        randomise(network, name)
    else:
        asset = files("aosa") / "assets" / chosen
        path = Path(chosen).expanduser()
        if not path.is_file() and checkpoint is None:
            path = Path(str(asset)) if asset.is_file() else path
            if not path.is_file():
                raise CheckpointError(f"the weights of model {name} are not at {path}. {hint}".strip())
        load_weights(network, path)
    return VideoModel(
        network,
        spec,
        name=name,
        class_names=read_class_names(class_names),
        target_layer=target_layer,
        device=device,
        precision=precision,
        batch_size=batch_size,
        channels_last=channels_last,
    )


def load_model(name: str, *, num_classes: int | None = None, **options: object) -> VideoModel:
    """The model that ``configs/model/<name>.yaml`` describes.

    Args:
        num_classes: size of the head, when the checkpoint's differs from the config's; class names that do not fit
            it are dropped.
        options: keys of the config: checkpoint, device, precision, batch_size, class_names, target_layer …

    Raises:
        ConfigError: no such model or key.
        CheckpointError: see `build_model`.
    """
    from omegaconf import OmegaConf

    from aosa.config import build, compose, config_dir

    known = sorted(p.stem for p in (config_dir() / "model").glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"there is no model {name!r}; choose one of {', '.join(known)}, or write a config of your own")
    config = compose("explain_video", [f"model={name}"]).model
    unknown = [key for key in options if key not in config]
    if unknown:
        raise ConfigError(f"model {name} has no option {unknown[0]!r}; it has {', '.join(map(str, config))}")
    for key, value in options.items():
        OmegaConf.update(config, key, str(value) if isinstance(value, Path) else value)
    if num_classes is not None:
        config.network.num_classes = num_classes
        names = read_class_names(config.class_names)
        if "class_names" not in options and names is not None and len(names) != num_classes:
            config.class_names = None
    return build(config)


def read_class_names(source: str | Sequence[str] | None) -> list[str] | None:
    """Class names from a list, a packaged list's name, or a text file with one per line.

    Raises:
        ConfigError: neither a file nor a packaged list.
    """
    if source is None or not isinstance(source, str):
        return None if source is None else list(source)
    lists = files("aosa") / "assets" / "classes"
    asset, path = lists / f"{source}.txt", Path(source).expanduser()
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif "/" not in source and asset.is_file():
        text = asset.read_text(encoding="utf-8")
    else:
        names = sorted(p.name.removesuffix(".txt") for p in lists.iterdir())
        raise ConfigError(f"model.class_names={source}: neither a text file nor one of {', '.join(names)}")
    return [line.strip() for line in text.splitlines() if line.strip()]


def randomise(network: nn.Module, seed: object) -> None:
    """Draw all weights anew from a seed, whatever the global RNG: He et al. 2015 for convolutions and linear layers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_seed("weights", seed))
        for module in network.modules():
            if isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
