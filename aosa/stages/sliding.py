"""A whole video explained window by window: its maps blended into one overlay, with the class scores over time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from tqdm import tqdm

from aosa.clip import Clip
from aosa.data.files import check_damage, content_digest, listed_frames, read_windows
from aosa.data.preprocess import Geometry
from aosa.data.window import Window
from aosa.engine.job import Job
from aosa.errors import AosaError, ConfigError
from aosa.experiment.titles import titles
from aosa.files import whole_file, write_atomic, write_csv
from aosa.report.blend import blend
from aosa.report.overlay import Pixels, colour_range, enlarge, lay, save_png, save_video, to_unit
from aosa.report.timeline import MAX_CLASSES, Timeline
from aosa.store.folders import digest
from aosa.store.maps import load_map, save_map
from aosa.store.shareable import hidden, shareable_yaml
from aosa.video.decode import count_frames, frame_rate, pick_frames

_SHOWN = 5  # classes with a curve
_MIN_WIDTH = 640  # of the overlay, so that the strip below it can be read
_UNSEEN = 0.45  # brightness of what the model's crop leaves out
_IMAGES_PER_SECOND = 25.0  # of a folder of images

Scores = NDArray[np.float64]


@dataclass
class WholeVideo:
    """One video file (or folder of images) and its windows; nothing is decoded before it is asked for."""

    config: DictConfig
    job: Job
    path: Path
    window: Window

    @cached_property
    def frames(self) -> int:
        return count_frames(self.path)

    @cached_property
    def windows(self) -> list[tuple[int, ...]]:
        """The source frames of each window."""
        listed, stride = listed_frames(self.path), self.config.window_stride
        windows = self.window.sliding(self.frames, self.job.model.spec, str(self.path), listed, stride)
        check_damage(self.path, self.window, range(self.frames))  # the overlay shows them all
        return windows

    @cached_property
    def fps(self) -> float:
        """Frames per second of the source, which is also the overlay's pace unless ``fps`` says otherwise."""
        return frame_rate(self.path) or _IMAGES_PER_SECOND

    @cached_property
    def seconds(self) -> Scores:
        """The middle of each window."""
        return np.array([(w[0] + min(w[0] + self.span, self.frames)) / 2 / self.fps for w in self.windows])

    @property
    def interval(self) -> int:
        return self.window.interval or self.job.model.spec.interval

    @property
    def span(self) -> int:
        return (self.job.model.spec.frames - 1) * self.interval + 1

    @cached_property
    def names(self) -> Sequence[str]:
        model = self.job.model
        return model.class_names or [f"class {i}" for i in range(self.scores.shape[1])]

    @cached_property
    def identity(self) -> dict[str, object]:
        """All that changes the map of a window."""
        return {
            "model": self.job.model_identity,
            "explainer": self.job.explainer.identity(),
            "video": content_digest(self.path),
            "windows": [[w[0] for w in self.windows], self.interval, self.window.short_videos],
            "target": str(self.config.target),
        }

    @cached_property
    def out(self) -> Path:
        name = f"{self.job.model.name}-{self.job.explainer_name}-sliding-{digest(self.identity)}"
        return Path(self.config.output_root) / "videos" / self.path.stem / name

    def clips(self, windows: list[tuple[int, ...]]) -> Iterator[tuple[Clip, Geometry]]:
        """The clips of some of the windows, one after the other."""
        return read_windows(self.path, self.job.model.spec, windows, id=self.path.stem, name=self.path.name)

    @cached_property
    def scores(self) -> Scores:
        """Probabilities, windows × classes; read back when they are there."""
        file = self.out / "probabilities.npy"
        if (kept := self._kept(file)) is not None:
            return kept
        rows, model = [], self.job.model
        bar = tqdm(self.clips(self.windows), "score", len(self.windows), unit="window", dynamic_ncols=True)
        with torch.no_grad():
            rows = [model.scores(clip.tensor(model.spec)[None])[0].cpu().double().numpy() for clip, _ in bar]
        scores = np.stack(rows)
        with whole_file(file) as temporary:
            np.save(temporary, scores)
        return scores

    def _kept(self, file: Path) -> Scores | None:
        """The probabilities that are there; None where there are none, or other than this network would give."""
        try:
            kept = np.load(file, mmap_mode="r", allow_pickle=False)  # mapped: a header cannot claim more than is there
        except (OSError, ValueError, EOFError, SyntaxError):
            return None
        names = self.job.model.class_names
        classes = kept.shape[-1] if names is None and kept.ndim else len(names or ())
        if kept.shape != (len(self.windows), classes) or kept.dtype != np.float64 or not np.isfinite(kept).all():
            return None
        return np.array(kept)

    @cached_property
    def targets(self) -> list[int]:
        """The class that each window explains."""
        if self.config.target == "predicted":
            return [int(i) for i in self.scores.argmax(axis=1)]
        if self.config.target == "video":
            return [int(self.scores.mean(axis=0).argmax())] * len(self.windows)
        target = self.job.fixed_target
        assert target is not None
        if not 0 <= target < self.scores.shape[1]:
            raise AosaError(f"target={target}: the model has classes 0 to {self.scores.shape[1] - 1}")
        return [target] * len(self.windows)

    @cached_property
    def shown(self) -> list[int]:
        """The classes with a curve: one that all windows explain, then those with the highest peaks."""
        peaks = [int(i) for i in np.argsort(-self.scores.max(axis=0), kind="stable")]
        fixed = self.targets[:1] if len(set(self.targets)) == 1 else []
        return list(dict.fromkeys([*fixed, *peaks]))[: min(_SHOWN, MAX_CLASSES)]

    def map_file(self, window: tuple[int, ...]) -> Path:
        return self.out / "windows" / f"{window[0]:06d}.b2nd"


