"""The benchmark counts passes and follows cuts to the full number; what a stopwatch says is not tested."""

from __future__ import annotations

import contextlib
import json
import sys

import pytest
import torch
from torch import nn

from aosa.bench import memory
from aosa.bench.models import gflops
from aosa.bench.passes import Pass, Total, counted, replay, total
from aosa.bench.references import NoReference, reference
from aosa.config import compose
from aosa.explainers import AOSA, STEP, AOSAApprox, GradCAM, SaliencyTubes, SmoothGrad
from aosa.models.r2plus1d18 import R2Plus1D18
from aosa.models.slowfast_r50 import SlowFastR50
from aosa.models.timesformer import TimeSformer
from tests.helpers import moving_clip, small_model
from tests.running import common_options, run


def passes_of(explainer, model) -> list[Pass]:
    with counted(model) as passes:
        explainer(model, moving_clip(model.spec))
    return list(passes)


@pytest.mark.parametrize(
    ("explainer", "expected"),
    [
        (AOSA(stride=8, box=8), [Pass(1, None), Pass(8, None), Pass(4, None)]),  # 3×4 anchors on 24×32
        (AOSAApprox(stride=8, box=8), [Pass(1, "clip")]),
        (SmoothGrad(samples=10), [Pass(8, "clip"), Pass(2, "clip")]),
        (GradCAM(), [Pass(1, "layer")]),
        (SaliencyTubes(), [Pass(1, None)]),
        (STEP(areas=[0.1, 0.2], iterations=3), [Pass(2, "clip")] * 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_passes_are_counted_and_repeated(explainer, expected):
    model = small_model(batch_size=8, class_names=["a", "b", "c"])
    passes = passes_of(explainer, model)
    assert passes == expected
    with counted(model) as again:
        replay(model, passes)
    assert again == [Pass(clips, back if back == "clip" else None) for clips, back in passes]
    assert not model.network._forward_hooks
    assert all(p.requires_grad and p.grad is None for p in model.network.parameters())


def test_total_counts_clips_not_calls():
    assert total([Pass(8, "clip"), Pass(2, "clip"), Pass(1, None), Pass(3, "layer")]) == Total(14, 10, 3)


EXPLAINERS = {
    "aosa explainer.stride=32": (5, 0, 0, 65),  # 2×2 anchors on 64×64, and the clip; 8×8 with a stride of 8
    "rise3d explainer.samples=4": (5, 0, 0, 1001),
    "sos explainer.grid=[1,1,1]": (1, 0, 0, 1183),
    "loco explainer.segmentation=grid explainer.grid=[1,1,2]": (3, 0, 0, None),
    "smooth_grad explainer.samples=4": (4, 4, 0, 50),
    "step explainer.iterations=2": (2, 2, 0, 2000),
    "grad_cam": (1, 0, 1, 1),
    "aosa_approx": (1, 1, 0, 1),
    "random": (0, 0, 0, 0),
}


def test_passes_of_short_runs_and_of_the_papers_settings(tmp_path):
    lines = "[" + ",".join(f'"{line}"' for line in EXPLAINERS) + "]"
    ended = run(
        "benchmark", *common_options(tmp_path), "batch_size=2", "explainer_repeats=1", "model=r3d_tiny",
        "what=[explainers]", f"explainers={lines}",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    rows = json.loads((tmp_path / "bench" / "r3d_tiny.json").read_text())["explainers"]
    assert [(r["explainer"], *r["passes"].values()) for r in rows] == [(k, *v[:3]) for k, v in EXPLAINERS.items()]
    for row in rows:
        full = EXPLAINERS[row["explainer"]][3]
        assert full is None or row["full_passes"] == full
        if row["passes"]["forward"]:
            more = row["full_passes"] / row["passes"]["forward"]
            assert row["full_seconds"] == pytest.approx(row["setup"] + row["seconds"] * more)


def test_gflops_are_multiply_adds():
    network = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 6 * 8, 5))
    assert gflops(network, (3, 4, 6, 8)) == pytest.approx((8 * 81 * 192 + 8 * 192 * 5) / 1e9)


@pytest.mark.parametrize(
    ("network", "shape", "published"),
    [
        (R2Plus1D18, (3, 16, 112, 112), 40.519),  # torchvision
        (SlowFastR50, (3, 32, 256, 256), 65.7),  # Feichtenhofer et al. 2019, table 2
        (TimeSformer, (3, 8, 224, 224), 196.0),  # mmaction2
    ],
)
def test_gflops_are_the_published_ones(network, shape, published):
    with torch.device("meta"):
        assert gflops(network().eval(), shape) == pytest.approx(published, rel=2e-3)


def test_gflops_count_attention_on_a_cpu():
    options = {"num_classes": 5, "frames": 2, "size": (32, 32), "width": 48, "heads": 4, "depth": 2}
    with torch.device("meta"):
        expected = gflops(TimeSformer(**options).eval(), (3, 2, 32, 32))
    assert gflops(TimeSformer(**options).eval(), (3, 2, 32, 32)) == expected


RESNET = """
from torch import nn
import beside


class Net(nn.Sequential):
    pass


def generate_model(depth, **options):
    net = Net(nn.Flatten(), nn.LazyLinear(options["n_classes"]))
    net.options = {"depth": depth, **options}
    return net
"""


def test_reference_of_a_clone(tmp_path):
    clone = tmp_path / "3D-ResNets-PyTorch"
    (clone / "models").mkdir(parents=True)
    (clone / "models" / "resnet.py").write_text(RESNET)
    path = list(sys.path)
    with pytest.raises(NoReference, match="No module named 'beside'"):
        reference("r3d50", str(tmp_path), 7)
    (clone / "beside.py").touch()
    network = reference("r3d50", str(tmp_path), 7)
    del sys.modules["beside"]
    assert sys.path == path
    assert not network.training
    assert network.options == {
        "depth": 50, "n_classes": 7, "shortcut_type": "B", "conv1_t_size": 7, "conv1_t_stride": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"), [("i3d", "none is known"), ("vgg16_lstm", "no clone at .*STP"), ("tpn_r50", "mmaction2")]
)
def test_no_reference_says_why(name, message, tmp_path):
    with pytest.raises(NoReference, match=message):
        reference(name, str(tmp_path), 7)


def test_models_go_on_without_a_reference(tmp_path):
    ended = run(
        "benchmark", *common_options(tmp_path), "model=r3d_tiny", "what=models", "models=[r3d_tiny]", "model_repeats=1",
        f"reference={tmp_path}",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    (row,) = json.loads((tmp_path / "bench" / "r3d_tiny.json").read_text())["models"]
    assert row["note"] == "no reference: none is known for torch"
    assert row["input"] == "16×64×64"
    assert "ratio" not in row


def test_decode_reads_the_same_files_both_ways(tmp_path, write_video):
    video = write_video(tmp_path / "a.avi", 7)
    ended = run(
        "benchmark", *common_options(tmp_path), "model=r3d_tiny", "what=decode", f"videos=['{video}']", "repeats=1"
    )
    assert ended.status == 0, ended.err
    rows = json.loads((tmp_path / "bench" / "r3d_tiny.json").read_text())["decode"]
    assert [r["what"] for r in rows] == [
        f"a.avi, {what}" for way in ("decoded", "decoded to RGB")
        for what in (f"{way} by OpenCV", way, f"{way}, time / OpenCV's")
    ]  # fmt: skip
    for by_opencv, ours, ratio in (rows[:3], rows[3:]):
        assert ratio["value"] == pytest.approx(by_opencv["value"] / ours["value"])
        assert ratio["limit"] == 1.25


def test_memory_compares_each_with_its_own_floor(monkeypatch):
    peaks = {"load": 100, "bare": 200, "aosa": 250, "train": 300, "step": 700}

    class Processes:
        Pool = staticmethod(lambda n: contextlib.nullcontext(Processes()))

        def apply(self, function, arguments):
            return peaks[arguments[1]] * 2**20

    monkeypatch.setattr(memory.multiprocessing, "get_context", lambda method: Processes())
    found = {row["what"]: row["value"] for row in memory.rows(compose("benchmark"), None, None)}
    assert found["peak memory of bare forward passes, model included"] == 200
    assert found["peak memory, AOSA / bare forward passes"] == 1.25
    assert found["peak memory above the loaded model, AOSA / bare forward passes"] == 1.5
    assert found["peak memory, STEP / a training step, batch 4"] == pytest.approx(7 / 3)
    assert found["peak memory above the loaded model, STEP / a training step, batch 4"] == 3.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("what=[speed]", "what=speed: choose of aosa, models, explainers, memory, decode"),
        ("videos=[gone.mp4]", "videos=gone.mp4: no such file"),
        ("explainer_repeats=0", "explainer_repeats=0: give a whole number of at least 1"),
        ("reference=gone", "reference=gone: no such folder"),
        ("explainers=[attention_rollout]", "explainer=attention_rollout reads divided"),
    ],
)
def test_options_out_of_range_are_refused(override, message, tmp_path):
    ended = run("benchmark", *common_options(tmp_path), "model=r3d_tiny", "what=[explainers]", override)
    assert ended.status == 1
    assert message in ended.err
    assert not list(tmp_path.rglob("*.json"))
