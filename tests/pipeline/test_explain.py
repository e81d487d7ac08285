"""Explain as a user runs it: what is written, and what is said about bad input."""

from __future__ import annotations

import csv
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aosa import VideoModel, load_map
from aosa.config import compose, quoted
from aosa.engine.job import Job
from aosa.errors import ConfigError
from aosa.models import load_model
from aosa.models.r3d50 import R3D50
from aosa.models.r3d_tiny import R3DTiny
from tests.helpers import SPEC, Small3D
from tests.running import Ended, common_options, run, snapshot, write_audio

CHEAP = "explainer=random"


def explain(folder: Path, *overrides: str) -> Ended:
    return run("explain", *common_options(folder / "out"), *overrides)


def videos(root: Path, *overrides: str) -> list[str]:
    return ["dataset=video_folder", f"dataset.root={quoted(str(root))}", "target=predicted", *overrides]


def maps(folder: Path) -> list[str]:
    return [p.rpartition("/")[2] for p in snapshot(folder / "out" / "maps", ".b2nd")]


def failures(folder: Path) -> dict[str, str]:
    (path,) = (folder / "out" / "maps").rglob("failures.csv")
    with path.open(newline="") as file:
        return {row["clip"]: row["reason"] for row in csv.DictReader(file)}


def assert_refused(ended: Ended, *words: str) -> None:
    """One message with all these words in it, no traceback, exit status 1, no progress bar before it."""
    assert ended.status == 1
    assert ended.err.startswith("error: "), ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


def test_a_head_that_does_not_go_with_the_network_or_the_method_is_refused_before_the_first_clip(tmp_path):
    ended = explain(tmp_path, CHEAP, "model.head=probabilities", "dataset.size=1")
    assert_refused(ended, "model r3d_tiny: model.head=probabilities, but the network gives", "set model.head=softmax")
    ended = explain(tmp_path, "explainer=step", "model.head=identity", "dataset.size=1")
    assert_refused(ended, "the scores of r3d_tiny (model.head=identity) are none; take an explainer")
    assert not (tmp_path / "out" / "maps").exists()


def test_another_head_gives_maps_of_its_own(tmp_path):
    for options in ([], ["model.head=sigmoid"], ["model.head=identity"]):
        ended = explain(tmp_path, "explainer=osa", "explainer.stride=[8,32,32]", "dataset.size=1", *options)
        assert ended.status == 0, ended.err
    found = [load_map(path) for path in (tmp_path / "out" / "maps").rglob("*.b2nd")]
    assert len({saliency.values.numpy().tobytes() for saliency, _ in found}) == len(found) == 3


def test_maps_with_their_meta_data(tmp_path):
    ended = explain(tmp_path, "explainer=grad_cam", "dataset.size=2")
    assert ended.status == 0, ended.err
    (path, _) = sorted((tmp_path / "out" / "maps").rglob("*.b2nd"))
    saliency, meta = load_map(path)
    assert path.relative_to(tmp_path / "out").parts[:3] == ("maps", "moving_shapes", "r3d_tiny")
    assert saliency.shape == (16, 64, 64)
    assert (meta["clip"], meta["target_name"], meta["class_name"]) == ("anticlockwise/000001",) + ("anticlockwise",) * 2
    beside = {p.name for p in path.parent.parent.iterdir() if p.is_file()}
    assert beside == {"config.yaml", "identity.yaml", "failures.csv"}
    about = json.loads(path.with_suffix(".time").read_text())
    assert (about["device"], about["precision"], about["torch"]) == ("cpu", "fp32", torch.__version__)
    assert {"seconds", "batch_size", "threads", "commit", "aosa"} <= set(about)
    assert str(tmp_path) not in (path.parent.parent / "identity.yaml").read_text()


