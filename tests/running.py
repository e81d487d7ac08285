"""Runs scripts as a user does, in this process for speed or in one of their own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import av
import numpy as np

from aosa import cli
from aosa.config import quoted

ROOT = Path(__file__).resolve().parents[1]

# A network that is not part of the package, with what a user writes to make it known.
NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, 3, padding=1)
        self.fc = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3, 4)))
"""
MODEL = """
_target_: aosa.models.build_model
name: own_net
network: {_target_: own_network.Net, width: 5}
spec: {_target_: aosa.clip.InputSpec, frames: 6, size: [32, 32]}
class_names: moving_shapes
target_layer: conv
checkpoint: random
device: ${device}
precision: ${precision}
batch_size: ${batch_size}
"""
EXPERIMENT = """
name: own
title: Two explainers of a network of one's own
paper: null
table: null
columns: null
settings: Six clips.
gallery: 2
grids:
  - dataset: moving_shapes
    models: [own_net]
    explainers: [grad_cam, random]
    metrics: [deletion_insertion, spatial_pointing, truth_score]
    overrides: [dataset.size=6]
    explainer_options: {grad_cam: [explainer.relu=false]}
"""


@dataclass
class Ended:
    """How a script ended: exit status, and what it printed."""

    status: int
    out: str
    err: str


def run(stage: str, *overrides: str) -> Ended:
    """``python scripts/<stage>.py <overrides>`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with (
        mock.patch.object(sys, "argv", [f"scripts/{stage}.py", *overrides]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main(stage)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return Ended(status, out.getvalue(), err.getvalue())


def start(stage: str, *overrides: str, before: str = "", **options: object) -> subprocess.Popen[str]:
    """The same in a process of its own, which first runs the Python code `before`."""
    code = f"{before}\nfrom aosa.start import main\nmain({stage!r})"
    return subprocess.Popen(
        [sys.executable, "-c", code, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        **options,  # type: ignore[call-overload]
    )


def common_options(folder: Path) -> list[str]:
    """Small and repeatable: results below `folder`, random weights, one thread."""
    return [f"output_root={quoted(str(folder))}", "checkpoint=random", "threads=1", "device=cpu"]


def snapshot(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """The bytes of all files of these kinds, by relative path."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found if p.name.endswith(suffixes)}


def write_audio(path: Path) -> Path:
    """A file with sound and no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def own_configs(folder: Path) -> Path:
    """Writes the network beside a folder of configs for ``--config-dir``, which is returned."""
    (folder / "own_network.py").write_text(NETWORK)
    for group, name, text in (("model", "own_net", MODEL), ("experiment", "own", EXPERIMENT)):
        path = folder / "configs" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return folder / "configs"
