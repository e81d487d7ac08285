"""Every explainer on every model: a map of a real clip, or a refusal that names what is possible."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import nn

from aosa import Clip, InputSpec, VideoModel
from aosa.config import build, compose, config_dir
from aosa.data import load_clip
from aosa.errors import ConfigError
from aosa.explainers import Explainer
from aosa.models import randomise, settle
from aosa.models.checkpoints import head
from tests.running import common_options, run

# Small inputs and networks of reduced depth: frames, size, more arguments of the network.
MODELS = {
    "i3d": (9, 193, {}),
    "r2plus1d18": (8, 48, {}),
    "r2plus1d50": (8, 48, {}),
    "r3d50": (8, 48, {}),
    "r3d_tiny": (16, 64, {}),
    "slowfast_r50": (8, 64, {}),
    "tanet_r50": (8, 64, {}),
    "timesformer": (4, 64, {"frames": 4, "size": (64, 64), "depth": 2}),
    "timesformer_hf": (4, 64, {"frames": 4, "size": (64, 64), "depth": 2}),
    "tpn_r50": (8, 64, {}),
    "vgg16_lstm": (2, 224, {}),
}
# Fewer samples, so that a map takes a handful of passes; the methods stay what they are.
OPTIONS = {
    "aosa": ["stride={half}", "box={half}"],
    "osa": ["box=[2,{half},{half}]", "stride=[16,{half},{half}]"],
    "smooth_grad": ["samples=2"],
    "integrated_gradients": ["steps=2"],
    "ep3d": ["iterations=2"],
    "step": ["iterations=2"],
    "score_cam": ["channels=3"],
    "removal": ["samples=6", "segmentation=grid", "grid=[1,2,2]"],
    "lime3d": ["samples=6", "segmentation=grid", "grid=[1,2,2]"],
    "kernel_shap3d": ["samples=8", "segmentation=grid", "grid=[1,2,2]"],
    "rise3d": ["samples=4", "grid=[1,2,2]"],
    "loco": ["segmentation=grid", "grid=[1,2,2]"],
    "univariate": ["segmentation=grid", "grid=[1,2,2]"],
    "sos": ["grid=[1,2,2]"],
}
LARGE = {"i3d", "vgg16_lstm"}  # whose inputs cannot be small
TRANSFORMERS = {"timesformer", "timesformer_hf"}
UNDEFINED = {
    "attention_rollout": set(MODELS) - TRANSFORMERS,
    "eb_r": set(MODELS) - {"vgg16_lstm"},
    "guided_backprop": TRANSFORMERS,
    "saliency_tubes": {*TRANSFORMERS, "vgg16_lstm"},
}
EXPLAINERS = sorted(p.stem for p in (config_dir() / "explainer").glob("*.yaml"))


@lru_cache(maxsize=1)
def small(name: str) -> VideoModel:
    """The model of a config on a small input, each of its stages cut to the first block."""
    frames, side, arguments = MODELS[name]
    config = compose("explain_video", [f"model={name}"]).model
    network: nn.Module = build(config.network, num_classes=5, **arguments)
    for module in list(network.modules()):
        for child_name, child in module.named_children():
            if re.fullmatch(r"layer\d", child_name) and isinstance(child, nn.Sequential):
                setattr(module, child_name, child[:1])
    spec = InputSpec(frames=frames, size=(side, side), mean=config.spec.mean, std=config.spec.std)
    randomise(network, name)
    settle(network, spec)
    head(network)[1].weight.data *= 0.1  # so that no class is certain
    layers = config.target_layer
    if name in TRANSFORMERS:
        layers = "blocks.1.spatial.norm"
    return VideoModel(network, spec, name=name, device="cpu", target_layer=layers)


@lru_cache(maxsize=1)
def real_clip(data: Path, name: str) -> Clip:
    return load_clip(data / "ucf101" / "UCF-101" / "Surfing" / "v_Surfing_g01_c01.avi", small(name).spec)


def explainer_of(name: str, model: str) -> Explainer:
    key = max((k for k in OPTIONS if name == k or name.startswith(f"{k}_")), key=len, default="")
    options = [f"explainer.{o.format(half=MODELS[model][1] // 2)}" for o in OPTIONS.get(key, [])]
    if key == "aosa" and "single" not in name:
        options.append("explainer.neighbours=1")  # of four masks; joined with three, all would be one
    return build(compose("explain", [f"explainer={name}", *options]).explainer)


def test_all_models_are_swept() -> None:
    assert set(MODELS) == {p.stem for p in (config_dir() / "model").glob("*.yaml")}
    assert set(UNDEFINED) < set(EXPLAINERS)


# With these, one method that masks and one that goes back; the other pairs are slow.
FAST = {"r3d_tiny": EXPLAINERS, "timesformer": EXPLAINERS}
ONES = ["grad_cam", "osa"]


def pair(model: str, explainer: str) -> object:
    slow = explainer not in FAST.get(model, [] if model in LARGE else ONES)
    return pytest.param(model, explainer, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.real
@pytest.mark.parametrize(("model", "explainer"), [pair(m, e) for m in MODELS for e in EXPLAINERS])
def test_a_map_of_a_real_clip_or_a_refusal(model: str, explainer: str, shared_data: Path) -> None:
    method = explainer_of(explainer, model)
    if model in UNDEFINED.get(explainer, ()):
        with pytest.raises(ConfigError, match=rf"explainer={explainer}(.|\n)* (defined for|choose)"):
            method.check(small(model))
        return
    method.check(small(model))
    clip = real_clip(shared_data, model)
    saliency = method(small(model), clip).values
    assert tuple(saliency.shape) == clip.size
    assert torch.isfinite(saliency).all()
    assert float(saliency.std()) > 0


def test_an_undefined_pair_ends_before_any_clip_is_read(tmp_path: Path) -> None:
    ended = run("explain", "explainer=attention_rollout", "dataset.size=2", *common_options(tmp_path))
    assert ended.status == 1
    assert "explainer=attention_rollout reads divided space-time attention, which r3d_tiny" in ended.err
    assert not list(tmp_path.rglob("*.b2nd"))