def test_bad_videos_are_passed_over_and_listed(tmp_path, write_video):
    root = tmp_path / "videos"
    for name in ("a/first.avi", "b/last.avi"):
        write_video(root / name, 20)
    (root / "a" / "empty.mp4").touch()
    write_audio(root / "a" / "sound.mkv")
    (root / "a" / "text.mp4").write_text("not a video")
    write_video(root / "b" / "short.avi", 15)
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    cut = write_video(root / "b" / "cut.avi", noise)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    ended = explain(tmp_path, CHEAP, *videos(root))
    assert ended.status == 3
    assert "Traceback" not in ended.err
    assert "5 of 7 videos failed; reasons in " in ended.err
    assert maps(tmp_path) == ["first.b2nd", "last.b2nd"]
    reasons = failures(tmp_path)
    assert list(reasons) == ["a/empty", "a/sound", "a/text", "b/cut", "b/short"]
    assert "empty.mp4: the file is empty (zero bytes)" in reasons["a/empty"]
    assert "sound.mkv: there is no video stream in it (audio only?)" in reasons["a/sound"]
    assert "truncated, corrupt or no video" in reasons["a/text"]
    assert "its container lists 20: truncated?" in reasons["b/cut"]
    assert "has 15 frames, the window needs 16" in reasons["b/short"]

    # Put right, it is done, and no longer listed.
    (root / "a" / "empty.mp4").unlink()
    write_video(root / "b" / "short.avi", 16)
    assert explain(tmp_path, CHEAP, *videos(root)).status == 3
    assert maps(tmp_path) == ["first.b2nd", "last.b2nd", "short.b2nd"]
    assert "b/short" not in failures(tmp_path)


def test_two_videos_of_one_name_get_two_maps(tmp_path, write_video):
    for name in ("a/x.avi", "a/x.mkv", "b/x.avi"):
        write_video(tmp_path / "videos" / name, 16)
    assert explain(tmp_path, CHEAP, *videos(tmp_path / "videos")).status == 0
    assert maps(tmp_path) == ["x.avi.b2nd", "x.mkv.b2nd", "x.b2nd"]


def test_no_such_folder(tmp_path):
    assert_refused(explain(tmp_path, CHEAP, *videos(tmp_path / "gone")), "dataset.root=", "gone: no such folder")


def test_video_that_was_broken_and_restored_is_not_listed_any_more(tmp_path, write_video):
    good = write_video(tmp_path / "videos" / "a" / "1.avi", 16)
    write_video(tmp_path / "videos" / "a" / "2.avi", 17)
    options = videos(tmp_path / "videos")
    explain(tmp_path, CHEAP, *options)
    content = good.read_bytes()
    good.write_bytes(b"")
    assert explain(tmp_path, CHEAP, *options).status == 3
    assert list(failures(tmp_path)) == ["a/1"]
    good.write_bytes(content)
    assert explain(tmp_path, CHEAP, *options).status == 0
    assert failures(tmp_path) == {}


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("Clockwise", "class 'Clockwise' is not among the 6 classes of model r3d_tiny; it differs only in case from"),
        ("Archery", "class 'Archery' is not among the 6 classes of model r3d_tiny. Map it with dataset.class_map"),
    ],
)
def test_class_that_the_model_lacks(tmp_path, write_video, folder, message):
    write_video(tmp_path / "videos" / folder / "1.avi", 16)
    write_video(tmp_path / "videos" / "vertical" / "1.avi", 16)
    options = videos(tmp_path / "videos", "target=label")
    assert_refused(explain(tmp_path, CHEAP, *options), message)
    assert maps(tmp_path) == []
    # What the message proposes works.
    assert explain(tmp_path, CHEAP, *options, f"+dataset.class_map.{folder}=clockwise").status == 0
    assert len(maps(tmp_path)) == 2


