"""Cascading randomisation, watched by an explainer that notes the network it is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa import Clip, InputSpec, VideoModel
from aosa.config import build, compose
from aosa.errors import ConfigError
from aosa.explainers import Explainer, Random
from aosa.metrics import Sanity
from aosa.metrics.sanity import redrawn, spearman, ssim, stages_of
from aosa.models import load_model
from tests.helpers import SPEC, linear_model, moving_clip, small_model

MAP = torch.rand((SPEC.frames, *SPEC.size), generator=torch.Generator().manual_seed(0))


class Spy(Explainer):
    """Notes the weights that it sees, and gives the maps it is told to."""

    def __init__(self, *maps: Tensor | Callable[[], Tensor]) -> None:
        self.maps = list(maps)
        self.seen: list[dict[str, Tensor]] = []
        self.targets: list[int] = []

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        self.seen.append({k: v.clone() for k, v in model.network.state_dict().items()})
        self.targets.append(target)
        assert torch.is_grad_enabled()
        given = self.maps[min(len(self.seen), len(self.maps)) - 1]
        return given if isinstance(given, Tensor) else given()

    def identity(self) -> dict[str, object]:
        return {"name": "spy"}


def changed(now: dict[str, Tensor], before: dict[str, Tensor]) -> set[str]:
    return {k for k, v in now.items() if not torch.equal(v, before[k])}


def state(model: VideoModel) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.network.state_dict().items()}


def test_stages_are_drawn_from_the_classifier_down_and_stay_drawn() -> None:
    model, spy = small_model(), Spy(MAP)
    record = Sanity(spy)(model, moving_clip(), MAP, 2)
    assert record["stages"] == ["fc", "layer4", "stem"]
    assert spy.targets == [2, 2, 2]
    first, second, third = spy.seen
    assert changed(first, state(model)) == {"fc.weight", "fc.bias"}
    assert changed(second, first) == {"layer4.0.weight", "layer4.0.bias"}
    assert {"stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.running_mean"} <= changed(third, second)
    assert not {k for k in changed(third, second) if not k.startswith("stem.")}


def test_spearman_and_ssim_of_known_maps() -> None:
    record = Sanity(Spy(-MAP, MAP**3, 5 * MAP - 2))(small_model(), moving_clip(), MAP, 1)
    assert record["spearman_curve"] == pytest.approx([-1, 1, 1])
    assert record["ssim_curve"][0] < 0
    assert 0.5 < record["ssim_curve"][1] < 0.99
    assert record["ssim_curve"][2] == pytest.approx(1, abs=1e-4)
    assert (record["spearman"], record["ssim"]) == (record["spearman_curve"][-1], record["ssim_curve"][-1])


def test_an_explainer_blind_to_the_model_does_not_pass() -> None:
    clip = moving_clip()
    record = Sanity(Random())(small_model(), clip, Random()(small_model(), clip, 1), 1)
    assert record["spearman_curve"] == pytest.approx([1, 1, 1])
    assert record["ssim_curve"] == pytest.approx([1, 1, 1])


@pytest.mark.filterwarnings("ignore:.*the map is constant")
def test_a_constant_map_is_like_nothing() -> None:
    record = Sanity(Spy(MAP, MAP, torch.zeros_like(MAP)))(small_model(), moving_clip(), MAP, 1)
    assert record["spearman_curve"] == [pytest.approx(1), pytest.approx(1), None]
    assert (record["spearman"], record["ssim"]) == (None, None)


def test_the_model_stays_bit_by_bit_also_after_an_exception() -> None:
    def fails() -> Tensor:
        raise RuntimeError("out of memory")

    model = small_model()
    before, network, noise = state(model), model.network, torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="out of memory"):
        Sanity(Spy(MAP, MAP, fails))(model, moving_clip(), MAP, 1)
    assert model.network is network
    assert not changed(state(model), before)
    assert torch.equal(torch.random.get_rng_state(), noise)


def test_the_draw_is_that_of_the_seed_alone() -> None:
    seen = []
    for seed, globally in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(globally)
        spy = Spy(MAP)
        Sanity(spy, seed=seed)(small_model(), moving_clip(), MAP, 1)
        seen.append({**spy.seen[-1], **redrawn(Odd(), seed)})
    assert not changed(seen[0], seen[1])
    assert {"fc.weight", "layer4.0.weight", "stem.0.weight", "token", "head.weight"} <= changed(seen[0], seen[2])


def test_batch_norm_has_the_statistics_of_the_clip() -> None:
    model, clip, spy = small_model(), moving_clip(), Spy(MAP)
    Sanity(spy)(model, clip, MAP, 1)
    last = spy.seen[-1]
    x = clip.tensor(SPEC)[None]
    y = nn.functional.conv3d(x, last["stem.0.weight"], last["stem.0.bias"], padding=1).transpose(0, 1).flatten(1)
    assert torch.allclose(last["stem.1.running_mean"], y.mean(dim=1), atol=1e-4)
    assert torch.allclose(last["stem.1.running_var"], y.var(dim=1), rtol=1e-3)
    assert last["stem.1.weight"].unique().tolist() == [1]


def test_only_the_stages_asked_for_are_drawn() -> None:
    model, spy = small_model(), Spy(MAP)
    record = Sanity(spy, stages=["layer4", "stem.0"])(model, moving_clip(), MAP, 1)
    assert record["stages"] == ["layer4", "stem.0"]
    assert {k.rpartition(".")[0] for k in changed(spy.seen[-1], state(model))} == {"layer4.0", "stem.0"}


def test_a_pattern_is_one_stage_of_all_layers_it_matches() -> None:
    model, spy = small_model(), Spy(MAP)
    record = Sanity(spy, stages=["fc", "[ls]*e[rm]*"])(model, moving_clip(), MAP, 1)
    assert record["stages"] == ["fc", "[ls]*e[rm]*"]
    first, second = ({k.partition(".")[0] for k in changed(seen, state(model))} for seen in spy.seen)
    assert (first, second) == ({"fc"}, {"fc", "layer4", "stem"})


def test_a_stage_without_weights_is_refused() -> None:
    model = small_model()
    model.network.add_module("pool", nn.MaxPool3d(2))
    with pytest.raises(ConfigError, match=r"metric.stages: po\*l has no weights to draw anew"):
        Sanity(Spy(MAP), stages=["po*l"])(model, moving_clip(), MAP, 1)


def test_a_stage_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model small has no layer 'layer5'; it has: stem, layer4, fc"):
        Sanity(Spy(MAP), stages=["layer5"])(small_model(), moving_clip(), MAP, 1)


@pytest.mark.parametrize("option", [{"stages": []}, {"stages": "fc"}, {"seed": -1}])
def test_options_out_of_range_are_refused(option) -> None:
    (key,) = option
    with pytest.raises(ConfigError, match=rf"metric\.{key}="):
        Sanity(Random(), **option)


class Odd(nn.Module):
    """Layers out of order, in a list, with a normalisation of their own, beside one that is never called; and a
    parameter of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.token = nn.Parameter(torch.arange(4.0))
        self.norm = nn.LayerNorm(4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2))
        self.unused = nn.Linear(2, 2)
        self.stem = nn.Conv3d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).mean(dim=(2, 3, 4)) + self.token
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


