"""TimeSformer against mmaction2's and Hugging Face's, on weights and noise from a formula and on a real clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aosa.clip import InputSpec
from aosa.config import build, compose
from aosa.errors import CheckpointError, ConfigError
from aosa.models import build_model, timesformer
from aosa.models.checkpoints import load_weights
from aosa.models.timesformer import TimeSformer
from tests.mutants import mutant
from tests.reference import formula
from tests.reference.parity import distance, fixture_inputs

REFERENCE = json.loads((Path(__file__).resolve().parents[1] / "reference" / "timesformer_logits.json").read_text())
SOURCES = ("mmaction2", "hugging_face")
SMALL = REFERENCE["small"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return formula.fill(TimeSformer(), offset=REFERENCE["offset"])


@torch.no_grad()
def check(network: nn.Module, x: Tensor, name: str) -> None:
    logits = network(x[None])[0]
    for source in SOURCES:
        assert distance(logits, REFERENCE[source][name]) < 1e-5, source


def test_logits_of_noise_are_those_of_both_published_implementations(network: nn.Module) -> None:
    check(network, fixture_inputs("timesformer", REFERENCE)["noise"], "noise")


@pytest.mark.real
@pytest.mark.parametrize("name", ["real", "mirror"])
def test_logits_of_a_real_clip_are_those_of_both_published_implementations(
    network: nn.Module, shared_data: Path, name: str
) -> None:
    check(network, fixture_inputs("timesformer", REFERENCE, shared_data)[name], name)


@pytest.mark.parametrize("source", SOURCES)
def test_the_inputs_of_the_reference_are_told_apart(source: str) -> None:
    logits = np.array(list(REFERENCE[source].values()))
    assert len(logits) == 3
    for index in range(3):
        others = np.delete(logits, index, axis=0)
        assert (np.abs(others - logits[index]).max(axis=1) > 0.1 * np.abs(logits[index]).max()).all()


def small(architecture: type[nn.Module] = TimeSformer) -> nn.Module:
    """A network of the reference's small size, without weights of its own."""
    with torch.device("meta"):
        return architecture(size=tuple(SMALL["size"][1:]), depth=SMALL["depth"])


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The formula's weights of the reference's small network."""
    weights = {n: formula.weight(n, tuple(v.shape), REFERENCE["offset"]) for n, v in small().state_dict().items()}
    return {name: torch.from_numpy(value) for name, value in weights.items()}


@torch.no_grad()
def small_distance(network: nn.Module, state: dict[str, Tensor]) -> float:
    network.load_state_dict(state, assign=True)
    x = torch.from_numpy(formula.clip(0, tuple(SMALL["size"])))[None]
    return max(distance(network.eval()(x)[0], SMALL[source]) for source in SOURCES)


def test_no_weight_of_the_reference_is_trivial(state: dict[str, Tensor]) -> None:
    for name, value in state.items():
        assert value.std() > 0.01, name


MISTAKES = {
    "patch stride": ("stride=patch)", "stride=patch - 1)"),
    "patch padding": ("stride=patch)", "stride=patch, padding=1)"),
    "no temporal residual": ("patches = patches + update.view_as(patches)", "patches = update.view_as(patches)"),
    "no spatial residual": ("patches = patches + update[:, :, 1:]", "patches = update[:, :, 1:]"),
    "no feed-forward residual": ("return x + self.ffn(x)", "return self.ffn(x)"),
    "tokens in the order (t, p)": (
        ".unflatten(1, (-1, self.frames))",
        ".unflatten(1, (self.frames, -1)).transpose(1, 2)",
    ),
    "class token of the first frame": ("update[:, :, 0].mean(dim=1, keepdim=True)", "update[:, :1, 0]"),
    "no time embedding": (".transpose(1, 2) + self.time_embed", ".transpose(1, 2)"),
    "class token without position": ("self.cls_token + self.pos_embed[:, :1]", "self.cls_token"),
    "no temporal_fc": (
        "self.temporal_fc(self.temporal(patches.flatten(0, 1)))",
        "self.temporal(patches.flatten(0, 1))",
    ),
    "heads innermost": ("(3, self.heads, -1)).permute(2, 0, 3, 1, 4)", "(3, -1, self.heads)).permute(2, 0, 4, 1, 3)"),
    "keys before queries": ("q, k, v = ", "k, q, v = "),
    "no last norm": ("self.norm(x[:, 0])", "x[:, 0]"),
}


def test_the_small_reference_is_met(state: dict[str, Tensor]) -> None:
    assert small_distance(small(), state) < 1e-5


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_reference_notices_a_wrong_architecture(mistake: str, state: dict[str, Tensor]) -> None:
    assert small_distance(small(mutant(timesformer, *MISTAKES[mistake]).TimeSformer), state) > 1e-3


@pytest.mark.parametrize("pair", [("temporal.norm", "spatial.norm"), ("temporal.qkv", "spatial.qkv")])
def test_the_reference_notices_exchanged_parts(pair: tuple[str, str], state: dict[str, Tensor]) -> None:
    def other(name: str) -> str:
        first, second = pair
        return name.replace(first, second) if first in name else name.replace(second, first)

    assert small_distance(small(), {other(name): value for name, value in state.items()}) > 1e-3


def published(source: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The small network's weights under the names of the published checkpoints, which the reference lists."""
    return {name: state[str(TimeSformer.published_name(name))] for name in SMALL["layout"][source]}