def test_target_label_needs_classes(tmp_path, write_video):
    write_video(tmp_path / "videos" / "1.avi", 16)
    ended = explain(tmp_path, CHEAP, *videos(tmp_path / "videos", "target=label"))
    assert_refused(ended, "target=label: 1 videos of video_folder have no class ('1' …); use target=predicted")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("6", "target=6 is out of range: model r3d_tiny has classes 0 to 5"),
        ("-1", "target=-1 is out of range"),
        ("Clockwise", "target=Clockwise: model r3d_tiny has no such class; did you mean 'clockwise'?"),
        ("running", "target=running: model r3d_tiny has no such class; it has clockwise, anticlockwise"),
        ("null", "target=null: give label, predicted, an index or a class name"),
    ],
)
def test_target_that_the_model_lacks(tmp_path, target, message):
    assert_refused(explain(tmp_path, CHEAP, "dataset.size=2", f"target={target}"), message)


@pytest.mark.parametrize(("target", "index"), [("vertical", 3), ("4", 4)])
def test_target_by_name_and_by_index(tmp_path, target, index):
    assert explain(tmp_path, CHEAP, "dataset.size=1", f"target={target}").status == 0
    (path,) = (tmp_path / "out").rglob("*.b2nd")
    assert load_map(path)[1]["target"] == index


NUMBERS = ["30", "x", "5", "three", "class:7", "5 a"]  # names of the six classes


@pytest.mark.parametrize(
    ("target", "index"),
    [
        ("1", 1),  # no class has this name
        ("30", 0),  # no class has this index
        ('"30"', 0),
        ("index:5", 5),
        ("class:5", 2),
        ("class:three", 3),
        ("class:class:7", 4),
        ("class:7", 4),
        ("5 a", 5),
    ],
)
def test_names_that_are_numbers(target, index):
    model = VideoModel(Small3D(6), SPEC, name="net", class_names=NUMBERS, device="cpu")
    assert job_of(model, target).fixed_target == index


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "5",
            "target=5 is the index of class '5 a' and the name of class 2 of model net: give target=index:5 or "
            "target=class:5",
        ),
        ("index:6", "target=index:6 is out of range: model net has classes 0 to 5"),
        ("index:x", "target=index:x: give a whole number after index:"),
        ("class:8", "target=class:8: model net has no such class"),
        ('"²"', "target=²: model net has no such class"),
        ("31", "target=31 is out of range"),
        ("true", "target=True: give label, predicted, an index or a class name"),
    ],
)
def test_numbers_that_are_no_class_or_two(target, message):
    model = VideoModel(Small3D(6), SPEC, name="net", class_names=NUMBERS, device="cpu")
    with pytest.raises(ConfigError, match=re.escape(message)):
        job_of(model, target).fixed_target  # noqa: B018


def job_of(model: VideoModel, target: str) -> Job:
    job = Job(compose("explain", ["model=r3d_tiny", "dataset=moving_shapes", "explainer=random", f"target={target}"]))
    job.model = model
    return job


def test_class_list_longer_than_the_head(tmp_path):
    ended = explain(tmp_path, CHEAP, "model.class_names=ucf101")
    assert_refused(ended, "model r3d_tiny has 6 outputs, its class list has 101 names")


def checkpoint(folder: Path, content: object) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


def weights(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**R3DTiny().state_dict(), **changed}


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"arch": "resnet-50", "state_dict": R3D50(6).state_dict()},
            ("'resnet-50'", "does not fit R3DTiny", "missing"),
        ),
        (weights(**{"stem.0.weight": torch.zeros(16, 3, 3, 3, 3)}), ("stem.0.weight is 16×3×3×3×3, should be",)),
        (weights(**{"fc.bias": torch.full((6,), torch.nan)}), ("fc.bias holds NaN",)),
        (
            weights(**{"fc.weight": torch.zeros(101, 56), "fc.bias": torch.zeros(101)}),
            ("its head has 101 classes", "set model.network.num_classes=101"),
        ),
        ([1, 2], ("holds no tensors by name",)),
    ],
    ids=["other architecture", "other shape", "NaN", "other head", "no weights"],
)
def test_checkpoint_that_does_not_fit(tmp_path, content, words):
    path = checkpoint(tmp_path, content)
    ended = explain(tmp_path, CHEAP, "dataset.size=1", f"checkpoint={path}")
    assert_refused(ended, f"checkpoint {path}", *words)
    assert not (tmp_path / "out" / "maps").exists()


