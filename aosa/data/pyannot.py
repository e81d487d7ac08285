"""Reads ``pyannot.pkl``, the corrected UCF101-24 boxes, without running what a pickle may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from aosa.errors import AosaError, MissingDataError
from aosa.unpickle import load_plain_pickle

_MOST = 1 << 26  # bytes of the file; the published one has 3.5 million


@dataclass(frozen=True)
class Tube:
    """One actor through time: row i of `boxes` (x0, y0, x1, y1) belongs to frame ``start + i``."""

    start: int
    boxes: np.ndarray

    @property
    def end(self) -> int:
        """The frame after the last one."""
        return self.start + len(self.boxes)


def read_pyannot(path: str | Path) -> dict[str, list[Tube]]:
    """The tubes of every annotated video, keyed ``<Class>/<video>``, in pixels of 320×240 frames.

    Boxes are stored as x, y, width, height in as few bits as will do (uint8, uint16), so they are made
    float64 before anything is added.

    Raises:
        ConfigError: no such file.
        AosaError: a pickle that asks for anything but plain data, or that holds something else: boxes that are not
            N×4 or not finite, a tube that does not begin at a frame or has another number of boxes than of frames.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            data = load_plain_pickle(file, path, _MOST)
    except OSError:
        raise MissingDataError(f"dataset.annotations={path}: no such file") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise AosaError(f"{path}: not an annotation of UCF101-24: expected a dict whose keys are names of videos")
    tubes: dict[str, list[Tube]] = {}
    for key, video in data.items():
        try:
            tubes[str(key)] = [_tube(annotation) for annotation in video["annotations"]]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise AosaError(f"{path}: not an annotation of UCF101-24: video {str(key)!r:.100}: {why}") from None
    return tubes


def _tube(annotation: dict[str, Any]) -> Tube:
    boxes, start, end = annotation["boxes"], annotation["sf"], annotation.get("ef")
    if not isinstance(boxes, np.ndarray):
        boxes = np.array([[float(value) for value in row] for row in boxes]).reshape(-1, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise ValueError(f"boxes of shape {boxes.shape} and dtype {boxes.dtype}, expected N×4 numbers")
    if not isinstance(start, Integral) or start < 0:
        raise ValueError("sf is not the number of a frame")
    if end is not None and (not isinstance(end, Integral) or int(end) - int(start) != len(boxes)):
        raise ValueError(f"{len(boxes)} boxes, but the frames from sf to ef are others in number")
    boxes = boxes.astype(np.float64)
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < 0).any():
        raise ValueError("boxes that are not finite, or of a negative size")
    boxes[:, 2:] += boxes[:, :2]
    return Tube(int(start), boxes)
