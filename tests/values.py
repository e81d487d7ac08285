"""Values of maps, records and logits at fixed seeds, kept in values.json: ``python -m tests.values`` writes it
anew, with ``missing`` only what it lacks, as for a new explainer.

What must not change a value (moving code, another signature) is told from what does by `tests/test_values.py`. Bytes
depend on the CPU's kernels, so the file says which machine it is of; elsewhere numbers are compared instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits
from torch import Tensor

from aosa import Clip, SaliencyMap, VideoModel
from aosa.config import build, compose, config_dir
from tests.explainers.test_pairs import MODELS, UNDEFINED, small

FILE = Path(__file__).with_suffix(".json")
CLIPS = ("clockwise/000000", "vertical/000003", "diagonal_down/000005")

# Settings of r3d_tiny that make a map take a moment; the methods stay what they are. The key is the start of the name.
CHEAP = {
    "aosa": ["stride=16", "box=16"],
    "osa": ["box=[8,16,16]", "stride=[4,16,16]"],
    "smooth_grad": ["samples=3"],
    "integrated_gradients": ["steps=4"],
    "ep3d": ["iterations=5"],
    "step": ["iterations=5"],
    "removal": ["samples=16", "segments=20"],
    "lime3d": ["samples=16", "segments=20"],
    "kernel_shap3d": ["samples=24", "segmentation=grid", "grid=[2,2,2]"],
    "rise3d": ["samples=16", "grid=[2,4,4]"],
    "loco": ["segments=20"],
    "univariate": ["segments=20"],
    "sos": ["grid=[2,2,2]"],
}
# Options that take another way through a method, tried on the first clip.
VARIANTS = {
    "aosa": [
        "fill={name:sampled,samples:2}",
        "fill=patches",
        "fill=box_mean",
        "fill=blur",
        "fill=clip_mean",
        "weighting=paper",
        "similarity=norm_cosine",
        "similarity=norm",
        "similarity=random",
        "temporal_stride=4",
        "temporal_stride=4 uncovered=true",
        "flow=dis",
        "displacement=flow",
        "subpixel=true",
        "letter_box=true",
        "compat=authors",
        "seed=1 similarity=random",
    ],
    "aosa_approx": [
        "fill=box_mean",
        "fill=constant",
        "relu=false",
        "relu=printed",
        "relu=false expand=occluded iqr=true",
    ],
    "osa": ["box=null stride=[8,32,32]", "weighting=paper", "fill=grey"],
    "grad_cam": ["relu=false"],
    "smooth_grad": ["squared=true absolute=false", "output=probability"],
    "ep3d": ["areas=[0.05,0.2]", "sigma=5 patience=2"],
    "step": ["z=311 temporal_stride=4"],
    "removal": [
        "segmentation=grid grid=[2,2,2] selection=one_out removal=inpaint summary=difference",
        "segmentation=grid grid=[2,2,2] selection=one_in removal=region_mean summary=difference",
        "segmentation=grid grid=[2,2,2] selection=shapley removal=blur summary=shapley",
        "segmentation=soft_grid grid=[2,3,3] selection=bernoulli removal=grey summary=mean",
        "segmentation=windows grid=[2,2,2] selection=one_out removal=constant summary=value",
        "segmentation=grid grid=[2,2,2] flow=farneback removal=clip_mean",
    ],
}
# How an explainer reads a network differs with the network.
READ_NETWORKS = (
    "attention_rollout",
    "eb_r",
    "grad_cam relu=false",
    "grad_cam_pp",
    "guided_backprop",
    "saliency_tubes",
)
LARGE = {"i3d", "vgg16_lstm"}  # whose inputs cannot be small: two methods must do
METRICS = {
    "accuracy": [""],
    "deletion_insertion": [
        "steps=4",
        "steps=3 deletion=blur insertion=box_mean",
        "steps=3 deletion=patches insertion=clip_mean",
        "steps=3 top=0.2",
    ],
    "deletion_insertion_black": ["steps=4"],
    "deletion_insertion_frame": ["steps=4"],
    "minimal_mask": ["steps=10", "steps=10 scale=relative", "steps=10 ranking=frame top=0.5"],
    "preservation_ratio": ["areas=[0.1,0.5,0.9]"],
    "sanity": [""],
    "spatial_pointing": [""],
    "temporal_pointing": ["", "frame=sum"],
    "truth_score": [""],
}
METRIC_EXPLAINER = {"preservation_ratio": "ep3d", "sanity": "grad_cam"}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def read_by(model: str) -> list[str]:
    chosen = [e for e in READ_NETWORKS if model not in UNDEFINED.get(e.split(" ")[0], ())]
    return [e for e in chosen if model not in LARGE or e in ("eb_r", "grad_cam relu=false")]


def cheap(explainer: str) -> list[str]:
    key = max((k for k in CHEAP if explainer == k or explainer.startswith(f"{k}_")), key=len, default="")
    return CHEAP.get(key, [])


# ----- all that touches the package -----


@lru_cache(maxsize=1)
def tiny() -> VideoModel:
    return build(compose("explain", ["model=r3d_tiny", "device=cpu", "batch_size=8"]).model)


@lru_cache(maxsize=8)
def clip_of(id: str, model: VideoModel) -> Clip:
    """A clip of moving_shapes at the model's size, labelled when the model knows its class."""
    dataset = build(compose("explain", ["dataset=moving_shapes"]).dataset)
    (entry,) = (e for e in dataset.entries if e.id == id)
    clip = dataset.load(entry, model.spec)
    clip.label = model.class_index(clip.class_name) if model.class_names else 1
    return clip


