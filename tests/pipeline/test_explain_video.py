"""One video in; overlay, contact sheet and map out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from aosa import load_map
from aosa.config import quoted
from tests.running import Ended, common_options, run


@pytest.fixture
def video(tmp_path, write_video) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)
    return write_video(tmp_path / "clip.avi", noise)


def explain(folder: Path, video: Path, *overrides: str) -> Ended:
    options = [*common_options(folder / "out"), "explainer=grad_cam", f"video={quoted(str(video))}"]
    return run("explain_video", *options, *overrides)


def folders(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.rglob("info.json"))


def test_overlay_contact_sheet_and_map(tmp_path, video):
    ended = explain(tmp_path, video)
    assert ended.status == 0, ended.err
    (out,) = folders(tmp_path)
    assert out.parent == tmp_path / "out" / "videos" / "clip"
    assert out.name.startswith("r3d_tiny-grad_cam-")
    assert {p.name for p in out.iterdir()} == {
        "overlay.mp4", "contact_sheet.png", "map.b2nd", "info.json", "config.yaml"
    }  # fmt: skip
    with av.open(str(out / "overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) == 16
    with Image.open(out / "contact_sheet.png") as sheet:
        assert np.asarray(sheet).std() > 10
    saliency, meta = load_map(out / "map.b2nd")
    info = json.loads((out / "info.json").read_text())
    assert saliency.shape == (16, 64, 64)
    assert saliency.target == meta["target"] == info["target"]
    assert info["target_name"] == max(info["top"], key=info["top"].get)
    assert info["source"] == {
        "path": "clip.avi", "start": 12, "interval": 1, "frames_in_video": 40, "size": [32, 48]
    }  # fmt: skip
    assert f"{info['target_name']}   <- explained" in ended.out


@pytest.mark.parametrize(
    ("overrides", "start", "interval"),
    [
        (["window=start"], 0, 1),
        (["window=index", "index=1"], 16, 1),
        (["interval=2"], 4, 2),
        (["window=start", "interval=2"], 0, 2),
    ],
)
def test_window(tmp_path, video, overrides, start, interval):
    assert explain(tmp_path, video, *overrides).status == 0
    (out,) = folders(tmp_path)
    source = json.loads((out / "info.json").read_text())["source"]
    assert (source["start"], source["interval"]) == (start, interval)


@pytest.mark.parametrize(("target", "index"), [("vertical", 3), ("5", 5)])
def test_target(tmp_path, video, target, index):
    assert explain(tmp_path, video, f"target={target}").status == 0
    (out,) = folders(tmp_path)
    assert load_map(out / "map.b2nd")[0].target == index


def test_each_window_and_target_has_a_folder_of_its_own(tmp_path, video):
    for overrides in (["target=1"], ["target=2"], ["target=2", "window=start"], ["target=1"]):
        assert explain(tmp_path, video, *overrides).status == 0
    assert len(folders(tmp_path)) == 3


def test_folder_of_images(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(16):
        Image.fromarray(np.full((32, 48, 3), 8 * i, np.uint8)).save(frames / f"image_{i + 1:05d}.png")
    assert explain(tmp_path, frames).status == 0
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["video=null"], "video=<file> is missing"),
        (["video=gone.mp4"], "gone.mp4: no such video"),
        (["target=label"], "target=label: a lone video has no label"),
        (["target=6"], "target=6 is out of range"),
        (["target=Vertical"], "did you mean 'vertical'?"),
        (["window=middle"], "error: window=middle: choose one of centre, start, index"),
        (["index=1"], "an index is needed with window=index, and only there"),
        (["window=index", "index=2"], "2 windows of 16: index must be below 2"),
        (["interval=3"], "has 40 frames, the window needs 46"),
        (["interval=0"], "error: interval=0: give"),
        (["fps=0"], "error: fps=0: give"),
        (["explainer.layer=layer9"], "has no layer 'layer9'"),
    ],
)
def test_bad_input(tmp_path, video, overrides, message):
    ended = explain(tmp_path, video, *overrides)
    assert ended.status == 1
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert folders(tmp_path) == []


def test_name_that_hydra_rejects_is_printed_quoted_and_then_works(tmp_path, video):
    odd = video.rename(tmp_path / "it's my (1), [2]{3}.avi")
    options = [*common_options(tmp_path / "out"), "explainer=random", f"video={odd}"]
    ended = run("explain_video", *options)
    assert ended.status == 1
    assert ended.err.startswith("error: the value of 'video' holds characters that Hydra's grammar reserves; quote it")
    words = shlex.split(ended.err.splitlines()[1])
    assert words[:2] == ["python", "scripts/explain_video.py"]
    assert run("explain_video", *words[2:]).status == 0
    assert [p.parent.name for p in folders(tmp_path)] == ["it's my (1), [2]{3}"]
