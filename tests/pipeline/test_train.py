"""Training: learns, resumes to the same bytes, and stops with a clear error where it must."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from aosa.clip import Clip, InputSpec
from aosa.config import build, compose, config_dir
from aosa.data.base import Entry, VideoDataset, View
from aosa.errors import AosaError, CheckpointError, ConfigError, VideoError
from aosa.models import VideoModel, randomise
from aosa.models.checkpoints import load_weights
from aosa.models.r3d_tiny import R3DTiny
from aosa.rng import key_seed
from aosa.stages import train
from aosa.training import trainer
from aosa.training.clips import Augmentation, Batch, Clips
from aosa.training.trainer import Accuracy, Trainer
from aosa.video import decode


class Toy(VideoDataset):
    """Bright clips and dark ones; a mark on the left says nothing, so mirroring is harmless."""

    name = "toy"
    class_names = ("bright", "dark")
    flip_keeps_class = True
    stop_after: int | None = None  # loads left before a pretended power cut
    loads: ClassVar[list[tuple[str, View | None]]] = []

    def __init__(self, part: str = "test", size: int = 24, broken: bool = False, all_broken: bool = False) -> None:
        self.part, self.broken, self.all_broken, self.problems = part, broken, all_broken, []
        self.entries = [Entry(id=f"{part}/{i}", class_name=self.class_names[i % 2]) for i in range(size)]

    def load(self, entry: Entry, spec: InputSpec, view: View | None = None) -> Clip:
        Toy.loads.append((entry.id, view))
        if Toy.stop_after is not None:
            Toy.stop_after -= 1
            if Toy.stop_after < 0:
                raise KeyboardInterrupt
        if len(Toy.loads) > int(os.environ.get("TOY_LOADS", "1000000")):  # reaches other processes
            raise AosaError("power cut")
        if self.all_broken or (self.broken and entry.id.endswith("/3")):
            raise VideoError(f"{entry.id}: truncated")
        rng = np.random.default_rng(key_seed(entry.id, view))
        frames = rng.integers(0, 80, (spec.frames, *spec.size, 3), dtype=np.uint8)
        return Clip(entry.id, torch.from_numpy(frames + (120 if entry.class_name == "bright" else 0)))

    def fingerprint(self, entry: Entry) -> str:
        return entry.id

    def identity(self) -> dict[str, object]:
        return {"part": self.part}


class Net(nn.Module):
    """Kinds: `norm`; `plain`, without batch norm and dropout; `conv`, whose head is a 1×1×1 convolution that a mean
    over places follows; `odd`, whose head's outputs are doubled."""

    def __init__(self, outputs: int, kind: str = "norm") -> None:
        super().__init__()
        self.num_classes, self.kind = outputs, kind
        self.conv = nn.Conv3d(3, 4, 1)
        self.norm = nn.BatchNorm3d(4) if kind == "norm" else nn.Identity()
        self.drop = nn.Dropout(0.1 if kind == "norm" else 0.0)
        self.fc: nn.Module = nn.Conv3d(4, outputs, 1) if kind == "conv" else nn.Linear(4, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x)).relu()
        if self.kind == "conv":
            return self.fc(F.avg_pool3d(x, (2, 4, 4))).mean((2, 3, 4))
        return self.fc(self.drop(x.mean((2, 3, 4)))) * (2 if self.kind == "odd" else 1)


def toy_model(
    checkpoint: str | None, outputs: int = 2, kind: str = "norm", precision: str = "fp32", new_head: bool = False
) -> VideoModel:
    network = Net(outputs, kind)
    if checkpoint not in (None, "random"):
        load_weights(network, checkpoint, new_head=new_head)
    names = ["dark", "bright", *(f"other{i}" for i in range(outputs - 2))]
    spec = InputSpec(4, 1, (8, 8))
    return VideoModel(network, spec, name="net", class_names=names, device="cpu", precision=precision)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Toy.stop_after, Toy.loads = None, []
    torch.set_num_threads(1)  # the network is so small that threads only wait for each other


