"""A window into a part of a video."""

from __future__ import annotations

from dataclasses import dataclass

from aosa.clip import InputSpec
from aosa.data.base import Views
from aosa.data.window import Window
from aosa.errors import VideoError


@dataclass(kw_only=True)
class PartWindow(Window):
    """The window of a data set, in a part of a video as if it were all of it; the frames are those of the video.

    Args:
        first: frame that the part begins with, from 0.
        stop: frame after its last; None = the video's end.
        slack: so many frames `stop` may lie beyond the video's end, and then is this end.
        others: as of `aosa.data.window.Window`.
    """

    first: int = 0
    stop: int | None = None
    slack: int = 0

    def indices(
        self, frames: int, spec: InputSpec, video: str, listed: int | None = None, start: float | None = None
    ) -> tuple[int, ...]:
        """See `aosa.data.window.Window.indices`.

        Raises:
            VideoError: also, the video ends before the part does.
        """
        length, name = self._length(frames, video)
        return self._moved(Window.of(self).indices(length, spec, name, None, start))

    def several(
        self, frames: int, spec: InputSpec, video: str, listed: int | None, views: Views
    ) -> list[tuple[int, ...]]:
        """See `aosa.data.window.Window.several` and `indices`."""
        length, name = self._length(frames, video)
        return [self._moved(row) for row in Window.of(self).several(length, spec, name, None, views)]

    def _moved(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.first + i for i in indices)

    def _length(self, frames: int, video: str) -> tuple[int, str]:
        stop = frames if self.stop is None else self.stop
        if stop > frames + self.slack or self.first >= frames:
            raise VideoError(f"{video}: has {frames} frames; the list asks for frames {self.first} to {stop - 1}")
        stop = min(stop, frames)
        return stop - self.first, f"{video}: frames {self.first} to {stop - 1}"
