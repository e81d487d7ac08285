"""aosa: explain video recognition networks, and check the published comparisons.

import aosa
model = aosa.load_model("r3d50", checkpoint="save_200.pth", num_classes=101)
clip = aosa.load_clip("clip.avi", model.spec)
saliency = aosa.explainers.AOSA(stride=8, box=16, neighbours=3)(model, clip, target=15)
aosa.overlay(clip, saliency).save("overlay.mp4")
scores = aosa.metrics.DeletionInsertion()(model, clip, saliency)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aosa import explainers, metrics
    from aosa.clip import Clip, InputSpec
    from aosa.data import load_clip
    from aosa.data.window import Window
    from aosa.models import load_model
    from aosa.models.base import VideoModel
    from aosa.report.overlay import contact_sheet, overlay
    from aosa.saliency import SaliencyMap
    from aosa.store.maps import load_map, save_map

try:
    __version__ = version("aosa")
except PackageNotFoundError:
    # Run from a checkout that is not installed.
    __version__ = "0+checkout"

__all__ = [
    "Clip",
    "InputSpec",
    "SaliencyMap",
    "VideoModel",
    "Window",
    "contact_sheet",
    "explainers",
    "load_clip",
    "load_map",
    "load_model",
    "metrics",
    "overlay",
    "save_map",
]

_HOMES = {
    "Clip": "aosa.clip",
    "InputSpec": "aosa.clip",
    "SaliencyMap": "aosa.saliency",
    "VideoModel": "aosa.models.base",
    "Window": "aosa.data.window",
    "contact_sheet": "aosa.report.overlay",
    "load_clip": "aosa.data",
    "load_map": "aosa.store.maps",
    "load_model": "aosa.models",
    "overlay": "aosa.report.overlay",
    "save_map": "aosa.store.maps",
}


def __getattr__(name: str) -> object:
    """What is asked for is imported then: PyTorch takes seconds, in which a command must know what Ctrl-C means."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    try:
        return import_module(f"aosa.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"aosa.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