def test_stages_follow_the_forward_pass() -> None:
    model, spy = VideoModel(Odd(), SPEC, device="cpu"), Spy(MAP)
    assert stages_of(model.network, moving_clip().tensor(SPEC)[None]) == [
        ["head"],
        ["blocks.1", "norm"],
        ["blocks.0"],
        ["stem"],
    ]
    record = Sanity(spy)(model, moving_clip(), MAP, 1)
    assert record["stages"] == ["head", "blocks.1", "blocks.0", "stem"]
    assert "token" not in changed(spy.seen[2], state(model))
    assert {"token", "unused.weight", "stem.weight"} <= changed(spy.seen[3], spy.seen[2])
    assert sorted(spy.seen[3]["token"].tolist()) == [0, 1, 2, 3]


def test_a_network_without_layers_is_one_stage() -> None:
    model, spy = linear_model(), Spy(MAP)
    assert Sanity(spy)(model, moving_clip(), MAP, 1)["stages"] == ["network"]
    assert changed(spy.seen[0], state(model)) == {"weight"}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("r3d_tiny", ["fc", "layer3", "layer2", "layer1", "stem"]),
        ("r2plus1d18", ["fc", "layer4", "layer3", "layer2", "layer1", "stem"]),
    ],
)
def test_stages_of_models(name, stages) -> None:
    network = build(compose("explain", [f"model={name}"]).model.network).eval()
    assert [layers[0] for layers in stages_of(network, torch.zeros(1, 3, 8, 32, 32))] == stages
    drawn, old = redrawn(network, 0), network.state_dict()
    assert all(not torch.equal(v, old[k]) for k, v in drawn.items() if k.endswith("weight") and v.dim() > 1)


def test_ties_share_their_rank() -> None:
    first, second = torch.tensor([1.0, 2, 2, 3]), torch.tensor([1.0, 3, 2, 4])
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5 of √(4.5·5).
    assert spearman(first, second) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_ssim_is_that_of_the_stretched_maps() -> None:
    """Half black, half white, against its negative, in windows that see one half alone: means 0 and 1, no variance."""
    half = torch.zeros(2, 40, 7)
    half[:, 20:] = 1
    c1, c2 = 0.01**2, 0.03**2
    assert ssim(half, 10 * half - 3) == pytest.approx(1)
    got = ssim(half, -half)
    values = []
    for row in range(3, 37):  # windows of 7×7, those wholly inside
        white = float(np.clip(row + 4 - 20, 0, 7)) / 7
        variance = white * (1 - white) * 49 / 48
        means = 2 * white * (1 - white) + c1, white**2 + (1 - white) ** 2 + c1
        values.append(means[0] / means[1] * (-2 * variance + c2) / (2 * variance + c2))
    assert got == pytest.approx(np.mean(values), abs=1e-6)


def test_a_run_explains_with_its_own_explainer() -> None:
    metric = build(compose("evaluate", ["metric=sanity", "explainer=grad_cam", "seed=3"]).metric)
    assert metric.identity()["explainer"]["name"] == "grad_cam"
    assert metric.seed == 3


def test_grad_cam_depends_on_the_weights() -> None:
    """On the trained demo model the maps of random weights are unlike the map."""
    model = load_model("r3d_tiny", device="cpu")
    clip = moving_clip(InputSpec(frames=16, size=(64, 64), mean=model.spec.mean, std=model.spec.std))
    explainer = build(compose("explain", ["explainer=grad_cam"]).explainer)
    record = Sanity(explainer)(model, clip, explainer(model, clip, 1), 1)
    assert len(record["stages"]) == 5
    assert all(rho is None or rho < 0.95 for rho in record["spearman_curve"])