def make_map(explainer: str, options: list[str], model: VideoModel, clip: Clip) -> SaliencyMap:
    config = compose("explain", [f"explainer={explainer}", *(f"explainer.{o}" for o in options)])
    return build(config.explainer)(model, clip, clip.label)


def make_record(metric: str, options: list[str], model: VideoModel, clip: Clip, saliency: Tensor) -> dict[str, object]:
    if metric == "accuracy":
        return build(compose("accuracy").accuracy)(model, [clip], clip.label)
    explainer = METRIC_EXPLAINER.get(metric, "random")
    overrides = [f"metric={metric}", f"explainer={explainer}", *(f"explainer.{o}" for o in cheap(explainer))]
    made = build(compose("evaluate", [*overrides, *(f"metric.{o}" for o in options)]).metric)
    return made(model, clip, saliency, clip.label)


def make_logits(model: VideoModel, clip: Clip) -> Tensor:
    with torch.no_grad():
        return model.logits(clip.tensor(model.spec)[None])[0]


# ----- what is measured -----


def keys() -> list[str]:
    """All entries: ``map/<model>/<explainer>/<clip>``, ``record/<metric>/<clip>``, ``logits/<model>/<clip>``;
    options follow the name of an explainer or metric."""
    tiny_only = [e for e in names("explainer") if "r3d_tiny" not in UNDEFINED.get(e, ())]
    return [
        *(f"map/r3d_tiny/{e}/{c}" for e in tiny_only for c in CLIPS),
        *(f"map/r3d_tiny/{e} {v}/{CLIPS[0]}" for e, variants in VARIANTS.items() for v in variants),
        *(
            f"{what}/{CLIPS[0]}"
            for m in MODELS
            if m != "r3d_tiny"
            for what in (f"logits/{m}", *(f"map/{m}/{e}" for e in read_by(m)))
        ),
        *(f"record/{f'{m} {v}'.strip()}/{c}" for m, variants in METRICS.items() for v in variants for c in CLIPS),
    ]


def measure(key: str) -> dict[str, Any]:
    """The value of an entry, as the file holds it."""
    kind, *what, group, number = key.split("/")
    with threadpool_limits(1):
        torch.set_num_threads(1)
        if kind == "record":
            model, (name, *options) = tiny(), what[0].split(" ")
            return make_record(name, options, model, clip := clip_of(f"{group}/{number}", model), known_map(clip))
        model = tiny() if what[0] == "r3d_tiny" else small(what[0])
        clip = clip_of(f"{group}/{number}", model)
        if kind == "logits":
            return digest(make_logits(model, clip))
        name, *options = what[1].split(" ")
        return digest(make_map(name, [*cheap(name), *options], model, clip))


def known_map(clip: Clip) -> Tensor:
    """The same bytes on every machine: noise, higher where the evidence is."""
    return torch.rand(clip.size, generator=torch.Generator().manual_seed(0)) + 0.5 * clip.truth


