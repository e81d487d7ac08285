"""Optical flow between neighbouring frames."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from aosa.errors import ConfigError
from aosa.models.checkpoints import load_weights


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


@functools.lru_cache(maxsize=1)
def raft_small(weights: str | Path | None) -> nn.Module:
    """torchvision's RAFT-small (Teed and Deng 2020) with the weights of a file; nothing is downloaded.

    Args:
        weights: a checkpoint of torchvision's, such as ``raft_small_C_T_V2-01064c6d.pth``.

    Raises:
        ConfigError: no file is named, or torchvision is absent or cannot be imported beside the installed torch.
        CheckpointError: not the weights of a RAFT-small.
    """
    if weights is None:
        raise ConfigError(
            "explainer.flow=raft_small needs explainer.flow_weights=<file>, torchvision's checkpoint of it"
        )
    try:
        from torchvision.models import optical_flow as networks
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise ConfigError(
            f"explainer.flow=raft_small needs a torchvision that fits torch {torch.__version__}: {error}"
        ) from None
    network: nn.Module = networks.raft_small(weights=None, progress=False)
    load_weights(network, weights)
    return network.eval()


@torch.no_grad()
def _raft(frames: np.ndarray, weights: str | Path | None) -> np.ndarray:
    h, w = frames.shape[1:3]
    # RAFT wants sides divisible by 8, and at least 128 for its correlation pyramid.
    size = [max(128, math.ceil(side / 8) * 8) for side in (h, w)]
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    x = F.interpolate(x, size, mode="bilinear")
    network = raft_small(weights)
    flow = torch.cat([F.interpolate(network(a[None], b[None])[-1], (h, w), mode="bilinear") for a, b in pairwise(x)])
    return flow.permute(0, 2, 3, 1).numpy() * np.array([w / size[1], h / size[0]], np.float32)


def optical_flow(
    frames: np.ndarray,
    method: str = "farneback",
    *,
    swap_channels: bool = False,
    weights: str | Path | None = None,
) -> np.ndarray:
    """Dense flow of a clip.

    Args:
        frames: uint8 T×H×W×3, RGB.
        method: ``farneback`` (pyramid .5, 3 levels, window 15, 3 iterations, poly 5 / 1.2: AOSA's) or
            ``dis`` (OpenCV's DIS, preset medium), both of grey frames; ``raft_small``, of coloured ones.
        swap_channels: weigh red as blue and blue as red when turning grey, as the authors' code does.
        weights: of ``raft_small``, see there.

    Returns:
        float32 (T−1)×H×W×2, (dx, dy) in pixels from frame t to t+1.

    Raises:
        ConfigError: another method.
    """
    if len(frames) < 2:
        return np.zeros((0, *frames.shape[1:3], 2), np.float32)
    if method == "raft_small":
        return _raft(frames, weights)
    if method not in FLOWS:
        raise ConfigError(f"explainer.flow={method}: choose one of {', '.join((*FLOWS, 'raft_small'))}")
    code = cv2.COLOR_BGR2GRAY if swap_channels else cv2.COLOR_RGB2GRAY
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), code) for frame in frames]
    return np.stack([FLOWS[method](a, b) for a, b in pairwise(grey)])
