"""The sanity check: does a map change when the network's weights are drawn anew?"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from aosa.clip import Clip
from aosa.data.base import VideoDataset
from aosa.errors import ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.fields import option
from aosa.metrics.base import Metric
from aosa.models import DRAWN, randomise, set_statistics
from aosa.models.base import VideoModel
from aosa.rng import key_seed
from aosa.saliency import SaliencyMap
from aosa.schema import ALL, NUMBER, TEXT, Kind, alike, listing, optional

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass
class Sanity(Metric):
    """Cascading randomisation: likeness to the map of the maps that are made after the network's weights have been
    drawn anew from the classifier down to the first layer, stage by stage.

    Adebayo et al., NeurIPS 2018; AOSA journal IV-G and Fig. 8. A map that stays the same does not depend on what the
    network has learnt. Costs as many explanations as there are stages. It is a copy of the network that is
    randomised: the model stays as it is.

    The paper gives a picture and no numbers; what it leaves open is done thus. Convolutions and linear layers are drawn
    after He et al. 2015, with biases of 0; normalisations start anew, batch norm with the statistics of the clip
    (without which random residual networks are certain of one class, and have no gradient); other layers by their own
    ``reset_parameters``; parameters of none of these (a class token) are shuffled. SSIM is that of the maps stretched
    to [0, 1], per frame (7×7 windows), averaged over the frames.

    Record:
        stages, their names; spearman_curve and ssim_curve, of the map after each stage with the map scored, None where
        that is constant; spearman and ssim, those of the last stage.

    Raises:
        ConfigError: an option out of its range, or a stage that the network does not have or that has no weights.
    """

    name: ClassVar[str] = "sanity"
    version: ClassVar[int] = 2
    columns: ClassVar[dict[str, str]] = {"spearman": "lower", "ssim": "lower"}
    titles: ClassVar[dict[str, str]] = {"spearman": "Spearman's ρ", "ssim": "SSIM"}

    explainer: Explainer = option(meaning="what made the map; in a run, the run's own")
    seed: int = option(0, "of the draw", low=0)
    stages: Sequence[str] | None = option(
        None,
        "dotted names of the layers, from the classifier down, or patterns of such; None = all, last first",
        expect="names of layers, such as [fc, layer4], or null",
    )

    def schema(self) -> dict[str, Kind]:
        curves = dict.fromkeys(("spearman_curve", "ssim_curve"), listing(optional(NUMBER)))
        return {**super().schema(), "stages": listing(TEXT), **curves, ALL: alike("stages", *curves)}

    def check(self, model: VideoModel, dataset: VideoDataset) -> None:
        """Also: the explainer must be defined for the model, and each stage must have weights."""
        super().check(model, dataset)
        self.explainer.check(model)
        for stage in self.stages or ():
            _weights(model, stage, _matching(model, stage))

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        names, likeness = [], []
        for name, made in self.maps(model, clip, target):
            names.append(name)
            other = made.values
            constant = bool(other.max() == other.min())
            likeness.append((None, None) if constant else (spearman(saliency, other), ssim(saliency, other)))
        return {
            "stages": names,
            "spearman_curve": [rho for rho, _ in likeness],
            "ssim_curve": [s for _, s in likeness],
            "spearman": likeness[-1][0],
            "ssim": likeness[-1][1],
        }

    def passes(self, model: VideoModel, clip: Clip) -> Passes | None:
        """Counting the stages takes a forward pass of its own, where they are not named."""
        stages = len(self.stages or stages_of(model.network, model.arranged(clip.tensor(model.spec)[None])))
        each = self.explainer.passes(model, clip)
        if each is None:
            return None
        # At most one more a stage, for the statistics of batch norm, and one to find the stages.
        return Passes(stages * (each.forward + 1) + (self.stages is None), stages * each.backward)

    def maps(self, model: VideoModel, clip: Clip, target: int) -> Iterator[tuple[str, SaliencyMap]]:
        """The name of each stage, and the map once it too is random: what Fig. 8 shows."""
        randomised = copy.copy(model)
        network = randomised.network = copy.deepcopy(model.network)
        x = model.arranged(clip.tensor(model.spec)[None])
        drawn, redone = redrawn(network, self.seed), nn.ModuleList()
        for stage, layers, keys in self._plan(randomised, x):
            network.load_state_dict({key: drawn[key] for key in keys}, strict=False)
            redone.extend(network.get_submodule(layer) for layer in layers)
            set_statistics(network, redone, x)
            with torch.enable_grad():  # as the map was made, whatever the caller's mode
                saliency = self.explainer(randomised, clip, target)
            yield stage, saliency

    def _plan(self, model: VideoModel, x: Tensor) -> list[tuple[str, list[str], list[str]]]:
        """Each stage with its layers' names, and the keys of their weights and buffers."""
        if self.stages is None:
            groups = {layers[0] or "network": layers for layers in stages_of(model.network, x)}
        else:
            groups = {stage: _matching(model, stage) for stage in self.stages}
        plan = [(stage, layers, _weights(model, stage, layers)) for stage, layers in groups.items()]
        if self.stages is None:
            plan[-1][2].extend(set(model.network.state_dict()).difference(*(mine for _, _, mine in plan)))
        return plan


