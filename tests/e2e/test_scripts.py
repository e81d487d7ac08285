"""The scripts as a user's shell runs them, and the Python API as its documentation types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import aosa
from aosa.models.r3d50 import R3D50
from aosa.store.maps import load_map
from tests.running import ROOT, common_options, own_configs

pytestmark = pytest.mark.e2e


def shell(command: str, *, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line by a shell, in `folder`; ``python`` is the one that runs the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=folder, env=env)


@pytest.fixture
def video(tmp_path, write_video) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    return write_video(tmp_path / "my (1).avi", noise)


def test_printed_command_works_in_a_shell(tmp_path, video):
    options = "checkpoint=random explainer=random threads=1 output_root=out"
    ended = shell(f"python {ROOT}/scripts/explain_video.py {options} 'video={video.name}'", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the value of 'video' holds characters")
    assert "Traceback" not in ended.stderr
    again = shell(ended.stderr.splitlines()[1], folder=tmp_path)
    assert again.returncode == 0, again.stderr
    (sheet,) = tmp_path.rglob("contact_sheet.png")
    assert sheet.parent.parent == tmp_path / "out" / "videos" / "my (1)"


@pytest.mark.parametrize("full", ["0", "1"])
def test_traceback_only_when_asked_for(tmp_path, full):
    command = f"python {ROOT}/scripts/explain.py dataset=video_folder dataset.root=gone checkpoint=random"
    ended = shell(command, folder=tmp_path, HYDRA_FULL_ERROR=full)
    assert ended.returncode == 1
    assert ("Traceback" in ended.stderr) == (full == "1")
    assert "dataset.root=gone: no such folder" in ended.stderr


def test_own_network_by_config_alone(tmp_path):
    configs = own_configs(tmp_path)
    options = " ".join(common_options(Path("out")))
    where = f"--config-dir {configs} {options} dataset.size=2 model=own_net explainer=grad_cam"
    command = (
        f"python {ROOT}/scripts/explain.py {where} && python {ROOT}/scripts/evaluate.py {where} metric=truth_score"
    )
    ended = shell(command, folder=tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "out" / "maps" / "moving_shapes" / "own_net").rglob("*.b2nd"))) == 2
    assert len(list((tmp_path / "out" / "records").rglob("00000?.json"))) == 2


def test_api_as_documented(tmp_path, video):
    torch.save(R3D50(101).state_dict(), tmp_path / "save_200.pth")
    clip_file = video.rename(tmp_path / "clip.avi")

    model = aosa.load_model("r3d50", checkpoint=str(tmp_path / "save_200.pth"), num_classes=101)
    clip = aosa.load_clip(clip_file, model.spec)
    saliency = aosa.explainers.AOSA(stride=56, box=56, neighbours=1)(model, clip, target=15)
    aosa.overlay(clip, saliency).save(tmp_path / "overlay.mp4")
    scores = aosa.metrics.DeletionInsertion(steps=2)(model, clip, saliency)

    assert isinstance(model, aosa.VideoModel)
    assert clip.size == (16, 112, 112)
    assert saliency.shape == clip.size
    assert isinstance(saliency, aosa.SaliencyMap)
    assert saliency.target == 15
    assert (tmp_path / "overlay.mp4").stat().st_size > 1000
    assert scores["target"] == 15
    assert scores["overall"] == scores["insertion"] - scores["deletion"]
    aosa.save_map(tmp_path / "map.b2nd", saliency)
    assert torch.equal(load_map(tmp_path / "map.b2nd")[0].values, saliency.values)


def test_api_on_a_clip_made_by_hand():
    model = aosa.load_model("r3d_tiny", checkpoint="random", device="cpu")
    frames = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip = aosa.Clip(id="x", frames=frames, label=None)
    explainer = aosa.explainers.AOSAApprox(stride=16, box=16, neighbours=3, fill="patches", relu=True)
    saliency = explainer(model, clip)
    with torch.no_grad():
        assert saliency.target == int(model.logits(clip.tensor(model.spec)[None]).argmax())
    again = aosa.Clip.from_tensor(clip.tensor(model.spec), model.spec, id="x")
    assert torch.equal(explainer(model, again).values, saliency.values)
