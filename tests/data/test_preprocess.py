"""Frames, boxes and maps go through one geometry, and maps come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aosa.clip import InputSpec
from aosa.data.base import View
from aosa.data.preprocess import Geometry
from aosa.errors import ConfigError

UCF = Geometry((240, 320), InputSpec(size=(112, 112)))


def test_short_side_then_centre_crop():
    """320×240 → 149×112 (149.3 rounded), then 18 columns cut on the left."""
    assert UCF.resized == (112, 149)
    assert UCF.offset == (0, 18)


def test_crop_smaller_than_the_short_side():
    geometry = Geometry((512, 256), InputSpec(size=(224, 192), short=256))
    assert geometry.resized == (512, 256)
    assert geometry.offset == (144, 32)


def test_frames_without_a_resize_are_the_centre_pixels():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    out = Geometry((8, 12), InputSpec(size=(8, 8))).frames(frames)
    assert np.array_equal(out, frames[:, :, 2:10])


def test_halving_averages_blocks_of_four_pixels():
    frames = np.random.default_rng(0).integers(0, 64, (1, 8, 8, 3), dtype=np.uint8) * 4
    out = Geometry((8, 8), InputSpec(size=(4, 4))).frames(frames)
    assert np.array_equal(out[0], frames[0].reshape(4, 2, 4, 2, 3).mean((1, 3)))


def test_squash_keeps_all_of_the_frame():
    spec = InputSpec(size=(4, 4), resize="squash")
    frames = np.repeat(np.arange(8, dtype=np.uint8) * 20, 3).reshape(1, 1, 8, 3).repeat(4, axis=1)
    out = Geometry((4, 8), spec).frames(frames)
    assert np.array_equal(out[0, 0, :, 0], [10, 50, 90, 130])


def test_boxes_are_scaled_shifted_and_clipped():
    boxes = Geometry((200, 400), InputSpec(size=(100, 100))).boxes(
        [
            np.array([[150, 20, 250, 80]]),  # x: /2 − 50
            np.array([[0, 0, 400, 200], [120, 190, 140, 260]]),
            np.array([[0, 0, 90, 50]]),  # left of the crop
            np.zeros((0, 4)),
        ]
    )
    assert np.array_equal(boxes[0], [[25, 10, 75, 40]])
    assert np.array_equal(boxes[1], [[0, 0, 100, 100], [10, 95, 20, 100]])
    assert boxes[2].shape == boxes[3].shape == (0, 4)


def test_box_stays_on_what_it_frames():
    """A white rectangle and its box, both taken through the geometry."""
    frames = np.zeros((1, 240, 320, 3), np.uint8)
    frames[0, 60:180, 100:220] = 255
    box = UCF.boxes([np.array([[100, 60, 220, 180]])])[0][0]
    white = UCF.frames(frames)[0, :, :, 0] > 127
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    assert np.abs(box - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 0.5


def test_unmap_without_a_resize_puts_the_map_back_in_place():
    saliency = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    full = Geometry((8, 12), InputSpec(size=(8, 8))).unmap(saliency)
    assert torch.allclose(full[:, :, 2:10], saliency, atol=1e-6)
    assert full[:, :, :2].abs().max() == full[:, :, 10:].abs().max() == 0


def test_unmap_of_ones_is_the_crop():
    """Of 320 columns the crop shows those whose centre x satisfies 18 ≤ (x + ½)·149/320 ≤ 130."""
    full = UCF.unmap(torch.ones(1, 112, 112))
    shown = [x for x in range(320) if 18 <= (x + 0.5) * 149 / 320 <= 130]
    assert full.shape == (1, 240, 320)
    assert full[0].sum(0).nonzero().flatten().tolist() == shown
    assert torch.allclose(full[0][:, shown], torch.ones(240, len(shown)))


@pytest.mark.parametrize("source", [(240, 320), (480, 270), (90, 160)])
@pytest.mark.parametrize("resize", ["short", "squash"])
def test_round_trip_keeps_a_point_where_it_was(source, resize):
    """The centre of mass of a blob, as a box and as a map, agrees after the map has come back."""
    geometry = Geometry(source, InputSpec(size=(112, 96), resize=resize))
    cy, cx = source[0] * 0.55, source[1] * 0.45
    x0, y0, x1, y1 = geometry.boxes([np.array([[cx - 1, cy - 1, cx + 1, cy + 1]])])[0][0]
    ys, xs = torch.arange(112) + 0.5, torch.arange(96) + 0.5
    blob = torch.exp(-((ys[:, None] - (y0 + y1) / 2) ** 2 + (xs - (x0 + x1) / 2) ** 2) / 50)
    full = geometry.unmap(blob[None])[0]
    ys, xs = torch.arange(source[0]) + 0.5, torch.arange(source[1]) + 0.5
    assert float((full.sum(1) * ys).sum() / full.sum()) == pytest.approx(cy, abs=0.3)
    assert float((full.sum(0) * xs).sum() / full.sum()) == pytest.approx(cx, abs=0.3)


@pytest.mark.parametrize("view", [View(across=0), View(across=1, down=0.3), View(across=0.2, down=0.9, zoom=0.6)])
@pytest.mark.parametrize("resize", ["short", "squash"])
def test_boxes_and_maps_follow_the_crop_of_a_view(view, resize):
    """A white rectangle: its box frames it in the crop, and its picture as a map comes back to where it was."""
    geometry = Geometry((240, 320), InputSpec(size=(112, 96), short=128, resize=resize), view)
    rows, columns = (40, 200), (110, 230)
    frames = np.zeros((1, 240, 320, 3), np.uint8)
    frames[0, slice(*rows), slice(*columns)] = 255
    box = geometry.boxes([np.array([[columns[0], rows[0], columns[1], rows[1]]])])[0][0]
    picture = geometry.frames(frames)[0, :, :, 0]
    ys, xs = np.flatnonzero((picture > 127).any(1)), np.flatnonzero((picture > 127).any(0))
    assert np.abs(box - [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]).max() <= 0.6
    full = geometry.unmap(torch.from_numpy(picture.astype(np.float32))[None])[0].numpy()
    inside = geometry.unmap(torch.ones(1, 112, 96))[0].numpy() > 0
    assert (full > 127).sum() > 0
    assert np.mean((full > 127)[inside] == (frames[0, :, :, 0] > 127)[inside]) > 0.98


def test_zoom_of_one_is_the_largest_crop():
    geometry = Geometry((240, 320), InputSpec(size=(112, 112), short=128), View(zoom=1.0))
    box = np.array([[40, 0, 280, 240]])
    assert np.array_equal(geometry.boxes([box])[0], [[0, 0, 112, 112]])


@pytest.mark.parametrize("options", [{"across": 1.5}, {"start": -0.1}, {"zoom": 0}, {"zoom": 1.2}])
def test_view_out_of_range(options):
    with pytest.raises(ConfigError, match=rf"view\.{next(iter(options))}="):
        View(**options)
