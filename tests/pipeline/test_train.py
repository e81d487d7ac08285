"""Training: learns, resumes to the same bytes, and stops with a clear error where it must."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import nn

from aosa.clip import Clip, InputSpec
from aosa.data.base import Entry, VideoDataset
from aosa.errors import AosaError, CheckpointError, ConfigError, VideoError
from aosa.models import VideoModel
from aosa.pipeline import train


class Toy(VideoDataset):
    """Bright clips and dark ones; a mark on the left says nothing, so mirroring is harmless."""

    name = "toy"
    class_names = ("bright", "dark")
    flip_keeps_class = True
    stop_after: int | None = None  # loads left before a pretended power cut

    def __init__(self, part: str = "test", size: int = 24, broken: bool = False) -> None:
        self.part, self.broken, self.problems = part, broken, []
        self.entries = [Entry(id=f"{part}/{i}", class_name=self.class_names[i % 2]) for i in range(size)]

    def load(self, entry: Entry, spec: InputSpec) -> Clip:
        if Toy.stop_after is not None:
            Toy.stop_after -= 1
            if Toy.stop_after < 0:
                raise KeyboardInterrupt
        if self.broken and entry.id.endswith("/3"):
            raise VideoError(f"{entry.id}: truncated")
        frames = np.random.default_rng(len(entry.id)).integers(0, 80, (spec.frames, *spec.size, 3), dtype=np.uint8)
        return Clip(entry.id, torch.from_numpy(frames + (120 if entry.class_name == "bright" else 0)))

    def fingerprint(self, entry: Entry) -> str:
        return entry.id

    def identity(self) -> dict[str, object]:
        return {"part": self.part}


class Net(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 1)
        self.norm = nn.BatchNorm3d(4)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(4, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.norm(self.conv(x)).relu().mean((2, 3, 4))))


def toy_model(checkpoint: str | None, outputs: int = 2) -> VideoModel:
    network = Net(outputs)
    if checkpoint not in (None, "random"):
        network.load_state_dict(load_file(checkpoint))
    names = ["dark", "bright", *(f"other{i}" for i in range(outputs - 2))]
    return VideoModel(network, InputSpec(4, 1, (8, 8)), name="net", class_names=names, device="cpu")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Toy.stop_after = None
    torch.set_num_threads(1)  # the network is so small that threads only wait for each other


def config(root: Path, dataset: dict[str, Any] | None = None, **options: Any) -> DictConfig:
    settings = {
        "parts": {"train": {"part": "train"}, "val": {"part": "val"}, "test": {"part": "test"}},
        "epochs": 3,
        "clips_per_epoch": 16,
        "batch_size": 4,
        "optimizer": "adamw",
        "lr": 0.05,
        "warmup_epochs": 0.5,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "flip": True,
        "freeze": "none",
        "new_head": False,
        "workers": 0,
        "restart": False,
    }
    return OmegaConf.create(
        {
            "output_root": str(root),
            "seed": 0,
            "limit": None,
            "threads": None,
            "precision": "fp32",
            "checkpoint": None,
            "dataset": {"_target_": f"{__name__}.Toy", "part": "test", "size": 24, "broken": False, **(dataset or {})},
            "model": {"_target_": f"{__name__}.toy_model", "checkpoint": None, "outputs": 2},
            "train": {**settings, **options},
        }
    )


def folder(root: Path) -> Path:
    return root / "train" / "toy" / "net"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_learns_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.run(config(tmp_path, epochs=6)) == 0
    assert "test accuracy 1.0000 (24 / 24)" in capsys.readouterr().out
    rows = list(csv.DictReader((folder(tmp_path) / "log.csv").open()))
    assert [r["epoch"] for r in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["val_accuracy"]) == 1
    assert OmegaConf.load(folder(tmp_path) / "config.yaml").train.epochs == 6
    assert not list(folder(tmp_path).glob(".*"))


@pytest.mark.parametrize("loads", [5, 16, 30, 75, 110])
def test_cut_anywhere_and_started_again_it_ends_the_same(tmp_path: Path, loads: int) -> None:
    train.run(config(tmp_path / "whole"))
    Toy.stop_after = loads
    with pytest.raises(KeyboardInterrupt):
        train.run(config(tmp_path / "cut"))
    Toy.stop_after = None
    torch.rand(7)
    train.run(config(tmp_path / "cut"))
    for name in ("best.safetensors", "log.csv"):
        assert sha(folder(tmp_path / "cut") / name) == sha(folder(tmp_path / "whole") / name)
    states = [
        torch.load(folder(tmp_path / part) / "last.pt", weights_only=True)["network"] for part in ("whole", "cut")
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    train.run(config(tmp_path))
    before = sha(folder(tmp_path) / "last.pt")
    Toy.stop_after = 24  # just the test part
    train.run(config(tmp_path, workers=0))
    assert sha(folder(tmp_path) / "last.pt") == before


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    train.run(config(tmp_path))
    with pytest.raises(ConfigError, match=r"other settings.*train\.restart=true"):
        train.run(config(tmp_path, lr=0.01))
    train.run(config(tmp_path, lr=0.01, restart=True))
    assert OmegaConf.load(folder(tmp_path) / "config.yaml").train.lr == 0.01


def test_a_damaged_last_pt_is_named(tmp_path: Path) -> None:
    train.run(config(tmp_path))
    (folder(tmp_path) / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read"):
        train.run(config(tmp_path))


def test_a_bad_video_is_passed_over_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.run(config(tmp_path, {"broken": True}, clips_per_epoch=None)) == 3
    rows = list(csv.DictReader((folder(tmp_path) / "failures.csv").open()))
    assert [r["clip"] for r in rows] == ["test/3", "train/3", "val/3"]
    assert rows[0]["reason"] == "test/3: truncated"
    assert "/ 23)" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(AosaError, match=r"the loss is (nan|inf).*train\.lr"):
        train.run(config(tmp_path, lr=1e30, optimizer="sgd", warmup_epochs=0))


def test_a_frozen_backbone_stays_as_it_was(tmp_path: Path) -> None:
    train.run(config(tmp_path / "first"))
    start = load_file(folder(tmp_path / "first") / "best.safetensors")
    cfg = config(tmp_path / "second", freeze="backbone", seed=1)
    cfg.checkpoint = cfg.model.checkpoint = str(folder(tmp_path / "first") / "best.safetensors")
    train.run(cfg)
    end = torch.load(folder(tmp_path / "second") / "last.pt", weights_only=True)["network"]
    changed = {k for k in start if not torch.equal(start[k], end[k])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_new_head_has_the_classes_of_the_data_set(tmp_path: Path) -> None:
    cfg = config(tmp_path, new_head=True)
    cfg.model.outputs = 5
    train.run(cfg)
    assert load_file(folder(tmp_path) / "best.safetensors")["fc.weight"].shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "train.optimizer=adam"),
        ({"freeze": "head"}, "train.freeze=head"),
        ({"lr": -1.0}, "train.lr"),
        ({"epochs": 0}, "train.epochs"),
        ({"parts": {"train": {"prt": 1}}}, r"train\.parts\.train\.prt.*keys: part, size, broken"),
        ({"parts": {"train": {}, "val": {}}}, r"train\.parts\.test is missing"),
    ],
)
def test_bad_options_are_refused_before_any_work(tmp_path: Path, options: dict, message: str) -> None:
    Toy.stop_after = 0
    with pytest.raises(ConfigError, match=message):
        train.run(config(tmp_path, **options))
    assert not folder(tmp_path).exists()


def test_the_schedule_warms_up_and_falls_to_nothing() -> None:
    cfg = config(Path("unused"), epochs=10, warmup_epochs=1, lr=0.1)
    trainer = train._Trainer(toy_model(None), cfg.train, 0, clips=16)
    assert trainer.steps == 4
    rates = [trainer.rate(i) for i in range(40)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[22] == pytest.approx(0.05)
    assert rates[39] == pytest.approx(0.1 * 0.5 * (1 + np.cos(np.pi * 35 / 36)))


def test_every_clip_is_seen_before_any_is_seen_twice() -> None:
    trainer = train._Trainer(toy_model(None), config(Path("unused"), clips_per_epoch=5).train, 0, clips=15)
    epochs = [trainer.indices(e) for e in range(6)]
    assert sorted([*epochs[0], *epochs[1], *epochs[2]]) == list(range(15))
    assert sorted([*epochs[3], *epochs[4], *epochs[5]]) == list(range(15))
    assert epochs[0] != epochs[3]