def test_malicious_checkpoint_is_refused_and_does_not_run(tmp_path):
    proof = tmp_path / "it-ran"
    path = checkpoint(tmp_path, {"state_dict": {"fc.weight": Malicious(proof)}})
    assert_refused(explain(tmp_path, CHEAP, f"checkpoint={path}"), f"checkpoint {path}: refused")
    path.write_bytes(pickle.dumps(Malicious(proof)))
    assert_refused(explain(tmp_path, CHEAP, f"checkpoint={path}"), f"checkpoint {path}")
    assert not proof.exists()


def test_checkpoint_that_is_not_there_or_empty(tmp_path):
    path = tmp_path / "weights.pth"
    assert_refused(explain(tmp_path, CHEAP, f"checkpoint={path}"), f"checkpoint {path}: no such file")
    path.touch()
    assert_refused(explain(tmp_path, CHEAP, f"checkpoint={path}"), f"checkpoint {path}: the file is empty")


def test_weights_of_any_format_give_the_same_folder(tmp_path):
    network = load_model("r3d_tiny", checkpoint="random").network
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        assert explain(tmp_path, CHEAP, "dataset.size=1", f"checkpoint={tmp_path / name}").status == 0
    assert len(maps(tmp_path)) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("explainer.stride=0", "explainer.stride=0: give a whole number of at least 1"),
        ("explainer.stride=2.5", "explainer.stride=2.5: give a whole number"),
        ("explainer.box=[8]", "explainer.box=[8]: give a side, or [height, width], whole numbers of at least 1"),
        ("explainer.box=[8,0]", "explainer.box=[8, 0]: give a side, or [height, width], whole numbers of at least 1"),
        ("explainer.neighbours=-1", "explainer.neighbours=-1: give a whole number of at least 0"),
        ("explainer.fill=white", "explainer.fill=white: choose one of constant, black"),
        ("explainer.subpixel=7", "explainer.subpixel=7: give true or false"),
        ("limit=-1", "limit=-1: give a whole number of at least 1, or null"),
        ("limit=many", "limit=many: give a whole number"),
        ("threads=0", "threads=0: give a whole number from 1 to 1024, or null"),
        ("seed=null", "seed=null: give a whole number of at least 0"),
        ("batch_size=0", "batch_size=0: give auto or a whole number from 1 to 65536"),
        ("precision=fp8", "precision=fp8: choose one of fp32, bf16, fp16"),
        ("device=tpu", "device=tpu: choose auto, cpu, cuda"),
        ("dataset.size=0", "dataset.size=0: give a whole number from 1 to "),
        ("dataset.split=tset", "dataset.split=tset: choose one of train, val, test"),
        ("model.spec.frames=0", "model.spec.frames=0: give a whole number of at least 1"),
        ("model.spec.size=8", "model.spec"),
        ("+explainer.strid=4", "there is no key explainer.strid; did you mean stride?"),
    ],
)
def test_value_out_of_range_fails_before_any_work(tmp_path, override, message):
    assert_refused(explain(tmp_path, override), message)
    assert not (tmp_path / "out" / "maps").exists()


def test_layer_that_the_model_lacks(tmp_path):
    ended = explain(tmp_path, "explainer=grad_cam", "explainer.layer=layer9", "dataset.size=1")
    assert ended.status == 1
    assert "model r3d_tiny has no layer 'layer9'; it has: stem, layer1" in ended.err


def test_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    ended = explain(tmp_path, CHEAP, "dataset.size=1")
    assert_refused(ended, f"cannot write {tmp_path / 'out'}", "Set output_root to a folder that can be written")
    assert (tmp_path / "out").read_text() == "a file where the folder should be"