@pytest.mark.parametrize("source", SOURCES)
def test_every_published_tensor_has_its_place(source: str, state: dict[str, Tensor]) -> None:
    layout = SMALL["layout"][source]
    names = [TimeSformer.published_name(name) for name in layout]
    assert sorted(map(str, names)) == sorted(state)
    assert {n: tuple(layout[n]) for n in layout} == {n: tuple(v.shape) for n, v in published(source, state).items()}
    assert [TimeSformer.published_name(name) for name in state] == list(state)


def test_every_published_format_gives_the_same_weights(state: dict[str, Tensor], tmp_path: Path) -> None:
    spec = InputSpec(frames=8, size=tuple(SMALL["size"][1:]))

    def digest(file: Path) -> str:
        return build_model(small().to_empty(device="cpu"), spec, name="timesformer", checkpoint=str(file)).digest()

    ours, theirs = published("mmaction2", state), published("hugging_face", state)
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9).state_dict()
    files = {
        "own.pth": state,
        "mmaction2.pth": {"meta": {"epoch": 15, "CLASSES": ["a"]}, "state_dict": ours, "optimizer": optimiser},
        "parallel.pth": {"state_dict": {f"module.{k}": v for k, v in ours.items()}},
        "bare.pth": {k.removeprefix("backbone.").removeprefix("cls_head."): v for k, v in ours.items()},
        "pytorch_model.bin": theirs,
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    save_file(theirs, tmp_path / "model.safetensors", metadata={"format": "pt"})
    digests = {file.name: digest(file) for file in tmp_path.iterdir()}
    assert len(digests) == 6
    assert set(digests.values()) == {digest(tmp_path / "own.pth")}
    state = {**state, "time_embed": state["time_embed"].flip(1)}
    torch.save(state, tmp_path / "other.pth")
    assert digest(tmp_path / "other.pth") not in digests.values()


@pytest.mark.parametrize("source", SOURCES)
def test_a_wrong_checkpoint_is_refused(source: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    weights = published(source, state)
    path = tmp_path / "weights.pth"
    torch.save({k: v[:101] if v.shape[0] == 400 else v for k, v in weights.items()}, path)
    with pytest.raises(CheckpointError, match=r"its head has 101 classes \(fc_cls.*\), the model is built for 400"):
        load_weights(small(), path)
    unknown = list(weights)[5].replace("norm", "rope").replace("attention.qkv", "attention.rope")
    torch.save({**weights, unknown: torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"does not fit TimeSformer:\n  extra \(1\): \S*rope\S+$"):
        load_weights(small(), path)


def tiny(**options: Any) -> TimeSformer:
    sizes = {"num_classes": 5, "frames": 2, "size": (32, 48), "width": 24, "heads": 3, "depth": 2}
    return TimeSformer(**(sizes | options))


@torch.no_grad()
def test_hooks_on_the_projections_give_what_the_attention_uses() -> None:
    network = formula.fill(tiny())
    seen: dict[str, Tensor] = {}
    for name in ("temporal", "spatial"):
        attention = network.get_submodule(f"blocks.1.{name}")
        attention.qkv.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
        attention.proj.register_forward_hook(lambda m, args, out, name=name: seen.update({f"{name} sum": args[0]}))
    network(torch.from_numpy(formula.clip(0, (2, 32, 48)))[None].repeat(2, 1, 1, 1, 1))
    patches = network.grid[0] * network.grid[1]
    assert network.grid == (2, 3)
    for name, sequences, tokens in (("temporal", patches, network.frames), ("spatial", network.frames, 1 + patches)):
        qkv = seen[name]
        assert qkv.shape == (2 * sequences, tokens, 3 * 24)
        for head in range(network.heads):
            own = slice(8 * head, 8 * head + 8)
            q, k, v = (part[..., own] for part in qkv.chunk(3, dim=-1))
            expected = (q @ k.mT / 8**0.5).softmax(dim=-1) @ v
            torch.testing.assert_close(seen[f"{name} sum"][..., own], expected)


@torch.no_grad()
def test_a_patch_lies_where_the_docstring_says() -> None:
    network = tiny(depth=1)
    seen: list[Tensor] = []
    network.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = torch.from_numpy(formula.clip(0, (2, 32, 48)))[None]
    changed = x.clone()
    changed[:, :, 1, 16:, 32:] += 1  # frame 1, second row of patches, third column
    network(x)
    network(changed)
    moved = (seen[0] != seen[1]).any(dim=-1)[0].nonzero().flatten()
    assert moved.tolist() == [1 + 5 * 2 + 1]


def test_the_target_layer_sees_the_class_token_and_the_patches_of_each_frame() -> None:
    config = compose("explain_video", ["model=timesformer"]).model
    network = build(config.network, width=24, heads=3)
    assert isinstance(network.get_submodule(config.target_layer), nn.LayerNorm)
    assert config.target_layer == f"blocks.{len(network.blocks) - 1}.spatial.norm"


def test_the_hugging_face_config_changes_the_input_alone() -> None:
    own, hugging_face = (compose("explain_video", [f"model={n}"]).model for n in ("timesformer", "timesformer_hf"))
    differ = {key for key in own if own[key] != hugging_face[key]}
    assert differ == {"name", "spec", "hint"}
    first, second = build(own.spec), build(hugging_face.spec)
    assert (first.mean, first.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (second.mean, second.std) == ((0.45,) * 3, (0.225,) * 3)
    assert {key for key in own.spec if own.spec[key] != hugging_face.spec[key]} == {"mean", "std"}


def test_random_weights_are_the_same_each_time() -> None:
    spec = InputSpec(frames=2, size=(32, 48))
    first, second = (build_model(tiny(), spec, name="timesformer", checkpoint="random") for _ in range(2))
    assert first.digest() == second.digest()


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"size=\[32, 40\]: must be multiples of model.network.patch=16"):
        tiny(size=(32, 40))
    with pytest.raises(ConfigError, match=r"width=24: must be a multiple of model.network.heads=5"):
        tiny(heads=5)
    with pytest.raises(ConfigError, match=r"built for 2×32×48 \(T×H×W\), got 3×32×48"):
        tiny()(torch.zeros(1, 3, 3, 32, 48))
