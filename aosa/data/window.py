"""Which frames of a video become the clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from aosa.clip import InputSpec
from aosa.errors import ConfigError, VideoError
from aosa.options import check_choice, check_range, full_key


@dataclass(frozen=True)
class Window:
    """One window of T frames.

    Args:
        window: ``centre``, ``start``, or ``index``.
        index: with ``window="index"``: which of the video's non-overlapping windows, 0 = first.
        interval: source frames from one sampled frame to the next; None = the model's own.
        owner: config node of these keys, for the messages; empty where they stand alone.

    Raises:
        ConfigError: a value out of range, or an index without ``window="index"``.
    """

    window: str = "centre"
    index: int | None = None
    interval: int | None = None
    owner: str = field(default="dataset", compare=False)

    def __post_init__(self) -> None:
        check_choice(self.owner, window=(self.window, ("centre", "start", "index")))
        check_range(self.owner, index=(self.index, 0, inf), interval=(self.interval, 1, inf))
        if not all(isinstance(v, int | None) for v in (self.index, self.interval)):
            raise ConfigError(
                f"{self._key('index')}={self.index}, {self._key('interval')}={self.interval}: whole numbers, or null"
            )
        if (self.window == "index") != (self.index is not None):
            raise ConfigError(
                f"{self._key('index')}={self.index} with {self._key('window')}={self.window}: "
                "an index is needed with window=index, and only there"
            )

    def _key(self, key: str) -> str:
        return full_key(self.owner, key)

    def indices(self, frames: int, spec: InputSpec, video: str, listed: int | None = None) -> range:
        """The source frames of the clip, for a video of `frames` frames.

        Args:
            video, listed: its name, and the frames its container claims, for the message.

        Raises:
            VideoError: the video is too short for this window.
        """
        interval = self.interval or spec.interval
        span = (spec.frames - 1) * interval + 1
        windows = frames // span
        if windows <= (self.index or 0):
            truncated = f" (its container lists {listed}: truncated?)" if listed and listed > frames else ""
            have = f"{video}: has {frames} frames{truncated}"
            if windows:
                raise VideoError(f"{have}, {windows} windows of {span}: {self._key('index')} must be below {windows}")
            fits = (frames - 1) // (spec.frames - 1) if spec.frames > 1 else 0
            helps = (
                f"set {self._key('interval')}={fits} or less"
                if fits
                else "a smaller model.spec.frames is the only help"
            )
            raise VideoError(f"{have}, the window needs {span} ({spec.frames} frames at interval {interval}); {helps}")
        start = {"centre": (frames - span) // 2, "start": 0, "index": (self.index or 0) * span}[self.window]
        return range(start, start + span, interval)