def config(root: Path, dataset: dict[str, Any] | None = None, **options: Any) -> DictConfig:
    settings = {
        "parts": {"train": {"part": "train"}, "val": {"part": "val"}, "test": {"part": "test"}},
        "epochs": 3,
        "clips_per_epoch": 16,
        "batch_size": 4,
        "accumulate": 1,
        "devices": 1,
        "optimizer": "adamw",
        "momentum": 0.9,
        "lr": 0.05,
        "warmup_epochs": 0.5,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "milestones": [],
        "gamma": 0.1,
        "label_smoothing": 0.0,
        "clip_norm": None,
        "flip": True,
        "crop": "none",
        "crop_scale": [0.6, 1.0],
        "window": "centre",
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
            "dry_run": False,
            "threads": None,
            "device": "cpu",
            "precision": "fp32",
            "checkpoint": None,
            "tracking": {"_target_": "aosa.tracking.dashboards.Untracked"},
            "dataset": {
                "_target_": f"{__name__}.Toy",
                "part": "test",
                "size": 24,
                "broken": False,
                "all_broken": False,
                **(dataset or {}),
            },
            "model": {
                "_target_": f"{__name__}.toy_model",
                "checkpoint": "${checkpoint}",
                "outputs": 2,
                "kind": "norm",
                "precision": "${precision}",
            },
            "train": {**settings, **options},
        }
    )


def folder(root: Path) -> Path:
    return root / "train" / "toy" / "net"


def last(root: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder(root) / "last.pt", weights_only=True)["network"]


def assert_close(first: Path, second: Path) -> None:
    one, two = last(first), last(second)
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)


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
    states = [last(tmp_path / part) for part in ("whole", "cut")]
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


class Runs:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it ran",)


def test_a_last_pt_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.run(config(tmp_path))
    path = folder(tmp_path) / "last.pt"
    whole = path.read_bytes()

    def message() -> str:
        with pytest.raises(CheckpointError, match=r"last\.pt.*train\.restart=true") as error:
            train.run(config(tmp_path))
        return str(error.value)

    path.write_bytes(b"not a checkpoint")
    assert "another format" in message()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in message()
    assert "Errno" not in message()
    torch.save({"settings": Runs()}, path)
    assert "asks to run print" in message()
    assert "weights_only" not in message()
    assert "it ran" not in capsys.readouterr().out
    for other in ([1, 2], {"settings": "x"}):
        torch.save(other, path)
        assert "no training to go on with" in message()


def test_lost_best_weights_are_named_when_going_on(tmp_path: Path) -> None:
    train.run(config(tmp_path))
    (folder(tmp_path) / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*missing.*train\.restart=true"):
        train.run(config(tmp_path))


def test_a_bad_video_is_passed_over_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.run(config(tmp_path, {"broken": True}, clips_per_epoch=None)) == 3
    rows = list(csv.DictReader((folder(tmp_path) / "failures.csv").open()))
    assert [r["clip"] for r in rows] == ["test/3", "train/3", "val/3"]
    assert rows[0]["reason"] == "test/3: truncated"
    assert "/ 23)" in capsys.readouterr().out


def test_validation_without_one_readable_clip_stops_the_run(tmp_path: Path) -> None:
    def settings(broken: bool) -> DictConfig:
        cfg = config(tmp_path, {"all_broken": broken})
        cfg.train.parts.train.all_broken = False
        return cfg

    with pytest.raises(AosaError, match=r"no validation clip.*first reason: val/0: truncated"):
        train.run(settings(broken=True))
    rows = list(csv.DictReader((folder(tmp_path) / "failures.csv").open()))
    assert {r["clip"] for r in rows} == {f"val/{i}" for i in range(24)}
    assert train.run(settings(broken=False)) == 0
    assert not (folder(tmp_path) / "failures.csv").exists()


@pytest.mark.parametrize(("kind", "used"), [("norm", 8), ("plain", 9)])
def test_a_lone_clip_is_passed_over_only_where_batch_norm_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, used: int
) -> None:
    seen: list[int] = []
    backward = Trainer._backward

    def noted(self: Trainer, batch: Batch, used: int) -> tuple[float, int]:
        seen.append(used)
        return backward(self, batch, used)

    monkeypatch.setattr(Trainer, "_backward", noted)
    cfg = config(tmp_path, epochs=1, clips_per_epoch=9)
    cfg.model.kind = kind
    train.run(cfg)
    assert sum(seen) == used