def explain_windows(video: WholeVideo) -> int:
    """Explain a whole video, window by window.

    Writes to ``<output_root>/videos/<name>/<model>-<explainer>-sliding-<digest>/``: ``overlay.mp4`` (every frame at
    the source's size, dimmed where the model's crop does not reach, and below it the probabilities of the first
    classes over time), ``scores.png``, ``scores.csv`` (a row per window), ``probabilities.npy`` (windows × classes),
    ``windows/<first frame>.b2nd`` (the maps), ``info.json`` and ``config.yaml``. Windows that have their map are not
    explained again. The video is decoded and encoded frame by frame: memory grows with the window, not with the video.

    Raises:
        ConfigError: an option out of range.
        VideoError: it cannot be used.
    """
    config, job = video.config, video.job
    job.explainer.check(job.model)
    if job.model.head == "identity":
        raise ConfigError(
            f"windows=sliding shows probabilities over time, and the scores of {job.model.name} (model.head=identity) "
            f"are none; leave windows=one"
        )
    _explain(video)
    write_csv(video.out / "scores.csv", *_rows(video))
    geometry = _geometry(video)
    factor = max(1, -(-_MIN_WIDTH // geometry.source_size[1]))
    save_png(_timeline(video, 1280).image(), video.out / "scores.png")
    save_video(_frames(video, geometry, factor), video.out / "overlay.mp4", fps=config.fps or video.fps)
    mean = video.scores.mean(axis=0)
    top = [int(i) for i in np.argsort(-mean, kind="stable")[:_SHOWN]]
    info: dict[str, Any] = {
        **video.identity,
        "frames": video.frames,
        "fps": video.fps,
        "crop": {"scale": geometry.scale, "offset": geometry.offset},
        "top": {video.names[i]: float(mean[i]) for i in top},
    }
    write_atomic(video.out / "info.json", json.dumps(hidden(info, config), indent=1, default=str) + "\n")
    write_atomic(video.out / "config.yaml", shareable_yaml(config))
    print(f"mean over {len(video.windows)} windows:")
    for i in top:
        print(f"{mean[i]:7.3f}  {video.names[i]}")
    print(f"written: {video.out}/ overlay.mp4, scores.png, scores.csv, windows/")
    return 0


def _explain(video: WholeVideo) -> None:
    """Make the maps that are not there."""
    targets = dict(zip(video.windows, video.targets, strict=True))
    size = (video.job.model.spec.frames, *video.job.model.spec.size)
    missing = [w for w in video.windows if not _usable(video.map_file(w), targets[w], size)]
    if len(missing) < len(video.windows):
        print(f"{len(video.windows) - len(missing)} of {len(video.windows)} windows have their map")
    bar = tqdm(video.clips(missing), "explain", len(missing), unit="window", dynamic_ncols=True)
    for window, (clip, geometry) in zip(missing, bar, strict=True):
        saliency = video.job.explainer(video.job.model, clip, targets[window])
        meta = {"clip": clip.id, "target_name": video.names[targets[window]]}
        more = {"range": colour_range(saliency), "size": list(geometry.source_size)}
        save_map(video.map_file(window), saliency, {**meta, **more})


def _usable(path: Path, target: int, size: tuple[int, ...]) -> bool:
    """Whether the window's map is there, and of this class and size."""
    try:
        saliency, meta = load_map(path)
    except AosaError:
        return False
    return saliency.target == target and saliency.shape == size and {"range", "size"} <= meta.keys()


def _geometry(video: WholeVideo) -> Geometry:
    _, meta = load_map(video.map_file(video.windows[0]))
    return Geometry(tuple(meta["size"]), video.job.model.spec)


def _blended(video: WholeVideo) -> Iterator[NDArray[np.float32]]:
    """A map in [0, 1] per source frame, of the model's size."""
    ranges = [load_map(video.map_file(w))[1]["range"] for w in video.windows]
    if video.config.scale == "video":
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * len(ranges)

    def maps() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for window, (low, high) in zip(video.windows, ranges, strict=True):
            yield window[0], to_unit(load_map(video.map_file(window))[0], low, high)

    return blend(maps(), video.interval, video.frames)


def _frames(video: WholeVideo, geometry: Geometry, factor: int) -> Iterator[Pixels]:
    """The overlay, frame by frame."""
    timeline = _timeline(video, geometry.source_size[1] * factor)
    seen = geometry.unmap(torch.ones(1, *geometry.size))[0].numpy()
    light = np.where(seen > 0, 1, _UNSEEN).astype(np.float32)[..., None]
    source = pick_frames(video.path, range(video.frames))
    bar = tqdm(zip(source, _blended(video), strict=True), "write", video.frames, unit="frame", dynamic_ncols=True)
    for (number, pixels), value in bar:
        full = geometry.unmap(torch.from_numpy(value)[None])[0].numpy()
        scene = (lay(pixels, full.clip(0, 1)) * light).round().astype(np.uint8)
        yield np.concatenate([enlarge(scene, factor), timeline.image(number / video.fps)])


def _timeline(video: WholeVideo, width: int) -> Timeline:
    explainer = titles()(video.job.explainer_name)
    captions = [
        f"{explainer}: {video.names[target]} ({row[target]:.2f})"
        for target, row in zip(video.targets, video.scores, strict=True)
    ]
    names = [video.names[i] for i in video.shown]
    duration = video.frames / video.fps
    return Timeline(video.seconds, video.scores[:, video.shown], names, captions, duration, width)


def _rows(video: WholeVideo) -> tuple[list[str], list[dict[str, object]]]:
    """Header and rows of scores.csv."""
    columns = {video.names[i]: i for i in video.shown}
    rows: list[dict[str, object]] = []
    for window, second, target, scores in zip(video.windows, video.seconds, video.targets, video.scores, strict=True):
        rows.append(
            {
                "first_frame": window[0],
                "last_frame": min(window[0] + video.span, video.frames) - 1,
                "seconds": round(float(second), 3),
                "explained": video.names[target],
                "probability": round(float(scores[target]), 6),
                **{name: round(float(scores[i]), 6) for name, i in columns.items()},
            }
        )
    return ["first_frame", "last_frame", "seconds", "explained", "probability", *columns], rows
