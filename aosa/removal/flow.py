"""Optical flow between neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from aosa.errors import ConfigError


def _farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    start = np.zeros((*first.shape, 2), np.float32)  # not read: flags=0
    return np.asarray(
        cv2.calcOpticalFlowFarneback(
            first, second, start, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
        )
    )


def _dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # A fresh object a pair: it would otherwise start from the flow before.
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(first, second, None))  # type: ignore[call-overload]  # a given flow would be its start


FLOWS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"farneback": _farneback, "dis": _dis}


def optical_flow(frames: np.ndarray, method: str = "farneback", *, swap_channels: bool = False) -> np.ndarray:
    """Dense flow of a clip.

    Args:
        frames: uint8 T×H×W×3, RGB.
        method: ``farneback`` (pyramid .5, 3 levels, window 15, 3 iterations, poly 5 / 1.2: AOSA's) or
            ``dis`` (OpenCV's DIS, preset medium).
        swap_channels: weigh red as blue and blue as red when turning grey, as the authors' code does.

    Returns:
        float32 (T−1)×H×W×2, (dx, dy) in pixels from frame t to t+1.

    Raises:
        ConfigError: another method.
    """
    if method not in FLOWS:
        raise ConfigError(f"explainer.flow={method}: choose one of {', '.join(FLOWS)}")
    code = cv2.COLOR_BGR2GRAY if swap_channels else cv2.COLOR_RGB2GRAY
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), code) for frame in frames]
    if len(grey) < 2:
        return np.zeros((0, *frames.shape[1:3], 2), np.float32)
    return np.stack([FLOWS[method](a, b) for a, b in pairwise(grey)])
