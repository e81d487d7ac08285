"""What `InputSpec` and `Clip` promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aosa import Clip, InputSpec
from aosa.clip import check_class_names
from aosa.errors import ConfigError, VideoError
from tests.helpers import SPEC, moving_clip

SPECS = [
    SPEC,
    InputSpec(frames=4, size=(24, 32), mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737)),
    InputSpec(frames=4, size=(24, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
]


def every_value() -> torch.Tensor:
    """4×24×32×3 frames in which each channel takes every value of a byte."""
    return (torch.arange(4 * 24 * 32).view(4, 24, 32, 1) + torch.tensor([0, 85, 170])).remainder(256).to(torch.uint8)


def test_normalised_pixels_by_hand() -> None:
    frames = torch.zeros(4, 24, 32, 3, dtype=torch.uint8)
    frames[1, 2, 3] = torch.tensor([255, 51, 102])
    x = SPEC.normalise(frames)
    assert x.shape == (3, 4, 24, 32)
    torch.testing.assert_close(x[:, 0, 0, 0], torch.tensor([-0.4 / 0.2, -0.5 / 0.25, -0.6 / 0.3]))
    torch.testing.assert_close(x[:, 1, 2, 3], torch.tensor([0.6 / 0.2, -0.3 / 0.25, -0.2 / 0.3]))


@pytest.mark.parametrize("spec", SPECS)
def test_every_pixel_value_survives_the_way_there_and_back(spec: InputSpec) -> None:
    frames = every_value()
    assert all(len(frames[..., c].unique()) == 256 for c in range(3))
    assert torch.equal(spec.denormalise(spec.normalise(frames)), frames)


def test_denormalise_rounds_to_nearest_and_clips() -> None:
    spec = InputSpec(frames=1, size=(1, 4), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    x = torch.tensor([-0.5, 10.4 / 255, 10.6 / 255, 1.5]).view(1, 1, 1, 4).expand(3, 1, 1, 4)
    assert spec.denormalise(x)[0, 0, :, 0].tolist() == [0, 10, 11, 255]


def test_a_spec_from_lists_equals_one_from_tuples() -> None:
    lists = InputSpec(4, 1, [24, 32], [0.4, 0.5, 0.6], [0.2, 0.25, 0.3])  # type: ignore[arg-type]
    assert lists == SPEC
    assert hash(lists) == hash(SPEC)


def test_the_span_counts_source_frames() -> None:
    assert InputSpec(frames=16, interval=1).span == 16
    assert InputSpec(frames=16, interval=4).span == 61
    assert InputSpec(frames=1, interval=9).span == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "model.spec.frames=0: give a whole number of at least 1"),
        ({"interval": 0}, "model.spec.interval=0: give a whole number from 1 to"),
        ({"size": [112]}, r"model\.spec\.size must be \[height, width\], got \[112\]"),
        ({"size": [0, 112]}, r"model\.spec\.size must be"),
        ({"mean": [0.5]}, "need three numbers each"),
        ({"std": [0.2, 0.0, 0.2]}, "std must be above 0"),
        ({"resize": "long"}, "must be short or squash, got 'long'"),
        ({"short": 111}, r"model\.spec\.short is 111, smaller than the crop \[112, 112\]"),
    ],
)
def test_a_spec_out_of_range_is_refused_by_its_key(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputSpec(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(4, 24, 32, 3),
        torch.zeros(4, 24, 32, dtype=torch.uint8),
        torch.zeros(3, 4, 24, 32, dtype=torch.uint8),
        torch.zeros(0, 24, 32, 3, dtype=torch.uint8),
    ],
)
def test_frames_of_another_kind_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(VideoError, match="clip 'x': frames must be uint8 T×H×W×3, got"):
        Clip(id="x", frames=frames)


def test_frames_may_be_an_array_even_one_with_negative_strides() -> None:
    frames = every_value().numpy()
    assert np.array_equal(Clip(id="x", frames=frames[::-1]).frames.numpy(), frames[::-1])  # type: ignore[arg-type]


def test_a_box_list_of_another_length_is_refused() -> None:
    with pytest.raises(VideoError, match="3 box lists for 4 frames"):
        Clip(id="x", frames=every_value(), boxes=[np.zeros((0, 4))] * 3)


@pytest.mark.parametrize("spec", [InputSpec(frames=8, size=(24, 32)), InputSpec(frames=4, size=(32, 24))])
def test_a_clip_of_another_size_than_the_models_is_refused_with_both(spec: InputSpec) -> None:
    wanted = f"{spec.frames}×{spec.size[0]}×{spec.size[1]}"
    with pytest.raises(VideoError, match=rf"is 4×24×32 \(T×H×W\), the model wants {wanted}"):
        moving_clip().tensor(spec)


def test_a_clip_from_a_tensor_gives_it_back_bit_for_bit() -> None:
    x = torch.randn(3, 4, 24, 32, generator=torch.Generator().manual_seed(0)) * 3
    clip = Clip.from_tensor(x, SPEC, id="mine", label=2)
    assert torch.equal(clip.tensor(SPEC), x)
    assert torch.equal(clip.frames, SPEC.denormalise(x))
    assert (clip.id, clip.label) == ("mine", 2)
    clip.tensor(SPEC).zero_()
    assert torch.equal(clip.tensor(SPEC), x)


@pytest.mark.parametrize("shape", [(4, 3, 24, 32), (1, 3, 4, 24, 32), (3, 24, 32)])
def test_a_tensor_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VideoError, match="the tensor must be 3×T×H×W, got"):
        Clip.from_tensor(torch.zeros(shape), SPEC)


def test_the_digest_changes_with_a_pixel_and_with_an_unseen_fraction_of_one_only() -> None:
    clip = moving_clip()
    same = Clip(id="other name", frames=clip.frames.clone(), label=2)
    assert same.digest() == clip.digest()
    same.frames[3, 23, 31, 2] += 1
    assert same.digest() != clip.digest()
    x = clip.tensor(SPEC)
    nudged = x.clone()
    nudged[0, 0, 0, 0] += 1e-4
    first, second = Clip.from_tensor(x, SPEC), Clip.from_tensor(nudged, SPEC)
    assert torch.equal(first.frames, second.frames)
    assert first.digest() != second.digest()


def test_the_digest_does_not_confuse_shapes() -> None:
    tall = Clip(id="x", frames=torch.zeros(2, 8, 4, 3, dtype=torch.uint8))
    wide = Clip(id="x", frames=torch.zeros(2, 4, 8, 3, dtype=torch.uint8))
    assert tall.digest() != wide.digest()


def test_class_names_that_occur_twice_are_named() -> None:
    assert check_class_names(("a", "b"), "list") == ["a", "b"]
    with pytest.raises(ConfigError, match="my list: class names that occur twice: a, c"):
        check_class_names(["c", "a", "b", "a", "c"], "my list")
