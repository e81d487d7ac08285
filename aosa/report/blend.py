"""The maps of overlapping windows made one, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def blend(windows: Iterable[tuple[int, Floats]], interval: int, frames: int) -> Iterator[Floats]:
    """One map per source frame: the weighted mean of all windows that hold it.

    The weights of a window are a triangle over its span, which never reaches 0: a model sees most around the middle of
    its window, and the maps of neighbours fade into each other instead of jumping. Between two sampled frames a map is
    interpolated linearly. Only the frames of windows yet to come are held.

    Args:
        windows: first source frame and T×H×W map of each, in the order of their first frames, without a gap.
        interval: source frames from one frame of a map to the next.
        frames: of the video; what a window has beyond them (a video that is looped) is left out.

    Yields:
        H×W, for frame 0, 1, …
    """
    sums: dict[int, tuple[Floats, float]] = {}
    ready = 0
    for first, saliency in windows:
        for frame in range(ready, first):
            yield _mean(sums.pop(frame))
        ready = first
        span = (len(saliency) - 1) * interval + 1
        for k in range(min(span, frames - first)):
            at, part = divmod(k, interval)
            value = saliency[at]
            if part:
                value = value + (saliency[at + 1] - value) * np.float32(part / interval)
            weight = float(min(k + 1, span - k))
            before, total = sums.get(first + k, (np.float32(0), 0.0))
            sums[first + k] = (before + np.float32(weight) * value, total + weight)
    for frame in sorted(sums):
        yield _mean(sums.pop(frame))


def _mean(summed: tuple[Floats, float]) -> Floats:
    return summed[0] / np.float32(summed[1])
