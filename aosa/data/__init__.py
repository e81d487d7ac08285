"""Where clips come from."""

from __future__ import annotations

from pathlib import Path

from aosa.clip import Clip, InputSpec
from aosa.data.files import read_clip
from aosa.data.window import Window


def load_clip(
    path: str | Path,
    spec: InputSpec,
    *,
    window: str = "centre",
    index: int | None = None,
    interval: int | None = None,
    short_videos: str = "refuse",
    damaged_videos: str = "refuse",
) -> Clip:
    """One clip from a video file, or from a folder of numbered images, at a model's size.

    Args:
        spec: the model's (``model.spec``).
        window: ``centre``, ``start``, ``index`` (the `index`-th non-overlapping window), or ``segments`` (one frame
            of each of as many equal parts as the model takes frames).
        interval: source frames between sampled frames; default the spec's.
        short_videos: ``refuse``, or ``loop`` to begin again after the last frame.
        damaged_videos: of a window with frames that are lost or damaged in the file: ``refuse``, or ``use`` to take
            what decodes, the frame before in place of a lost one.

    Raises:
        VideoError: it cannot be decoded, is too short or lacks frames; the message names the file and the reason.
    """
    return read_clip(path, spec, Window(window, index, interval, short_videos, damaged_videos))[0]
