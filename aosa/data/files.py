"""What all data sets made of video files share: file → window → geometry → clip."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from aosa.clip import Clip, InputSpec
from aosa.data.base import Entry, VideoDataset
from aosa.data.class_map import read_class_map
from aosa.data.decode import count_frames, probe, read_frames
from aosa.data.preprocess import Geometry
from aosa.data.window import Window
from aosa.errors import ConfigError, VideoError


def read_clip(
    path: str | Path, spec: InputSpec, window: Window | None = None, *, id: str | None = None, name: str | None = None
) -> tuple[Clip, range, Geometry]:
    """One clip from one video file or folder of images.

    Args:
        window: default the centre one at the spec's interval.
        id: default the file's name without its extension.
        name: what the record calls the file; default the file's name. Never a path of this machine.

    Returns:
        the clip (``source``: path, start, interval, frames_in_video, size of the source as [H, W]), the
        source frames it was made of, and its geometry.

    Raises:
        VideoError: the video cannot be decoded, or is too short.
    """
    path = Path(path)
    frames = count_frames(path)
    listed = None if path.is_dir() else probe(path).listed
    indices = (window or Window()).indices(frames, spec, str(path), listed)
    pixels = read_frames(path, indices)
    geometry = Geometry((pixels.shape[1], pixels.shape[2]), spec)
    clip = Clip(
        id=id or path.stem,
        frames=geometry.frames(pixels),  # type: ignore[arg-type]
        source={
            "path": name or path.name,
            "start": indices.start,
            "interval": indices.step,
            "frames_in_video": frames,
            "size": list(geometry.source_size),
        },
    )
    return clip, indices, geometry


class FileDataset(VideoDataset):
    """A data set of video files below one folder; subclasses fill ``entries``, ``problems`` and ``class_names``.

    Args:
        root: the folder; its path is never recorded.
        name: what folders and tables call the data set.
        window, index, interval: see `aosa.data.window.Window`.
        class_map: see `aosa.data.class_map.read_class_map`; applied where labels are given.

    Raises:
        ConfigError: no such folder, or an option out of range.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        window: str = "centre",
        index: int | None = None,
        interval: int | None = None,
        class_map: str | Path | Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise ConfigError(f"dataset.root={root}: no such folder")
        self.name = name
        self.window = Window(window, index, interval)
        self.class_map = read_class_map(class_map)
        self.entries, self.problems = [], []

    def load(self, entry: Entry, spec: InputSpec) -> Clip:
        assert entry.path is not None
        name = entry.path.relative_to(self.root).as_posix()
        clip, indices, geometry = read_clip(entry.path, spec, self.window, id=entry.id, name=name)
        clip.class_name, clip.group = entry.class_name, entry.group
        self.annotate(clip, entry, indices, geometry)
        return clip

    def annotate(self, clip: Clip, entry: Entry, indices: range, geometry: Geometry) -> None:
        """Add boxes and segment to a clip; there are none by default."""

    def fingerprint(self, entry: Entry) -> str:
        assert entry.path is not None
        path, h = entry.path, hashlib.sha256()
        try:
            for file in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
                stat = file.stat()
                h.update(_file_digest(file, stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            raise VideoError(f"{path}: cannot be read ({error.strerror})") from None
        return h.hexdigest()

    def identity(self) -> dict[str, object]:
        window = {"window": self.window.window, "index": self.window.index, "interval": self.window.interval}
        return {"dataset": self.name, **window, "class_map": dict(sorted(self.class_map.items()))}


@lru_cache(maxsize=100_000)
def _file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
