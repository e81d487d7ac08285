"""What `VideoModel` promises whoever uses it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aosa import VideoModel
from aosa.errors import ConfigError
from tests.helpers import SPEC, Small3D, moving_clip, small_model


def state(model: VideoModel) -> list[object]:
    modes = [(name, m.training) for name, m in model.network.named_modules()]
    return [modes, [(name, p.requires_grad, p.grad) for name, p in model.network.named_parameters()]]


def unusual_model() -> VideoModel:
    """Some modules train, some parameters are frozen, some have gradients."""
    model = small_model()
    model.network.train()
    model.module("stem.1").eval()
    model.network.fc.weight.requires_grad_(False)
    model.network.fc.bias.grad = torch.ones_like(model.network.fc.bias)
    return model


@pytest.mark.parametrize("raises", [False, True])
def test_frozen_leaves_everything_as_it_was(raises: bool) -> None:
    model = unusual_model()
    before = state(model)
    kept = model.network.fc.bias.grad
    try:
        with model.frozen():
            assert not any(m.training for m in model.network.modules())
            assert not any(p.requires_grad for p in model.network.parameters())
            if raises:
                raise KeyError("body")
    except KeyError:
        assert raises
    assert str(state(model)) == str(before)
    assert model.network.fc.bias.grad is kept
    assert torch.equal(kept, torch.ones_like(kept))


def test_inside_frozen_the_input_still_has_a_gradient_and_the_weights_get_none() -> None:
    model = unusual_model()
    x = moving_clip().tensor(SPEC)[None].requires_grad_()
    with model.frozen():
        model.scores(x)[0, 1].backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert model.module("stem.0").weight.grad is None


def test_probabilities_are_the_softmax_of_the_logits_in_both_layouts() -> None:
    x = moving_clip().tensor(SPEC)[None]
    with torch.no_grad():
        plain, last = (small_model(channels_last=flag) for flag in (False, True))
        logits = plain.logits(x)
        assert torch.allclose(plain.scores(x), logits.exp() / logits.exp().sum(), atol=1e-6)
        assert torch.allclose(last.logits(x), logits, rtol=1e-4, atol=1e-5)


def test_reduced_precision_gives_float32_close_to_it() -> None:
    x = moving_clip().tensor(SPEC)[None]
    with torch.no_grad():
        full, half = small_model().scores(x), small_model(precision="bf16").scores(x)
    assert half.dtype == torch.float32
    assert 0 < float((full - half).abs().max()) < 0.05


@pytest.mark.parametrize("count", [2, 4])
def test_a_class_list_of_another_length_than_the_head_is_refused(count: int) -> None:
    network = Small3D()
    network.num_classes = 3  # type: ignore[assignment]
    names = [f"class {i}" for i in range(count)]
    with pytest.raises(ConfigError, match=rf"3 outputs, its class list has {count} names.*model\.class_names"):
        VideoModel(network, SPEC, class_names=names)


def test_a_class_list_is_compared_at_the_first_forward_when_the_network_does_not_say_its_size() -> None:
    model = VideoModel(Small3D(), SPEC, class_names=["a", "b"], device="cpu")
    with pytest.raises(ConfigError, match="3 outputs, its class list has 2 names"):
        model.logits(moving_clip().tensor(SPEC)[None])


def test_the_same_class_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="occur twice: b"):
        VideoModel(Small3D(), SPEC, class_names=["a", "b", "b"])


def test_an_unknown_layer_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no layer 'layer5'; it has: stem, layer4, fc"):
        small_model().module("layer5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "precision=int8: choose fp32, bf16 or fp16"),
        ({"batch_size": 0}, "batch_size=0: give auto or a whole number"),
        ({"batch_size": "many"}, "batch_size=many: give auto"),
        ({"device": "tpu7"}, "device=tpu7: choose auto, cpu"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoModel(Small3D(), SPEC, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_out_of_range_is_refused(target: int) -> None:
    with pytest.raises(ConfigError, match=rf"target={target} is out of range.*0 to 2"):
        small_model().resolve_target(moving_clip(), target)


def test_the_target_is_the_given_one_else_the_label_else_the_top_class() -> None:
    model, clip = small_model(), moving_clip()
    assert model.resolve_target(clip, 2) == 2
    assert model.resolve_target(clip, None) == clip.label == 1
    clip.label = None
    with torch.no_grad():
        assert model.resolve_target(clip, None) == int(model.logits(clip.tensor(SPEC)[None]).argmax())


def test_a_class_is_found_by_its_exact_name_and_another_case_is_pointed_out() -> None:
    model = small_model(class_names=["Handstand", "Surfing", "Archery"])
    assert model.class_index("Archery") == 2
    with pytest.raises(ConfigError, match="differs only in case from 'Handstand'"):
        model.class_index("HandStand")
    with pytest.raises(ConfigError, match="not among the 3 classes"):
        model.class_index("Diving")
    with pytest.raises(ConfigError, match="has no class names"):
        small_model().class_index("Archery")


def test_the_digest_depends_on_every_weight_and_on_no_counter() -> None:
    model = small_model()
    before = model.digest()
    model.network.stem[1].num_batches_tracked += 5
    assert model.digest() == before
    model.network.stem[1].running_var[3] += 1e-3
    assert model.digest() != before


def test_identity_tells_models_apart_but_not_batch_sizes() -> None:
    assert small_model(batch_size=2).identity() == small_model(batch_size=5).identity()
    assert small_model(precision="bf16").identity() != small_model().identity()
    other = small_model()
    nn.init.zeros_(other.network.fc.bias)
    assert other.identity() != small_model().identity()
