"""Draw the pictures of the documentation: python docs/make_pictures.py [name …]

All show one clip of `moving_shapes` under `r3d_tiny`, whose weights come with the package, but for two explainers that
are defined for other networks: for attention rollout a small TimeSformer is trained first (ten minutes on one core; not
again where its weights lie in outputs/pictures), for EB-R a VGG16-LSTM has its weights drawn. The same machine draws
the same bytes each time. All pictures take about half an hour.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from aosa.clip import Clip
from aosa.config import build, compose
from aosa.data.moving_shapes import MovingShapes
from aosa.experiment.titles import titles
from aosa.explainers import AOSA, GradCAM
from aosa.files import write_atomic
from aosa.metrics.deletion_insertion import ranks
from aosa.models import VideoModel, load_model
from aosa.removal.fills import Blur, Constant
from aosa.report.grids import picture_grid
from aosa.report.overlay import Pixels, overlay

FOLDER = Path(__file__).parent / "pictures"
INDEX = 18  # of the clip
STEPS = (0, 1, 3, 7, 14, 28)  # of the 28 of deletion and insertion
FRAME = 6  # that is shown of them
LARGEST = 60_000  # bytes of a picture

# Picture → its rows: the explainer's config, its options, and the row's name where several rows share a config.
Row = tuple[str, Sequence[str], str]
LEARNT = ["areas=[0.05]", "sigma=7"]
EP3D = [*LEARNT, "iterations=200"]
MAPS: dict[str, list[Row]] = {
    "aosa": [("aosa", [], ""), ("aosa_single", [], "")],
    "aosa_approx": [
        ("aosa_approx", [], ""),
        ("aosa_approx_single", [], ""),
        ("aosa_approx_iqr", [], ""),
        ("aosa_approx_iqr_single", [], ""),
    ],
    "osa": [("osa", ["box=[8,16,16]", "stride=[2,8,8]"], "")],
    "grad_cam": [("grad_cam", [], ""), ("grad_cam_pp", [], "")],
    "saliency_tubes": [("saliency_tubes", [], "")],
    "smooth_grad": [("smooth_grad", [], "")],
    "integrated_gradients": [("integrated_gradients", [], "")],
    "guided_backprop": [("guided_backprop", [], "")],
    "step": [("step", LEARNT, "")],
    "ep3d": [("ep3d", EP3D, ""), ("ep3d_evenly", EP3D, ""), ("ep3d_gaussian", [*EP3D, "delta=3"], "")],
    "removal": [
        (
            "removal",
            ["segmentation=slic", "flow=farneback", "selection=one_out", "removal=inpaint", "summary=difference"],
            "Segments moved,\npainted over",
        )
    ],
    **{name: [(name, [], "")] for name in ("lime3d", "kernel_shap3d", "rise3d", "loco", "univariate", "sos", "random")},
}

# Networks for the explainers that r3d_tiny does not serve.
TIMESFORMER = [
    "model=timesformer",
    "model.class_names=moving_shapes",
    "model.network.num_classes=6",
    "model.network.frames=8",
    "model.network.size=[64,64]",
    "model.network.patch=8",
    "model.network.width=64",
    "model.network.heads=4",
    "model.network.depth=3",
    "model.spec.frames=8",
    "model.spec.interval=2",
    "model.spec.size=[64,64]",
    "model.target_layer=blocks.2.spatial.norm",
]
TRAINING = [
    "train.lr=0.001",
    "train.epochs=8",
    "train.clips_per_epoch=3000",
    "train.parts.train.distractors=0",
    "dataset.distractors=0",
    "+train.parts.val.size=120",
    "+train.parts.test.size=120",
    "train.workers=0",
    "threads=1",
    "device=cpu",
]
VGG16_LSTM = [
    "model=vgg16_lstm",
    "model.class_names=moving_shapes",
    "model.network.num_classes=6",
    "model.spec.frames=8",
    "model.spec.interval=2",
    "checkpoint=random",
]


def others() -> dict[str, list[Row]]:
    """Pages of explainers without an entry above show the explainers of their options."""
    pages = sorted((FOLDER.parent / "explainers").glob("*.md"))
    named = {p.stem: re.findall(r"^<!-- options: explainer/(\w+) -->$", p.read_text(), re.MULTILINE) for p in pages}
    return {page: [(name, [], "") for name in found] for page, found in named.items() if found}


def example(model: VideoModel, **options: object) -> Clip:
    """The clip that the pictures show, at the model's size."""
    dataset = MovingShapes(size=INDEX + 1, **options)  # type: ignore[arg-type]
    return dataset.load(dataset.entries[INDEX], model.spec)


def maps(model: VideoModel, clip: Clip, rows: Sequence[Row]) -> Figure:
    """Frames, true evidence, and an overlay per explainer."""
    assert clip.truth is not None
    target = class_of(model, clip)
    pictures: dict[str, Pixels] = {
        "Frames": clip.frames.numpy(),
        "True evidence": overlay(clip, clip.truth.float()).frames,
    }
    for name, options, title in rows:
        explainer = build(compose("explain", [f"explainer={name}", *(f"explainer.{o}" for o in options)]).explainer)
        pictures[title or titles()(name).replace(" (", "\n(")] = overlay(clip, explainer(model, clip, target)).frames
    return grid(pictures, clip)


