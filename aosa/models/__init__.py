"""The models: one architecture, one file; what a config describes is built here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aosa.clip import InputSpec
from aosa.data.class_names import read_class_names
from aosa.errors import CheckpointError, ConfigError
from aosa.memory import is_out_of_memory
from aosa.models.base import VideoModel, failed_pass
from aosa.models.checkpoints import load_weights
from aosa.rng import generator, key_seed

__all__ = ["VideoModel", "build_model", "load_model"]

DRAWN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)  # the layers that `randomise` draws


def build_model(
    network: nn.Module,
    spec: InputSpec | Mapping[str, Any],
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
    head: str = "softmax",
    layout: str = "BCTHW",
    output: str | int | None = None,
    output_layout: str = "BK",
    weights_key: str | None = None,
    hint: str = "",
    new_head: bool = False,
) -> VideoModel:
    """What every config of a model builds.

    Args:
        network: takes clips, B×3×T×H×W, and gives class scores, B×K; otherwise see `layout`, `output`, `output_layout`.
        spec: its input; a mapping holds the arguments of `InputSpec`.
        name: what folders and tables call it.
        class_names: K names; or the name of a list that comes with the package (``ucf101``, ``kinetics400``), or the
            path of a file of names, see `aosa.data.class_names.read_class_list`.
        weights: default weights, a file that comes with the package or a path.
        checkpoint: the user's weights, taken instead; ``random`` draws weights from a seed, for tests and benchmarks.
        weights_key: which of several sets of weights in the checkpoint, see `aosa.models.checkpoints.read_checkpoint`.
        hint: how to get the weights, said when they are not there.
        new_head: see `aosa.models.checkpoints.load_weights`; for training.
        target_layer, device, precision, batch_size, channels_last, head, layout, output, output_layout: see
            `VideoModel`.

    Raises:
        CheckpointError: no weights, or weights that do not fit.
        ConfigError: an option out of its range, or class names that do not fit the head.
    """
    if not isinstance(spec, InputSpec):
        try:
            spec = InputSpec(**spec)
        except TypeError as error:
            known = ", ".join(InputSpec.__dataclass_fields__)
            raise ConfigError(f"model.spec: {error}; its keys are {known}") from None
    if checkpoint == "random":
        randomise(network, name)
        try:
            settle(network, spec, layout)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            x = torch.empty(1, 3, spec.frames, *spec.size, device="meta")
            raise ConfigError(f"model {name}: {failed_pass(x, layout, error)}") from error
    elif checkpoint is not None:
        load_weights(network, checkpoint, new_head=new_head, weights_key=weights_key)
    elif weights:
        asset = Path(str(files("aosa") / "assets" / weights))
        path = asset if asset.is_file() else Path(weights).expanduser()
        if not path.is_file():
            raise CheckpointError(f"the weights of model {name} are not at {path}. {hint}".strip())
        load_weights(network, path, new_head=new_head, weights_key=weights_key)
    else:
        raise CheckpointError(f"model {name} comes without weights: give checkpoint=<file>. {hint}".strip())
    return VideoModel(
        network,
        spec,
        name=name,
        class_names=None if class_names is None else read_class_names(class_names, "model.class_names"),
        target_layer=target_layer,
        device=device,
        precision=precision,
        batch_size=batch_size,
        channels_last=channels_last,
        head=head,
        layout=layout,
        output=output,
        output_layout=output_layout,
    )


def load_model(name: str, *, num_classes: int | None = None, **options: object) -> VideoModel:
    """The model that ``configs/model/<name>.yaml`` describes.

    Args:
        num_classes: size of the head, when the checkpoint's differs from the config's; class names that do not fit
            it are dropped.
        options: keys of the config: checkpoint, device, precision, batch_size, class_names, target_layer …; and
            data_root, below which default weights lie.

    Raises:
        ConfigError: no such model or key.
        CheckpointError: see `build_model`.
    """
    from omegaconf import OmegaConf

    from aosa.config import build, compose, config_dir

    known = sorted(p.stem for p in (config_dir() / "model").glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"there is no model {name!r}; choose one of {', '.join(known)}, or write a config")
    root = compose("explain_video", [f"model={name}"])
    root.data_root = str(options.pop("data_root", root.data_root))
    config = root.model
    unknown = [key for key in options if key not in config]
    if unknown:
        raise ConfigError(f"model {name} has no option {unknown[0]!r}; it has {', '.join(map(str, config))}, data_root")
    for key, value in options.items():
        OmegaConf.update(config, key, str(value) if isinstance(value, Path) else value)
    if num_classes is not None:
        if "num_classes" not in config.network:
            raise ConfigError(f"model {name} has no model.network.num_classes: its head has one size")
        config.network.num_classes = num_classes
        if "class_names" not in options and config.class_names is not None:
            names = read_class_names(config.class_names, "model.class_names")
            config.class_names = config.class_names if len(names) == num_classes else None
    return build(config)


def randomise(network: nn.Module, seed: object) -> None:
    """Draw all weights anew from a seed, whatever the global RNG: He et al. 2015 for convolutions and linear layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_seed("weights", seed))
        for module in network.modules():
            if isinstance(module, DRAWN):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


@torch.no_grad()
def settle(network: nn.Module, spec: InputSpec, layout: str = "BCTHW") -> None:
    """Set the batch-norm statistics to those of one noise clip, as rough and as smooth as real ones are. Without it
    random residual networks give logits in the hundreds: probabilities of exactly 0 and 1, and no gradient."""
    x = _natural_noise((spec.frames, *spec.size))
    set_statistics(network, network, x if layout == "BCTHW" else x.transpose(1, 2).contiguous())


@torch.no_grad()
def set_statistics(network: nn.Module, part: nn.Module, x: Tensor) -> None:
    """Set the batch-norm statistics of a part of a network to those of an input of the whole; it is in evaluation mode
    afterwards."""
    network.eval()
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # a plain average, here of one
    network(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _natural_noise(size: tuple[int, int, int]) -> Tensor:
    """1×3×T×H×W of unit variance, with as much detail in every octave (a power spectrum of 1/f)."""
    x = torch.zeros(1, 3, *size)
    for octave in range(max(1, max(size).bit_length() - 1)):
        coarse = [max(1, n >> octave) for n in size]
        noise = torch.randn(1, 3, *coarse, generator=generator("settle", octave))
        x += nn.functional.interpolate(noise, size=size, mode="trilinear")
    return x / x.std()
