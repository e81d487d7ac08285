"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.helpers import needs

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The same bytes on every machine need the same number of threads; the tests themselves run side by side."""
    torch.set_num_threads(1)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real clips beside the project; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real clips are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium; see `needs`."""
    chromium = needs("chromium", "chromium", "chromium-browser", "google-chrome")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def write_video() -> Callable[[Path, np.ndarray | int], Path]:
    """Writes uint8 T×H×W×3 RGB frames, or so many 32×48 frames of which frame i is grey 4·i, and their folders.

    .avi and .mkv are lossless (FFV1, RGB); .mp4 is not (MPEG-4 part 2).
    """

    def write(path: Path, frames: np.ndarray | int) -> Path:
        if isinstance(frames, int):
            grey = (np.arange(frames) * 4).astype(np.uint8)
            frames = np.ascontiguousarray(np.broadcast_to(grey[:, None, None, None], (frames, 32, 48, 3)))
        path.parent.mkdir(parents=True, exist_ok=True)
        codec, pixels = ("mpeg4", "yuv420p") if path.suffix == ".mp4" else ("ffv1", "bgr0")
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
            stream.gop_size = 1  # a file cut short then decodes up to the cut
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write