def grid(pictures: dict[str, Pixels], clip: Clip) -> Figure:
    """Rows of evenly spaced frames, fewer where there are many rows."""
    pictures = {name: np.stack([smaller(frame) for frame in row]) for name, row in pictures.items()}
    at = (
        np.linspace(0, clip.size[0] - 1, 6 if len(pictures) < 5 else 5 if len(pictures) == 5 else 4).round().astype(int)
    )
    return picture_grid({name: list(row[at]) for name, row in pictures.items()}, heads=[f"frame {t}" for t in at])


def smaller(frame: Pixels) -> Pixels:
    """At 64 pixels, as all clips here are shown."""
    return np.asarray(cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def class_of(model: VideoModel, clip: Clip) -> int:
    """Index of the true class."""
    assert clip.class_name is not None
    return model.class_index(clip.class_name)


def rollout() -> Figure:
    """Attention rollout of a small TimeSformer, trained and shown without distractors."""
    output = Path("outputs/pictures")
    script = Path(__file__).parents[1] / "scripts" / "train.py"
    subprocess.run([sys.executable, script, *TIMESFORMER, *TRAINING, f"output_root={output}"], check=True)
    weights = output / "train" / "moving_shapes" / "timesformer" / "best.safetensors"
    model = build(compose("explain", [*TIMESFORMER, f"checkpoint={weights}", "device=cpu"]).model)
    return maps(model, example(model, distractors=0), [("attention_rollout", [], "")])


def excitation() -> Figure:
    """EB-R of a VGG16-LSTM with drawn weights."""
    model = build(compose("explain", [*VGG16_LSTM, "device=cpu"]).model)
    return maps(model, example(model), [("eb_r", ["output=logit"], "")])


def game() -> Figure:
    """The clips of deletion and insertion, in the order of Grad-CAM's map."""
    model = load_model("r3d_tiny", device="cpu")
    clip = example(model)
    target, x = class_of(model, clip), clip.tensor(model.spec)
    rank, voxels = ranks(GradCAM()(model, clip, target).values)
    steps = [round(share * voxels / 28) for share in STEPS]
    rows: dict[str, list[Pixels]] = {"Deletion": [], "Insertion": []}
    notes: dict[str, list[str]] = {name: [] for name in rows}
    for count in steps:
        for name, first in (("Deletion", Constant()), ("Insertion", Blur())):
            shown = torch.where((rank < count) == (name == "Insertion"), x, first(x, model.spec))
            rows[name].append(model.spec.denormalise(shown)[FRAME].numpy())
            with torch.no_grad():
                notes[name].append(f"f = {float(model.scores(shown[None])[0, target]):.2f}")
    return picture_grid(rows, heads=[f"{100 * count / voxels:.0f} %" for count in steps], notes=notes)


def masks() -> Figure:
    """What AOSA occludes: two tubes alone, and joined with those that move alike."""
    model = load_model("r3d_tiny", device="cpu")
    clip = example(model)
    colour = (torch.tensor(model.spec.mean) * 255).round().to(torch.uint8)
    pictures: dict[str, Pixels] = {"Frames": clip.frames.numpy()}
    for neighbours in (0, 3):
        tubes = AOSA(stride=8, box=16, neighbours=neighbours).masks(clip, model.spec)
        for number in (18, 45):
            hidden = tubes.occluded(number, number + 1, "cpu")[0]
            shown = torch.where(hidden[..., None], colour, clip.frames).numpy()
            pictures[f"Mask {number}, K = {neighbours}"] = shown
    return grid(pictures, clip)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with as many colours, up to 64, as fit into `LARGEST` bytes."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=140)  # more than three screen pixels per pixel: no blur, smaller files
    image = Image.open(raw).convert("RGB")
    for colours in range(64, 8, -8):
        small = io.BytesIO()
        palette = image.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
        palette.save(small, format="PNG", optimize=True)
        if small.tell() <= LARGEST:
            break
    write_atomic(path, small.getvalue())


def main(names: Sequence[str]) -> None:
    model = load_model("r3d_tiny", device="cpu")
    drawings: dict[str, Callable[[], Figure]] = {
        **{
            name: lambda rows=rows: maps(model, example(model), rows)  # type: ignore[misc]
            for name, rows in {**others(), **MAPS}.items()
        },
        "aosa_masks": masks,
        "deletion_insertion": game,
        "attention_rollout": rollout,
        "eb_r": excitation,
    }
    unknown = set(names) - set(drawings)
    if unknown:
        sys.exit(f"there is no picture {', '.join(sorted(unknown))}; there are {', '.join(drawings)}")
    for name in names or drawings:
        path = FOLDER / f"{name}.png"
        save(drawings[name](), path)
        print(f"{path.name}: {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
