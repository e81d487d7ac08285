"""A map says which class it explains, and whether its sign means something."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from aosa import SaliencyMap
from aosa.errors import AosaError, ConfigError
from aosa.explainers import (
    Explainer,
    GradCAM,
    GradCAMPP,
    GuidedBackprop,
    IntegratedGradients,
    Removal,
    SmoothGrad,
)

VALUES = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 3, 4)


def test_values_are_float32_whatever_they_came_as() -> None:
    expected = VALUES.float()
    with torch.enable_grad():
        tensor = VALUES.clone().requires_grad_()
    array = VALUES.numpy()
    read_only = array.copy()
    read_only.flags.writeable = False
    turned = np.ascontiguousarray(array[::-1])[::-1]  # strides below 0
    for given in (tensor, array, read_only, turned, array.astype(">f8"), array.tolist()):
        values = SaliencyMap(given, 3).values
        assert torch.equal(values, expected)
        assert (values.dtype, values.is_contiguous(), values.requires_grad) == (torch.float32, True, False)


def test_a_map_does_not_change_with_the_array_it_was_made_of() -> None:
    array = VALUES.numpy().astype(np.float32)
    saliency = SaliencyMap(array, 3)
    array[:] = 0
    assert torch.equal(saliency.values, VALUES.float())
    with pytest.raises(FrozenInstanceError):
        saliency.target = 4  # type: ignore[misc]


def test_other_values_keep_class_and_sign() -> None:
    smoothed = SaliencyMap(VALUES, 3, signed=True).with_values(np.asarray(VALUES) / 2)
    assert (smoothed.target, smoothed.signed, smoothed.shape) == (3, True, (2, 3, 4))
    assert torch.equal(smoothed.values, VALUES.float() / 2)


def test_numpy_reads_it() -> None:
    saliency = SaliencyMap(VALUES, 3)
    array = np.asarray(saliency)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, VALUES.float())
    assert np.shares_memory(array, saliency.values.numpy())
    assert not np.shares_memory(np.array(saliency), saliency.values.numpy())
    assert np.asarray(saliency, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(saliency, dtype=np.float64, copy=False)


def test_it_is_described_in_a_line() -> None:
    assert repr(SaliencyMap(VALUES, np.int64(3))) == "SaliencyMap(2×3×4, -1 to 1, target=3, signed=False)"


@pytest.mark.parametrize(
    ("values", "options", "problem"),
    [
        (VALUES[0], {}, r"a map holds T×H×W floating numbers, not torch.float64 \(3, 4\)"),
        (VALUES.numpy()[None], {}, r"not float64 \(1, 2, 3, 4\)"),
        (VALUES[:0], {}, r"not torch.float64 \(0, 3, 4\)"),
        (VALUES > 0, {}, r"not torch.bool \(2, 3, 4\)"),
        (VALUES.numpy().astype(int), {}, r"not int64 \(2, 3, 4\)"),
        (None, {}, r"not object \(\)"),
        (VALUES, {"target": None}, "a map needs its target"),
        (VALUES, {"target": -1}, "target=-1: give a whole number of at least 0"),
        (VALUES, {"target": True}, "target=True: give a whole number"),
        (VALUES, {"target": "jump"}, "target=jump: give a whole number"),
        (VALUES, {"signed": 1}, "signed=1: choose one of true, false"),
    ],
)
def test_what_is_no_map_is_refused(values: object, options: dict[str, object], problem: str) -> None:
    with pytest.raises((AosaError, ConfigError), match=problem):
        SaliencyMap(**{"values": values, "target": 3, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("explainer", "signed"),
    [
        (GradCAM(relu=False), True),
        (GradCAMPP(relu=False), True),
        (SmoothGrad(absolute=False), True),
        (SmoothGrad(absolute=False, squared=True), False),
        (GuidedBackprop(absolute=False), True),
        (IntegratedGradients(), True),
        (IntegratedGradients(absolute=True), False),
        (Removal(), True),
        (Removal(summary="mean"), False),
        (Removal(selection="shapley", summary="shapley"), True),
        (Removal(selection="one_in", summary="difference"), True),
        (Removal(selection="one_out", summary="value"), False),
    ],
)
def test_an_option_may_say_whether_maps_are_signed(explainer: Explainer, signed: bool) -> None:
    assert explainer.signed is signed
