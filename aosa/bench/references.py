"""The published implementations, built from clones that the user has; nothing of them is part of aosa.

The folder holds clones under their public names: ``3D-ResNets-PyTorch`` (kenshohara), ``mmaction2`` (open-mmlab) and
``STP`` (shinkyo0513's Spatio-Temporal-Perturbations-for-Video-Attribution). mmaction2 needs mmengine, "mmcv-lite<2.2",
einops, scipy and importlib_metadata beside it; r2plus1d18 needs torchvision, timesformer_hf transformers. Building a
reference runs the clone's code.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_CONFIGS = {
    "slowfast_r50": "slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb.py",
    "tpn_r50": "tpn/tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb.py",
    "tanet_r50": "tanet/tanet_imagenet-pretrained-r50_8xb8-dense-1x1x8-100e_kinetics400-rgb.py",
    "timesformer": "timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py",
}
_KEPT: list[torch.library.Library] = []  # definitions vanish with their library


class NoReference(Exception):
    """There is none, or a clone or package that it needs is missing; the message says which."""


def reference(name: str, folder: str, num_classes: int) -> nn.Module:
    """The published network of a model, with random weights: B×3×T×H×W → B×K.

    Args:
        name: config name of the model.
        folder: holds the clones.

    Raises:
        NoReference: see there.
    """
    root = Path(folder).expanduser()
    if name in _CONFIGS:
        make: Callable[[], nn.Module] = lambda: _mmaction2(root, _CONFIGS[name], num_classes)  # noqa: E731
    elif name in _OTHERS:
        make = lambda: _OTHERS[name](root, num_classes)  # noqa: E731
    else:
        raise NoReference("none is known for torch")
    try:
        return make().eval()
    except (ImportError, FileNotFoundError) as error:
        raise NoReference(f"{error}") from None


def _r3d50(root: Path, num_classes: int) -> nn.Module:
    return _3d_resnets(root, "resnet.py", num_classes)


def _r2plus1d50(root: Path, num_classes: int) -> nn.Module:
    return _3d_resnets(root, "resnet2p1d.py", num_classes)


def _3d_resnets(root: Path, file: str, num_classes: int) -> nn.Module:
    options = {"n_classes": num_classes, "shortcut_type": "B", "conv1_t_size": 7, "conv1_t_stride": 1}
    return _module(root / "3D-ResNets-PyTorch", f"models/{file}").generate_model(50, **options)


def _r2plus1d18(root: Path, num_classes: int) -> nn.Module:
    return _torchvision().models.video.r2plus1d_18(num_classes=num_classes)


def _vgg16_lstm(root: Path, num_classes: int) -> nn.Module:
    return _module(root / "STP", "model_def/vgg16lstm.py").vgg16lstm_pytorch(num_classes)


def _timesformer_hf(root: Path, num_classes: int) -> nn.Module:
    _torchvision()  # which transformers imports where it is installed
    transformers = importlib.import_module("transformers")
    network = transformers.TimesformerForVideoClassification(transformers.TimesformerConfig(num_labels=num_classes))
    return _Call(network, lambda m, x: m(pixel_values=x.transpose(1, 2)).logits)


def _mmaction2(root: Path, config: str, num_classes: int) -> nn.Module:
    clone = _clone(root / "mmaction2")
    _torchvision()
    if str(clone) not in sys.path:
        sys.path.append(str(clone))
    sys.modules.setdefault("mmaction.models.multimodal", types.ModuleType("multimodal"))  # would need more packages
    engine = importlib.import_module("mmengine")
    engine.logging.MMLogger.get_instance("mmengine", log_level="ERROR")  # else it lists every weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what mmcv-lite leaves out
        importlib.import_module("mmaction.models")
    importlib.import_module("mmengine.registry").init_default_scope("mmaction")
    model = engine.Config.fromfile(str(clone / "configs" / "recognition" / config)).model
    _without_pretrained(model)
    model.cls_head.num_classes = num_classes
    recognizer = importlib.import_module("mmaction.registry").MODELS.build(model)
    if "Recognizer2D" in str(model.type):
        return _Call(recognizer, _of_frames)
    return _Call(recognizer, _of_clips)


def _of_clips(recognizer: Any, x: Tensor) -> Tensor:
    features = recognizer.backbone(x)
    return recognizer.cls_head(recognizer.neck(features)[0] if recognizer.with_neck else features)


def _of_frames(recognizer: Any, x: Tensor) -> Tensor:
    features = recognizer.backbone(x.transpose(1, 2).flatten(0, 1))
    return recognizer.cls_head(features, num_segs=x.shape[2])


def _without_pretrained(config: Any) -> None:
    """No weights are to be downloaded."""
    for key, value in list(config.items()):
        if key == "pretrained":
            config[key] = None
        elif isinstance(value, dict):
            _without_pretrained(value)


class _Call(nn.Module):
    """A network called in its own way."""

    def __init__(self, network: nn.Module, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.network, x)


def _clone(path: Path) -> Path:
    if not path.is_dir():
        raise NoReference(f"no clone at {path}")
    return path.resolve()


def _module(clone: Path, file: str) -> Any:
    """A module of a clone, whose folder is on the path only meanwhile."""
    path = [*sys.path]
    sys.path.insert(0, str(_clone(clone)))
    try:
        spec = importlib.util.spec_from_file_location(f"reference_{Path(file).stem}", clone / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path[:] = path


def _torchvision() -> Any:
    """torchvision, also where its operators are not built for this torch: networks need none of them."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        _KEPT.append(library)
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return importlib.import_module("torchvision")


_OTHERS: dict[str, Callable[[Path, int], nn.Module]] = {
    "r3d50": _r3d50,
    "r2plus1d50": _r2plus1d50,
    "r2plus1d18": _r2plus1d18,
    "vgg16_lstm": _vgg16_lstm,
    "timesformer_hf": _timesformer_hf,
}
