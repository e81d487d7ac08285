"""Where clips come from."""

from __future__ import annotations

from pathlib import Path

from aosa.clip import Clip, InputSpec
from aosa.data.files import read_clip
from aosa.data.window import Window


def load_clip(path: str | Path, spec: InputSpec, window: Window | None = None) -> Clip:
    """One clip from a video file, or from a folder of numbered images, at a model's size.

    Args:
        spec: the model's (``model.spec``).
        window: which frames, such as ``aosa.Window(window="start", interval=2)``; None = those at the centre, at the
            spec's interval.

    Raises:
        VideoError: it cannot be decoded, is too short or lacks frames; the message names the file and the reason.
    """
    return read_clip(path, spec, window)[0]