def _matching(model: VideoModel, pattern: str) -> list[str]:
    """The layers that a stage's name or pattern means, those of its own depth alone."""
    names = [name for name, _ in model.network.named_modules() if name.count(".") == pattern.count(".")]
    if not (layers := fnmatch.filter(names, pattern)):
        model.module(pattern)  # which says what there is
    return layers


def _weights(model: VideoModel, stage: str, layers: Sequence[str]) -> list[str]:
    """The keys of a stage's weights and buffers."""
    within = tuple(f"{layer}." for layer in layers)
    keys = [key for key in model.network.state_dict() if key.startswith(within)]
    if not keys and layers != [""]:
        raise ConfigError(f"metric.stages: {stage} has no weights to draw anew")
    return keys


def stages_of(network: nn.Module, x: Tensor) -> list[list[str]]:
    """The outermost layers with weights that a forward pass calls, the last called first; a normalisation is named
    after the layer before it, in one list. A network without any is one layer, named ``""``.

    Args:
        x: clips as the network takes them, see `aosa.models.base.VideoModel.arranged`.
    """
    called: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: object) -> None:
        called.setdefault(module, len(called))

    handles = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()

    def outermost(module: nn.Module, prefix: str = "") -> Iterator[tuple[int, str, nn.Module]]:
        for name, child in module.named_children():
            if child in called and next(child.parameters(), None) is not None:
                yield called[child], prefix + name, child
            elif child not in called:  # a container, whose parts are called one by one
                yield from outermost(child, f"{prefix}{name}.")

    groups: list[list[str]] = []
    for _, name, module in sorted(outermost(network), key=lambda found: found[0]):
        if groups and isinstance(module, _NORMS):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups[::-1] or [[""]]


def redrawn(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """All weights and buffers of a network after a new draw, see `Sanity`; made on the CPU, so that they are the same
    on every device."""
    network = copy.deepcopy(network).cpu()
    randomise(network, f"sanity {seed}")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_seed("sanity", seed))
        for module in network.modules():
            own = list(module.parameters(recurse=False))
            if not own or isinstance(module, DRAWN):
                continue
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                continue
            for parameter in own:
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return network.state_dict()


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of the voxels of two maps that are not constant; ties share their mean rank."""
    ours, theirs = (pd.Series(m.flatten().numpy()).rank() for m in (first, second))
    return float(np.corrcoef(ours, theirs)[0, 1])


def ssim(first: Tensor, second: Tensor) -> float:
    """Structural similarity of two maps that are not constant, each stretched to [0, 1], averaged over frames."""
    from skimage.metrics import structural_similarity  # slow to import, and only this metric needs it

    stretched = [((m - m.min()) / (m.max() - m.min())).double().numpy() for m in (first, second)]
    return float(np.mean([structural_similarity(a, b, data_range=1) for a, b in zip(*stretched, strict=True)]))