def test_steps_of_one_clip_are_refused_where_batch_norm_trains(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size=1: .*at least 2, or train\.freeze=backbone"):
        train.run(config(tmp_path, batch_size=1))
    assert not folder(tmp_path).exists()
    assert train.run(config(tmp_path / "frozen", epochs=1, batch_size=1, freeze="backbone", flip=False)) == 0
    plain = config(tmp_path / "plain", epochs=1, batch_size=1)
    plain.model.kind = "plain"
    assert train.run(plain) == 0


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(AosaError, match=r"the loss is (nan|inf).*train\.lr"):
        train.run(config(tmp_path, lr=1e30, optimizer="sgd", warmup_epochs=0))


def test_a_frozen_backbone_stays_as_it_was(tmp_path: Path) -> None:
    train.run(config(tmp_path / "first"))
    start = load_file(folder(tmp_path / "first") / "best.safetensors")
    cfg = config(tmp_path / "second", freeze="backbone")
    cfg.seed = 1
    cfg.checkpoint = str(folder(tmp_path / "first") / "best.safetensors")
    train.run(cfg)
    end = last(tmp_path / "second")
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
        ({"devices": 0}, "train.devices=0"),
        ({"crop_scale": [0.9, 0.5]}, r"train.crop_scale=.*\[low, high\]"),
        ({"schedule": "multistep"}, "train.milestones"),
        ({"milestones": None}, "train.milestones=null: give a list of numbers"),
        ({"crop_scale": None}, "train.crop_scale=null: give a list of 2 numbers"),
        ({"milestones": 3}, "train.milestones=3: give a list of numbers"),
        ({"crop_scale": ["a", 1]}, "train.crop_scale=.*: give a list of 2 numbers"),
        ({"lr": None}, "train.lr=null: give a number"),
        ({"epochs": 0}, "train.epochs"),
        ({"parts": {"train": {"prt": 1}}}, r"train\.parts\.train\.prt.*keys: part, size, broken, all_broken"),
        ({"parts": {"train": {}, "val": {}}}, r"train\.parts\.test is missing"),
    ],
)
def test_bad_options_are_refused_before_any_work(tmp_path: Path, options: dict, message: str) -> None:
    Toy.stop_after = 0
    with pytest.raises(ConfigError, match=message):
        train.run(config(tmp_path, **options))
    assert not folder(tmp_path).exists()


def teacher_of(cfg: DictConfig, clips: int) -> Trainer:
    model = toy_model(None)
    return Trainer(train._fabric(cfg), model, cfg.train, 0, Clips(Toy(size=clips), model))


