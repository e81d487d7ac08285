"""What all data sets made of video files share: file → window → geometry → clip."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from aosa.clip import Clip, InputSpec
from aosa.data.base import Entry, VideoDataset, View, Views
from aosa.data.class_map import read_class_map
from aosa.data.preprocess import Geometry
from aosa.data.window import Window, WindowOptions
from aosa.errors import ConfigError, MissingDataError, VideoError
from aosa.fields import option
from aosa.video.decode import count_frames, pick_frames, probe
from aosa.video.image_range import ImageRange, as_video
from aosa.video.video_file import file_stat


def read_clip(
    path: str | Path | ImageRange,
    spec: InputSpec,
    window: Window | None = None,
    *,
    view: View | None = None,
    id: str | None = None,
    name: str | None = None,
) -> tuple[Clip, tuple[int, ...], Geometry]:
    """One clip from one video file or folder of images.

    Args:
        window: default the centre one at the spec's interval.
        view: another part of the video than the window and the centre crop.
        id: default the file's name without its extension.
        name: what the record calls the file; default the file's name. Never a path of this machine.

    Returns:
        the clip (``source``: path, start, interval, frames_in_video, size of the source as [H, W]; the list of its
        frames, where these are not evenly spaced; and the view, where there is one), the source frames it was made
        of, and its geometry.

    Raises:
        VideoError: the video cannot be decoded, is too short, or lacks frames of the window.
    """
    path, view = as_video(path), view or View()
    frames, window = count_frames(path), window or Window()
    indices = window.indices(frames, spec, str(path), listed_frames(path), view.start)
    check_damage(path, window, indices)
    resized, size = _resized(path, spec, indices, view)
    geometry = Geometry(size, spec, view)
    clip_frames = geometry.crop(resized[i] for i in indices)
    source = _source(name or path.name, indices, frames, geometry, view)
    return Clip(id=id or path.stem, frames=clip_frames, source=source), indices, geometry  # type: ignore[arg-type]


def read_views(
    path: str | Path | ImageRange, spec: InputSpec, window: Window, views: Views, *, id: str, name: str
) -> Iterator[tuple[Clip, tuple[int, ...], Geometry]]:
    """Several clips of one video, decoded once; see `read_clip`. Crops vary fastest.

    Raises:
        ConfigError: three crops of an input that shows the whole frame.
        VideoError: see `read_clip`.
    """
    path = as_video(path)
    if views.crops > 1 and spec.resize == "squash":
        raise ConfigError(f"accuracy.crops={views.crops}: with model.spec.resize=squash there is nothing to crop")
    frames = count_frames(path)
    rows = window.several(frames, spec, str(path), listed_frames(path), views)
    shown = {i for row in rows for i in row}
    check_damage(path, window, shown)
    resized, size = _resized(path, spec, shown)
    for indices in rows:
        for view in _crops(views, size):
            geometry = Geometry(size, spec, view)
            clip_frames = geometry.crop(resized[i] for i in indices)
            source = _source(name, indices, frames, geometry, view)
            yield Clip(id=id, frames=clip_frames, source=source), indices, geometry  # type: ignore[arg-type]


def _resized(
    path: Path | ImageRange, spec: InputSpec, indices: Iterable[int], view: View | None = None
) -> tuple[dict[int, np.ndarray], tuple[int, int]]:
    """Frames by index, resized as they come, and the size of the source: at its size they might not fit into memory."""
    resized, size = {}, (0, 0)
    for i, pixels in pick_frames(path, indices):
        size = (pixels.shape[0], pixels.shape[1])
        resized[i] = Geometry(size, spec, view).resize(pixels)
    return resized, size


def read_windows(
    path: Path | ImageRange, spec: InputSpec, windows: Sequence[tuple[int, ...]], *, id: str, name: str
) -> Iterator[tuple[Clip, Geometry]]:
    """A clip for each window of one video, decoded once; only the frames of windows yet to come are held.

    Args:
        windows: source frames of each, the first ones and the last ones in ascending order.
        id: of the video; that of a clip has the first frame of its window after it (``video/000120``).

    Raises:
        VideoError: see `read_clip`.
    """
    if not windows:
        return
    frames, kept, waiting = count_frames(path), {}, deque(windows)
    geometry = None
    for i, pixels in pick_frames(path, {i for row in windows for i in row}):
        geometry = geometry or Geometry((pixels.shape[0], pixels.shape[1]), spec)
        kept[i] = geometry.frames([pixels])[0]
        while waiting and max(waiting[0]) == i:
            row = waiting.popleft()
            source = _source(name, row, frames, geometry, View())
            clip = np.stack([kept[k] for k in row])
            yield Clip(id=f"{id}/{row[0]:06d}", frames=clip, source=source), geometry  # type: ignore[arg-type]
            for old in [k for k in kept if not waiting or k < waiting[0][0]]:
                del kept[old]


def _crops(views: Views, size: tuple[int, int]) -> list[View]:
    if views.crops == 1:
        return [View()]
    wide = size[1] >= size[0]
    return [View(across=share) if wide else View(down=share) for share in (0.0, 0.5, 1.0)]


def listed_frames(path: Path | ImageRange) -> int | None:
    """The frames that a container claims; None when it says nothing."""
    return None if path.is_dir() else probe(path).listed


def check_damage(path: Path | ImageRange, window: Window, indices: Iterable[int]) -> None:
    """See `aosa.data.window.Window.check_damage`; images are all there, or an error has been raised."""
    if not path.is_dir():
        window.check_damage(indices, probe(path), str(path))


def _source(name: str, indices: tuple[int, ...], frames: int, geometry: Geometry, view: View) -> dict[str, object]:
    steps = set(np.diff(indices).tolist())
    source: dict[str, object] = {
        "path": name,
        "start": indices[0],
        "interval": steps.pop() if len(steps) == 1 else None,
        "frames_in_video": frames,
        "size": list(geometry.source_size),
    }
    if source["interval"] is None:
        source["frames"] = list(indices)
    return source if view == View() else {**source, "view": asdict(view)}


@dataclass
class FileDataset(WindowOptions, VideoDataset):
    """A data set of video files below one folder; subclasses fill ``entries``, ``problems`` and ``class_names``.

    Attributes:
        sampling: the window that its options make.

    Raises:
        ConfigError: no such folder, or an option out of range.
    """

    root: Path = option(meaning="the folder, a path or a text; never recorded", expect="the path of a folder")
    _: KW_ONLY
    name: str = option(meaning="what folders and tables call the data set")
    class_map: str | Path | Mapping[str, str] | None = option(
        None, "class of the data set → class of the model, see `aosa.data.class_map.read_class_map`"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root = Path(self.root).expanduser()
        if not self.root.is_dir():
            raise MissingDataError(f"dataset.root={self.root}: no such folder")
        self.sampling = Window.of(self)
        self.model_classes = read_class_map(self.class_map)
        self.entries, self.problems = [], []

    def load(self, entry: Entry, spec: InputSpec, view: View | None = None) -> Clip:
        path, name = self._file(entry)
        return self._told(entry, *read_clip(path, spec, self.sampling, view=view, id=entry.id, name=name))

    def check_views(self, views: Views) -> None:
        self.sampling.check_views(views)

    def load_views(self, entry: Entry, spec: InputSpec, views: Views) -> Iterator[Clip]:
        path, name = self._file(entry)
        for clip, indices, geometry in read_views(path, spec, self.sampling, views, id=entry.id, name=name):
            yield self._told(entry, clip, indices, geometry)

    def _file(self, entry: Entry) -> tuple[Path | ImageRange, str]:
        assert entry.path is not None
        return entry.path, entry.path.relative_to(self.root).as_posix()

    def _told(self, entry: Entry, clip: Clip, indices: tuple[int, ...], geometry: Geometry) -> Clip:
        """The clip with all that the data set knows of it."""
        clip.class_name, clip.group = entry.class_name, entry.group
        self.annotate(clip, entry, indices, geometry)
        return clip

    def annotate(self, clip: Clip, entry: Entry, indices: tuple[int, ...], geometry: Geometry) -> None:
        """Add boxes and segment to a clip; there are none by default."""

    def fingerprint(self, entry: Entry) -> str:
        assert entry.path is not None
        return content_digest(entry.path)

    def identity(self) -> dict[str, object]:
        return {
            "dataset": self.name,
            **self.sampling.identity(),
            "class_map": dict(sorted(self.model_classes.items())),
        }


def content_digest(path: Path | ImageRange) -> str:
    """sha256 of the content of a video file, or of the files of a folder.

    Raises:
        VideoError: it cannot be read, or is no regular file.
    """
    h = hashlib.sha256()
    try:
        for file in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
            stat = file_stat(file)
            h.update(_file_digest(file, stat.st_size, stat.st_mtime_ns))
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror})") from None
    return h.hexdigest()


@lru_cache(maxsize=100_000)
def _file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
