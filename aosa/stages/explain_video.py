"""Stage explain_video: one file in, overlay, contact sheet and map out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from omegaconf import DictConfig

from aosa.data.files import read_clip
from aosa.data.window import ScriptWindow
from aosa.engine.job import Job
from aosa.errors import ConfigError
from aosa.experiment.plan import model_of, print_clip_plan
from aosa.experiment.titles import titles
from aosa.files import write_atomic
from aosa.options import check_choice
from aosa.report.overlay import contact_sheet, overlay, save_png
from aosa.stages.keys import check_common
from aosa.stages.sliding import WholeVideo, explain_windows
from aosa.store.folders import digest
from aosa.store.maps import save_map
from aosa.store.shareable import hidden, shareable_yaml

_FPS = 8  # of the overlay of one window: slow enough to look at


def run(config: DictConfig) -> int:
    """Explain one window of one video file (or folder of images); with ``windows=sliding`` the whole of it, see
    `aosa.stages.sliding`.

    Writes ``overlay.mp4``, ``contact_sheet.png``, ``map.b2nd`` and ``info.json`` to
    ``<output_root>/videos/<name>/<model>-<explainer>-<digest>/``. ``dry_run`` prints the plan and makes nothing.

    Raises:
        ConfigError: no video given, or an option out of range.
        VideoError: it cannot be used.
    """
    check_common(config)
    if config.video is None:
        raise ConfigError(
            "video=<file> is missing: python scripts/explain_video.py video=clip.mp4 model=i3d explainer=aosa"
        )
    if config.target == "label":
        raise ConfigError("target=label: a lone video has no label; give predicted, an index or a class name")
    fps = config.fps
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not fps > 0):
        raise ConfigError(f"fps={fps}: give a number above 0, or null")
    check_choice("", windows=(config.windows, ("one", "sliding")), scale=(config.scale, ("window", "video")))
    whole = config.windows == "sliding"
    if whole and (config.window, config.index) != ("centre", None):
        raise ConfigError(f"windows=sliding takes all windows: leave out window={config.window} and index")
    if not whole and (config.target == "video" or config.window_stride is not None):
        raise ConfigError("target=video and window_stride are for windows=sliding")
    path = Path(str(config.video)).expanduser().resolve()
    window = ScriptWindow.of(config)
    job = Job(config)
    if config.dry_run:
        return _plan(WholeVideo(config, job, path, window))
    explainer, model = job.explainer, job.model
    if config.target != "video":
        job.fixed_target  # noqa: B018  a class that the model lacks fails before any work
    if whole:
        return explain_windows(WholeVideo(config, job, path, window))
    explainer.check(model)
    clip, _, _ = read_clip(path, model.spec, window)
    target = job.target(clip)
    with torch.no_grad():
        probabilities = model.scores(clip.tensor(model.spec)[None])[0].cpu()
    names = model.class_names or [f"class {i}" for i in range(len(probabilities))]
    top = probabilities.topk(min(5, len(names)))
    for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        print(f"{p:7.3f}  {names[i]}{'   <- explained' if i == target else ''}")

    saliency = explainer(model, clip, target)
    identity = {
        "model": job.model_identity,
        "explainer": explainer.identity(),
        "clip": clip.digest(),
        "source": clip.source,
        "target": target,
    }
    out = Path(config.output_root) / "videos" / clip.id / f"{model.name}-{job.explainer_name}-{digest(identity)}"
    shown = (
        f"{names[target]} ({float(probabilities[target]):.2f})",
        titles()(job.explainer_name),
        titles()(model.name),
    )
    overlay(clip, saliency).save(out / "overlay.mp4", fps=config.fps or _FPS)
    save_png(contact_sheet(clip, saliency, title=" · ".join(shown)), out / "contact_sheet.png")
    save_map(out / "map.b2nd", saliency, {"clip": clip.id, "target_name": names[target]})
    info = {
        **identity,
        "target_name": names[target],
        "probability": float(probabilities[target]),
        "top": {names[i]: float(probabilities[i]) for i in top.indices.tolist()},
    }
    write_atomic(out / "info.json", json.dumps(hidden(info, config), indent=1, default=str) + "\n")
    write_atomic(out / "config.yaml", shareable_yaml(config))
    print(f"written: {out}/ overlay.mp4, contact_sheet.png, map.b2nd, info.json")
    return 0


def _plan(video: WholeVideo) -> int:
    config, job = video.config, video.job
    job.model, lacking = model_of(job)
    clip, _, _ = read_clip(video.path, job.model.spec, video.window)
    windows = len(video.windows) if config.windows == "sliding" else 1
    return print_clip_plan(job, clip, windows, lacking)
