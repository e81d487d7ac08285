"""Which frames of a video become the clip, or the clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from aosa.clip import MOST_INTERVAL, InputSpec
from aosa.data.base import Views
from aosa.errors import ConfigError, VideoError
from aosa.fields import Checked, option
from aosa.options import as_text, full_key
from aosa.video.decode import VideoInfo, describe_damage


@dataclass(kw_only=True)
class WindowOptions(Checked):
    """The options of a window, for what is made with one: a data set, a script.

    Raises:
        ConfigError: a value out of range, or an index without ``window="index"``.
    """

    owner: ClassVar[str] = "dataset"

    window: str = option(
        "centre",
        "centre, start or index: frames at an interval; segments: the video in T equal parts, the first frame of each",
        choices=("centre", "start", "index", "segments"),
    )
    index: int | None = option(
        None, "with window=index: which of the video's windows that lie side by side, from 0", low=0
    )
    interval: int | None = option(
        None, "source frames from one sampled frame to the next; None = the model's own", low=1, high=MOST_INTERVAL
    )
    short_videos: str = option(
        "refuse",
        "what becomes of a video with fewer frames than the window spans; loop = it begins again after its last frame "
        "(mmaction2's default)",
        choices=("refuse", "loop"),
    )
    damaged_videos: str = option(
        "refuse",
        "what becomes of a window that needs frames which are lost or damaged; use = what decodes is taken",
        choices=("refuse", "use"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.window == "index") != (self.index is not None):
            raise ConfigError(
                f"{self._key('index')}={as_text(self.index)} with {self._key('window')}={self.window}: "
                "an index is needed with window=index, and only there"
            )

    def _key(self, key: str) -> str:
        return full_key(self.owner, key)


@dataclass(kw_only=True)
class Window(WindowOptions):
    """One choice of T frames.

    ``window="segments"``: as STEP's code, parts of ⌊frames / T⌋, and the last T of them, so that what cannot be divided
    is left out at the beginning. Segments have no interval.

    ``damaged_videos="use"``: frames keep their places, so that boxes and segments still fit: a lost one (see
    `aosa.video.decode.VideoInfo`) is replaced by the one that decodes before it, or after it at the video's beginning.

    Raises:
        ConfigError: see `WindowOptions`.
    """

    @classmethod
    def of(cls, options: object, **more: Any) -> Self:
        """With the options of a data set, another window, or the config of a script.

        Args:
            more: those that a subclass has besides.
        """
        return cls(**{part.name: getattr(options, part.name) for part in fields(WindowOptions)}, **more)

    def identity(self) -> dict[str, object]:
        """What of the window belongs to a clip's identity; `short_videos` and `damaged_videos` only where they are not
        the default."""
        identity: dict[str, object] = {"window": self.window, "index": self.index, "interval": self.interval}
        others = {"short_videos": self.short_videos, "damaged_videos": self.damaged_videos}
        return identity | {key: value for key, value in others.items() if value != "refuse"}

    def indices(
        self, frames: int, spec: InputSpec, video: str, listed: int | None = None, start: float | None = None
    ) -> tuple[int, ...]:
        """The source frames of the clip, for a video of `frames` frames.

        Args:
            video, listed: its name, and the frames its container claims, for the message.
            start: where the window begins instead, from 0 to 1, see `aosa.data.base.View`; in ``segments``, which
                frame of each part, from the first to the last.

        Raises:
            VideoError: the video is too short for this window.
        """
        interval = self.interval or spec.interval
        if self.window == "segments":
            return self._segments(frames, spec, video, listed, start or 0.0)
        span = (spec.frames - 1) * interval + 1
        windows = frames // span
        if not windows and self.short_videos == "loop" and not self.index:
            return tuple(i % frames for i in range(0, span, interval))
        if windows <= (self.index or 0):
            have = _have(frames, video, listed)
            if windows:
                raise VideoError(f"{have}, {windows} windows of {span}: {self._key('index')} must be below {windows}")
            fits = (frames - 1) // (spec.frames - 1) if spec.frames > 1 else 0
            helps = f"set {self._key('interval')}={fits} or less" if fits else "set a smaller model.spec.frames"
            raise VideoError(
                f"{have}, the window needs {span} ({spec.frames} frames at interval {interval}); {helps}, or "
                f"{self._key('short_videos')}=loop"
            )
        if start is not None:
            first = round(start * (frames - span))
        else:
            first = {"centre": (frames - span) // 2, "start": 0, "index": (self.index or 0) * span}[self.window]
        return tuple(range(first, first + span, interval))

    def _segments(self, frames: int, spec: InputSpec, video: str, listed: int | None, start: float) -> tuple[int, ...]:
        length = frames // spec.frames
        if not length:
            if self.short_videos == "loop":
                return tuple(i % frames for i in range(spec.frames))
            raise VideoError(
                f"{_have(frames, video, listed)}, fewer than the {spec.frames} segments; set a smaller "
                f"model.spec.frames, or {self._key('short_videos')}=loop"
            )
        firsts = range(0, frames, length)[-spec.frames :]
        lasts = [*(first - 1 for first in firsts[1:]), frames - 1]
        return tuple(first + round(start * (last - first)) for first, last in zip(firsts, lasts, strict=True))

    def check_views(self, views: Views) -> None:
        """Refuse views that this window has not.

        Raises:
            ConfigError: several clips of a window at one place (``start``, ``index``); or of segments, which have no
                windows side by side and no dense sampling.
        """
        if views.clips == 1:
            return
        if self.window in ("start", "index"):
            key = self._key("window")
            raise ConfigError(f"accuracy.clips={views.clips}: {key}={self.window} is one clip of a video; give centre")
        if self.window == "segments" and (views.clips == "all" or views.sampling == "dense"):
            raise ConfigError(
                f"accuracy.clips={views.clips}, accuracy.sampling={views.sampling}: not with window=segments"
            )

    def several(
        self, frames: int, spec: InputSpec, video: str, listed: int | None, views: Views
    ) -> list[tuple[int, ...]]:
        """The source frames of each clip of `views`, for a video of `frames` frames.

        Raises:
            ConfigError: see `check_views`.
            VideoError: see `indices`.
        """
        self.check_views(views)
        own = self.indices(frames, spec, video, listed)
        if views.clips == 1:
            return [own]
        interval = self.interval or spec.interval
        if views.clips == "all":
            sampled = range(0, frames, interval)
            rows = [sampled[at : at + spec.frames] for at in range(0, len(sampled), spec.frames)]
            return [tuple(row[i % len(row)] for i in range(spec.frames)) for row in rows]
        assert isinstance(views.clips, int)
        if views.sampling == "dense":
            firsts = np.linspace(0, max(0, frames - spec.frames * interval), views.clips, dtype=int).tolist()
            return [tuple((first + k * interval) % frames for k in range(spec.frames)) for first in firsts]
        return [self.indices(frames, spec, video, listed, start=k / (views.clips - 1)) for k in range(views.clips)]

    def sliding(
        self, frames: int, spec: InputSpec, video: str, listed: int | None, stride: int | None = None
    ) -> list[tuple[int, ...]]:
        """The source frames of windows side by side over a whole video. The last one ends with the video, so that
        every frame lies in one at least. A video that is looped has but one.

        Args:
            stride: source frames from one window to the next; default half the span, rounded up.

        Raises:
            ConfigError: a stride of less than 1, or of more than the span (frames would be left out).
            VideoError: see `indices`.
        """
        first = replace(self, window="start", index=None).indices(frames, spec, video, listed)
        interval = self.interval or spec.interval
        span = (spec.frames - 1) * interval + 1
        stride = (span + 1) // 2 if stride is None else stride
        if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= span:
            raise ConfigError(
                f"{self._key('window_stride')}={stride}: give a whole number from 1 to {span}, the source frames that "
                f"a window spans ({spec.frames} frames at interval {interval}), or null for half of it"
            )
        if frames < span:
            return [first]
        last = frames - span
        return [tuple(start + i for i in first) for start in [*range(0, last, stride), last]]

    def check_damage(self, indices: Iterable[int], info: VideoInfo, video: str) -> None:
        """Refuse source frames that are lost or damaged, unless ``damaged_videos="use"``.

        Raises:
            VideoError: naming the video, the frames, and the option.
        """
        if self.damaged_videos == "use" or info.sound:
            return
        wanted = set(indices)
        lost, damaged = sorted(wanted.intersection(info.lost)), sorted(wanted.intersection(info.damaged))
        if lost or damaged:
            raise VideoError(
                f"{video}: the window needs {describe_damage(lost, damaged)}; {self._key('damaged_videos')}=use takes "
                "what decodes, the frame before in place of a lost one"
            )


class ScriptWindow(Window):
    """The window of a script, whose keys stand alone."""

    owner: ClassVar[str] = ""


def _have(frames: int, video: str, listed: int | None) -> str:
    truncated = f" (its container lists {listed}: truncated?)" if listed and listed > frames else ""
    return f"{video}: has {frames} frames{truncated}"