def digest(values: ArrayLike, samples: int = 32) -> dict[str, Any]:
    """sha256 of the bytes, and some numbers of them, rounded to 6 digits."""
    array = np.ascontiguousarray(values)
    flat = array.astype(np.float64).ravel()
    # A step that shares no factor with the sides, so that the samples lie all over.
    chosen = flat[np.arange(samples) * 7919 % flat.size] if flat.size > samples else flat
    return {
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "mean": float(f"{flat.mean():.6g}"),
        "std": float(f"{flat.std():.6g}"),
        "values": [float(f"{v:.6g}") for v in chosen],
    }


def machine() -> dict[str, Any]:
    """All that chooses the kernels which compute values: two machines alike in it give the same bytes."""
    info = Path("/proc/cpuinfo")
    lines = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", info.read_text(), re.M)) if info.exists() else {}
    flags = [f for f in lines.get("flags", "").split() if re.match(r"sse4|avx|fma|f16c|amx", f)]
    return {
        "packages": {p: version(p) for p in ("numpy", "opencv-python-headless", "scikit-image", "scipy", "torch")},
        "python": platform.python_version(),
        "cpu": [lines.get(key, platform.machine()) for key in ("vendor_id", "cpu family", "model", "cache size")],
        "cpu flags": sorted(flags),
        "opencv": cv2.getCPUFeaturesLine(),
        "torch": torch.backends.cpu.get_cpu_capability(),
        "limits": {
            k: v for k, v in os.environ.items() if re.match(r"ATEN_CPU|ONEDNN_|DNNL_|MKL_|OPENBLAS_CORE|NPY_", k)
        },
    }


# ----- how two values are compared -----


def differences(key: str, wanted: Any, found: Any, *, exact: bool) -> list[str]:
    """In words, where two values of an entry differ; empty when they do not.

    Args:
        exact: byte for byte, for the same machine; not for a map without checksum, which is another machine's. Else a
            map's numbers lie within 2e-4 of its largest (without oneDNN and wide vectors they came within 5e-5), a
            record's within 1e-3. Masks that are learnt step by step carry a last digit further, and lie within 3 %
            (1.2 %).
    """
    if exact and not (isinstance(wanted, Mapping) and wanted.get("sha256", "") is None):
        return [f"{w} → {f}" for w, f in _leaves(wanted, found) if w != f]
    if isinstance(wanted, Mapping) and "sha256" in wanted:
        learnt = key.split("/")[2].startswith(("ep3d", "step"))
        return _map_differences(wanted, found, 0.03 if learnt else 2e-4)
    return [f"{w} → {f}" for w, f in _leaves(wanted, found) if not _near(w, f)]


def _leaves(wanted: Any, found: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of values that stand at one place."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping) and list(wanted) == list(found):
        for key in wanted:
            yield from _leaves(wanted[key], found[key])
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for w, f in zip(wanted, found, strict=True):
            yield from _leaves(w, f)
    else:
        yield wanted, found


def _near(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, float):
        return abs(wanted - found) <= 1e-3 * max(1e-2, abs(wanted))
    return bool(wanted == found)


def _map_differences(wanted: Mapping[str, Any], found: Mapping[str, Any], share: float) -> list[str]:
    w, f = (np.array([v["mean"], v["std"], *v["values"]]) for v in (wanted, found))
    if w.shape != f.shape:
        return [f"{len(w)} numbers → {len(f)}"]
    if np.abs(w - f).max() <= share * np.abs(w).max():
        return []
    return [f"numbers differ by {np.abs(w - f).max():.3g} of {np.abs(w).max():.3g}"]


def read() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def main(missing: bool = False) -> None:
    """Write the file anew, one entry a line; or keep all that it has. What another machine adds has no checksum."""
    recorded = read() if missing else {"machine": machine()}
    here = recorded["machine"] == machine()
    for key in keys():
        if key not in recorded:
            print(key, flush=True)
            recorded[key] = measure(key)
            if not here and "sha256" in recorded[key]:
                recorded[key]["sha256"] = None
    body = ",\n".join(f"{json.dumps(key)}: {json.dumps(recorded[key])}" for key in ("machine", *keys()))
    FILE.write_text(f"{{\n{body}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main(missing="missing" in sys.argv[1:])
