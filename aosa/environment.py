"""What runs a job: versions, commit, device."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from aosa import __version__
from aosa.models.base import VideoModel


def environment(model: VideoModel) -> dict[str, Any]:
    """What runs a job: versions, commit, device, batch size, precision, threads."""
    return {
        "aosa": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device),
        "batch_size": model.batch_size,
        "precision": model.precision,
        "threads": torch.get_num_threads(),
    }


@cache
def commit() -> str:
    """The commit of the checkout that runs, with a mark when files were changed since; "unknown" for a wheel."""
    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return result.stdout.strip()

    try:
        changed = " (with uncommitted changes)" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + changed if (here / ".git").exists() else "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
