"""Reads ``pyannot.pkl``, the corrected UCF101-24 boxes, without running what a pickle may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aosa.errors import AosaError, ConfigError
from aosa.unpickle import load_plain_pickle


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
        AosaError: a pickle that asks for anything but plain data, or that holds something else.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            data = load_plain_pickle(file, path)
    except OSError:
        raise ConfigError(f"dataset.annotations={path}: no such file") from None
    try:
        return {str(key): [_tube(a) for a in video["annotations"]] for key, video in data.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AosaError(f"{path}: not an annotation of UCF101-24 ({type(error).__name__}: {error})") from None


def _tube(annotation: dict) -> Tube:
    boxes = np.asarray(annotation["boxes"]).astype(np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Tube(int(annotation["sf"]), boxes)