def test_the_cosine_warms_up_and_falls_to_nothing() -> None:
    teacher = teacher_of(config(Path("unused"), epochs=10, warmup_epochs=1, lr=0.1), clips=16)
    assert teacher.steps == 4
    rates = [teacher.rate(i) for i in range(40)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[22] == pytest.approx(0.05)
    assert rates[39] == pytest.approx(0.1 * 0.5 * (1 + np.cos(np.pi * 35 / 36)))


def test_the_other_schedules() -> None:
    options = {"epochs": 10, "warmup_epochs": 0, "lr": 0.1}
    steps = teacher_of(config(Path("unused"), schedule="multistep", milestones=[2, 5], gamma=0.5, **options), clips=16)
    assert [steps.rate(i) for i in (0, 7, 8, 19, 20, 39)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    constant = teacher_of(config(Path("unused"), schedule="constant", **options), clips=16)
    assert {constant.rate(i) for i in range(40)} == {0.1}


def test_every_clip_is_seen_before_any_is_seen_twice() -> None:
    teacher = teacher_of(config(Path("unused"), clips_per_epoch=5), clips=15)
    epochs = [teacher.indices(e) for e in range(6)]
    assert sorted([*epochs[0], *epochs[1], *epochs[2]]) == list(range(15))
    assert sorted([*epochs[3], *epochs[4], *epochs[5]]) == list(range(15))
    assert epochs[0] != epochs[3]


def test_the_best_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[dict[str, torch.Tensor]] = []

    def validate(self: Trainer, clips: Clips) -> Accuracy:
        epochs.append({k: v.clone() for k, v in self.model.network.state_dict().items()})
        return Accuracy((5, 9, 9, 7)[len(epochs) - 1], 10, [])

    monkeypatch.setattr(Trainer, "validate", validate)
    train.run(config(tmp_path, epochs=4))
    kept = load_file(folder(tmp_path) / "best.safetensors")
    assert all(torch.equal(kept[k], epochs[1][k]) for k in kept)
    assert not torch.equal(kept["fc.weight"], epochs[2]["fc.weight"])


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    for workers in (0, 2):
        train.run(config(tmp_path / str(workers), epochs=1, crop="random", window="random", workers=workers))
    assert sha(folder(tmp_path / "0") / "best.safetensors") == sha(folder(tmp_path / "2") / "best.safetensors")


FORKED = """
import cv2
import numpy as np
from pathlib import Path
from aosa.stages import train
from tests.pipeline.test_train import config

cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.float32), (31, 31), 5)  # starts OpenCV's threads
raise SystemExit(train.run(config(Path({folder!r}), epochs=1, workers=1)))
"""


def test_workers_do_not_wait_for_the_threads_of_their_parent(tmp_path: Path) -> None:
    script = [sys.executable, "-c", FORKED.format(folder=str(tmp_path))]
    assert subprocess.run(script, cwd=Path(__file__).parents[2], timeout=300, capture_output=True).returncode == 0


def test_bf16_learns_and_rounds(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        cfg = config(tmp_path / precision)
        cfg.precision = precision
        train.run(cfg)
        rows = list(csv.DictReader((folder(tmp_path / precision) / "log.csv").open()))
        assert float(rows[-1]["val_accuracy"]) == 1
    exact, rounded = last(tmp_path / "fp32")["conv.weight"], last(tmp_path / "bf16")["conv.weight"]
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.precision = "fp16"
    with pytest.raises(ConfigError, match="precision=fp16: training on a CPU"):
        train.run(cfg)


def test_a_step_in_parts_is_the_same_step(tmp_path: Path) -> None:
    for accumulate in (1, 3):  # batches of 4, 4, 3 clips in parts of 2
        cfg = config(tmp_path / str(accumulate), accumulate=accumulate, clips_per_epoch=11)
        cfg.model.kind = "plain"
        train.run(cfg)
    assert_close(tmp_path / "1", tmp_path / "3")


def test_gradients_are_clipped(tmp_path: Path) -> None:
    options = {"optimizer": "sgd", "momentum": 0.0, "lr": 1.0, "weight_decay": 0.0, "warmup_epochs": 0}
    train.run(config(tmp_path, epochs=1, clips_per_epoch=4, clip_norm=0.01, schedule="constant", **options))
    start = Net(2)
    randomise(start, 0)
    end = last(tmp_path)
    change = sum(float((end[k] - v.detach()).square().sum()) for k, v in start.named_parameters()) ** 0.5
    assert change == pytest.approx(0.01, rel=1e-3)


def test_views_are_drawn_by_seed_epoch_and_clip() -> None:
    draws = [Augmentation((0, epoch), window=True, zoom=(0.5, 0.8)) for epoch in (0, 0, 1)]
    views = [[d.view(f"clip{i}") for i in range(200)] for d in draws]
    assert views[0] == views[1]
    assert not any(a == b for a, b in zip(views[0], views[2], strict=True))
    values = torch.tensor([[v.start, v.across, v.down, v.zoom] for v in views[0] if v is not None])
    low, high = torch.tensor([0, 0, 0, 0.5]), torch.tensor([1, 1, 1, 0.8])
    assert ((values >= low) & (values <= high)).all()
    spread = (values.amax(0) - values.amin(0)) / (high - low)
    assert (spread > 0.95).all()
    assert Augmentation((0, 0), zoom=(1.0, 1.0)).view("a") != Augmentation((0, 0), zoom=(1.0, 1.0)).view("b")
    alone = Augmentation((0, 0), window=True).view("clip0")
    assert alone == View(start=views[0][0].start)  # type: ignore[union-attr]
    assert Augmentation((0, 0), flip=True).view("clip0") is None


def test_only_training_clips_are_cropped_anew_each_epoch(tmp_path: Path) -> None:
    train.run(config(tmp_path, epochs=2, clips_per_epoch=None, crop="random"))
    views: dict[str, set[View | None]] = {}
    for id, view in Toy.loads:
        views.setdefault(id, set()).add(view)
    assert all(len(v) == 2 and None not in v for id, v in views.items() if id.startswith("train/"))
    assert all(v == {None} for id, v in views.items() if not id.startswith("train/"))


@pytest.mark.parametrize("options", [{"crop": "random"}, {"window": "random"}])
def test_a_data_set_without_other_views_says_so(tmp_path: Path, options: dict) -> None:
    cfg = config(tmp_path, parts={p: {"size": 8} for p in ("train", "val", "test")}, workers=1, **options)
    cfg.dataset = {"_target_": "aosa.data.moving_shapes.MovingShapes", "size": 8}
    cfg.model.outputs, cfg.train.new_head = 6, True
    with pytest.raises(ConfigError) as error:
        train.run(cfg)
    assert "moving_shapes: " in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("keeps", [True, False])
def test_clips_are_mirrored_only_where_the_class_is_kept(keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "flip_keeps_class", keeps)
    clips = Clips(Toy(), toy_model(None))
    drawn = clips.take(range(24), Augmentation((0, 0), flip=True))
    mirrored = [i for i in range(24) if not torch.equal(clips[i][1], drawn[i][1])]  # type: ignore[arg-type]
    assert all(torch.equal(clips[i][1].flip(-1), drawn[i][1]) for i in mirrored)  # type: ignore[union-attr]
    assert 4 < len(mirrored) < 20 if keeps else not mirrored


@pytest.mark.parametrize("kind", ["norm", "conv"])
def test_a_frozen_backbone_sees_each_clip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def head_only(root: Path) -> None:
        Toy.loads = []
        cfg = config(root, {"broken": True}, epochs=5, clips_per_epoch=None, freeze="backbone", flip=False)
        cfg.model.kind = kind
        assert train.run(cfg) == 3

    head_only(tmp_path / "kept")
    assert sorted(id for id, _ in Toy.loads) == sorted(f"{p}/{i}" for p in ("train", "val", "test") for i in range(24))
    monkeypatch.setattr(trainer, "_replay", lambda model: None)
    head_only(tmp_path / "anew")
    assert len(Toy.loads) == 24 * 11
    assert_close(tmp_path / "kept", tmp_path / "anew")
    start = Net(2, kind)
    randomise(start, 0)
    assert (last(tmp_path / "kept")["fc.weight"] - start.fc.weight).abs().max() > 0.01


@pytest.mark.parametrize(("kind", "options"), [("odd", {}), ("norm", {"flip": True}), ("norm", {"crop": "random"})])
def test_features_are_not_kept_where_they_would_not_do(tmp_path: Path, kind: str, options: dict) -> None:
    cfg = config(tmp_path, epochs=2, clips_per_epoch=None, freeze="backbone", **{"flip": False, **options})
    cfg.model.kind = kind
    train.run(cfg)
    tried = 1 if "crop" in options else 0  # whether the data set has views
    assert sum(id.startswith("train/") for id, _ in Toy.loads) == 48 + tried


@pytest.mark.parametrize("kind", ["norm", "conv"])
def test_a_checkpoint_of_another_size_gets_a_new_head_when_asked(tmp_path: Path, kind: str) -> None:
    source = Net(7, kind)
    randomise(source, "source")
    save_file(source.state_dict(), tmp_path / "seven.safetensors")
    cfg = config(tmp_path, freeze="backbone")
    cfg.checkpoint, cfg.model.kind = str(tmp_path / "seven.safetensors"), kind
    with pytest.raises(CheckpointError, match=r"7 classes.*train\.new_head=true"):
        train.run(cfg)
    cfg.train.new_head = True
    train.run(cfg)
    best = load_file(folder(tmp_path) / "best.safetensors")
    assert torch.equal(best["conv.weight"], source.conv.weight)
    assert best["fc.weight"].shape[:2] == (2, 4)


def test_own_videos_from_start_to_use(
    tmp_path: Path, write_video: Callable[[Path, np.ndarray], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name, base in (("day", 150), ("night", 0)):
            for i in range(2):
                frames = rng.integers(base, base + 100, (20, 72, 96, 3), dtype=np.uint8)
                write_video(tmp_path / "videos" / part / name / f"{i}.avi", frames)
    options = ["epochs=1", "batch_size=2", "clips_per_epoch=null", "workers=0", "new_head=true"]
    augment = ["crop=random", "window=random", "crop_scale=[0.5,0.9]"]
    cfg = compose(
        "train",
        [
            *("dataset=video_folder", f"dataset.root={tmp_path}/videos", "checkpoint=pretrained", "device=cpu"),
            *(f"output_root={tmp_path}/out", *(f"train.{o}" for o in options + augment)),
        ],
    )
    assert train.run(cfg) == 0
    used = capsys.readouterr().out.split("use them with: ")[1].split()
    assert used[0] == "model=r3d_tiny"
    assert "model.network.num_classes=2" in used
    model = build(compose("explain_video", [*used, "device=cpu"]).model)
    assert model.class_names == ["day", "night"]
    best = load_file(tmp_path / "out/train/video_folder/r3d_tiny/best.safetensors")
    assert torch.equal(model.network.fc.weight, best["fc.weight"])
    # The pretrained weights were where it began: one epoch moves them little.
    own = build(compose("explain_video", ["model=r3d_tiny", "device=cpu"]).model).network
    fresh = R3DTiny()
    randomise(fresh, 0)
    near, far = ((best["layer3.conv2.weight"] - n.layer3.conv2.weight).norm().item() for n in (own, fresh))
    assert near < 0.2 * far


def test_the_frames_of_a_video_are_counted_once(
    tmp_path: Path, write_video: Callable[[Path, np.ndarray | int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "val", "test"):
        for name in ("day", "night"):
            write_video(tmp_path / "videos" / part / name / "0.avi", 20)
    opened, decoder = tmp_path / "opened.txt", decode.VideoFile

    def noted(path: Path, threads: int = 0, strict: bool = False) -> decode.VideoFile:
        with opened.open("a") as file:  # by workers, too
            file.write(f"{path.parts[-3]}\n")
        return decoder(path, threads, strict)

    def openings() -> dict[str, int]:
        parts = opened.read_text().split()
        opened.unlink()
        return {part: parts.count(part) for part in ("train", "val", "test")}

    monkeypatch.setattr(decode, "VideoFile", noted)
    options = ["epochs=3", "batch_size=2", "clips_per_epoch=null", "workers=1", "new_head=true", "window=random"]
    cfg = compose(
        "train",
        [
            *("dataset=video_folder", f"dataset.root={tmp_path}/videos", "device=cpu"),
            *(f"output_root={tmp_path}/out", *(f"train.{o}" for o in options)),
        ],
    )
    with monkeypatch.context() as cut:
        whole = Trainer.train
        cut.setattr(Trainer, "train", lambda self, e, f: whole(self, e, f) if e < 2 else _cut())
        with pytest.raises(KeyboardInterrupt):
            train.run(cfg)
    # Two videos a part and two epochs, once more each for the count; one was tried for other views.
    assert openings() == {"train": 2 * 2 + 2 + 1, "val": 2 * 2 + 2, "test": 0}
    decode.probed.clear()
    train.run(cfg)
    assert openings() == {"train": 2 + 1, "val": 2, "test": 2 + 2}


def _cut() -> dict[str, float]:
    raise KeyboardInterrupt


def test_two_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))

    def settings(root: Path, devices: int) -> DictConfig:
        # Batches of 4, 4, 3: shares differ in size; a clip of one share cannot be read.
        cfg = config(root, {"broken": True}, devices=devices, clips_per_epoch=11, crop="random")
        cfg.model.kind = "plain"
        return cfg

    assert train.run(settings(tmp_path / "one", 1)) == 3
    assert train.run(settings(tmp_path / "two", 2)) == 3
    assert_close(tmp_path / "one", tmp_path / "two")
    assert sha(folder(tmp_path / "one") / "failures.csv") == sha(folder(tmp_path / "two") / "failures.csv")

    monkeypatch.setenv("TOY_LOADS", "25")  # of each process: within the second epoch
    with pytest.raises(AosaError, match="power cut"):
        train.run(settings(tmp_path / "cut", 2))
    monkeypatch.delenv("TOY_LOADS")
    assert len((folder(tmp_path / "cut") / "log.csv").read_text().splitlines()) == 2
    train.run(settings(tmp_path / "cut", 2))
    for name in ("best.safetensors", "log.csv"):
        assert sha(folder(tmp_path / "cut") / name) == sha(folder(tmp_path / "two") / name)
    whole, cut = last(tmp_path / "two"), last(tmp_path / "cut")
    assert all(torch.equal(whole[k], cut[k]) for k in whole)


def test_two_processes_share_the_features_of_a_frozen_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    for devices in (1, 2):
        # One clip an epoch: the second process has none.
        train.run(config(tmp_path / str(devices), devices=devices, clips_per_epoch=1, freeze="backbone", flip=False))
    assert_close(tmp_path / "1", tmp_path / "2")


@pytest.mark.parametrize("name", sorted(p.stem for p in (config_dir() / "parts").glob("*.yaml")))
def test_the_parts_of_each_data_set_are_keys_that_it_has(name: str) -> None:
    cfg = compose("train", [f"dataset={name}"])
    assert set(cfg.train.parts) == {"train", "val", "test"}
    keys = [set(part) for part in cfg.train.parts.values()]
    assert all(keys)
    assert set().union(*keys) <= set(cfg.dataset)
