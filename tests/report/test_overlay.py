import av
import numpy as np
import pytest
import torch
from PIL import Image

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.report import overlay as module
from aosa.report.overlay import (
    comparison_sheet,
    contact_sheet,
    normalise_map,
    overlay,
    save_png,
    save_video,
)

GREY = 120


def grey_clip(t=4, h=32, w=32):
    return Clip(id="grey", frames=torch.full((t, h, w, 3), GREY, dtype=torch.uint8))


def half_hot(clip):
    """The left half of the last frame is evidence, the rest is not."""
    saliency = torch.zeros(clip.size)
    saliency[-1, :, : clip.size[2] // 2] = 1
    return saliency


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)]), stream


def test_evidence_is_red_and_the_rest_is_the_scene():
    clip = grey_clip()
    frames = overlay(clip, half_hot(clip)).frames
    assert frames.shape == (4, 32, 32, 3)
    assert frames.dtype == np.uint8
    red, green, blue = frames[-1, 16, 4].astype(int)
    assert red - max(green, blue) > 60
    assert (frames[-1, :, 16:] == GREY).all()
    assert (frames[:-1] == GREY).all()


def test_opacity_is_alpha():
    clip, none, full = grey_clip(), 0.0, 1.0
    assert (overlay(clip, half_hot(clip), alpha=none).frames == GREY).all()
    hottest = module.colour(np.ones(1, np.float32))[0]
    assert (overlay(clip, half_hot(clip), alpha=full).frames[-1, 16, 4] == hottest).all()


def test_colours_run_over_the_whole_clip_not_over_a_frame():
    clip = grey_clip(t=3)
    saliency = torch.arange(3.0)[:, None, None].expand(clip.size) + torch.rand(clip.size) * 0.01
    value = normalise_map(clip, saliency)
    assert [round(float(v), 1) for v in value.mean(axis=(1, 2))] == [0.0, 0.5, 1.0]


def test_a_shift_and_a_scale_of_the_map_change_nothing():
    clip = grey_clip()
    saliency = torch.rand(clip.size, dtype=torch.float64)
    plain, moved = normalise_map(clip, saliency), normalise_map(clip, saliency * 1e-6 - 7)
    np.testing.assert_allclose(plain, moved, atol=1e-6)


def test_one_outlier_does_not_fade_the_rest():
    clip = grey_clip()
    saliency = half_hot(clip)
    saliency[0, 0, 0] = 1e6
    assert normalise_map(clip, saliency)[-1, 5, 5] == 1


def test_an_almost_empty_map_shows_its_few_voxels():
    clip = grey_clip()
    saliency = torch.zeros(clip.size)
    saliency[2, 3, 4] = 0.1
    value = normalise_map(clip, saliency)
    assert value[2, 3, 4] == 1
    assert value.sum() == 1


def test_a_constant_map_has_no_colour():
    clip = grey_clip()
    assert (overlay(clip, torch.full(clip.size, 0.3)).frames == GREY).all()


@pytest.mark.parametrize(
    ("saliency", "options", "message"),
    [
        (torch.zeros(4, 32, 31), {}, r"the map is \(4, 32, 31\), the clip \(4, 32, 32\)"),
        (torch.full((4, 32, 32), float("nan")), {}, "NaN"),
        (torch.zeros(4, 32, 32), {"alpha": 1.5}, "alpha=1.5"),
        (torch.zeros(4, 32, 32), {"percentile": (99, 1)}, "the lower first"),
    ],
)
def test_refuses(saliency, options, message):
    with pytest.raises(AosaError, match=message):
        overlay(grey_clip(), saliency, **options)


def test_video_keeps_frames_colours_and_rate(tmp_path):
    colours = np.array([[220, 40, 40], [40, 200, 60], [50, 60, 210], [240, 240, 240], [10, 10, 10]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (5, 64, 48, 3)).copy()
    path = save_video(frames, tmp_path / "new" / "clip.mp4", fps=12.5)
    decoded, stream = decode(path)
    assert decoded.shape == (5, 256, 192, 3)
    np.testing.assert_allclose(decoded.mean(axis=(1, 2)), colours, atol=6)
    assert float(stream.average_rate) == 12.5
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert [f.name for f in path.parent.iterdir()] == ["clip.mp4"]


def test_video_of_odd_sides_loses_at_most_a_row_and_a_column(tmp_path):
    decoded, _ = decode(save_video(np.zeros((2, 301, 255, 3), np.uint8), tmp_path / "odd.mp4"))
    assert decoded.shape == (2, 300, 254, 3)


def test_the_same_frames_give_the_same_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    files = set()
    for k in range(8):
        # Memory that was used in between must not matter.
        save_video(np.full((3, 20 + k, 30 + 3 * k, 3), 99, np.uint8), tmp_path / "other.mp4")
        files.add(save_video(frames, tmp_path / "video.mp4").read_bytes())
    assert len(files) == 1


def test_overlay_saves_itself(tmp_path):
    clip = grey_clip()
    decoded, _ = decode(overlay(clip, half_hot(clip)).save(tmp_path / "o.mp4", fps=4))
    left, right = decoded[-1, 50:180, 20:90].mean(axis=(0, 1)), decoded[-1, 50:180, 140:200].mean(axis=(0, 1))
    assert left[0] - left[2] > 60
    np.testing.assert_allclose(right, GREY, atol=6)


def test_refuses_what_is_not_a_video(tmp_path):
    with pytest.raises(AosaError, match="uint8 T×H×W×3"):
        save_video(np.zeros((2, 8, 8), np.uint8), tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists()


def test_frames_may_come_one_by_one(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    whole, one_by_one = (save_video(f, tmp_path / "x.mp4").read_bytes() for f in (frames, iter(frames)))
    assert one_by_one == whole
    with pytest.raises(AosaError, match="the size of the frames changes"):
        save_video(iter([frames[0], frames[0, 1:]]), tmp_path / "y.mp4")
    with pytest.raises(AosaError, match="got none"):
        save_video(iter([]), tmp_path / "y.mp4")
    assert not (tmp_path / "y.mp4").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "x"
    for write in (
        lambda: save_video(np.zeros((1, 8, 8, 3), np.uint8), target.with_suffix(".mp4")),
        lambda: save_png(np.zeros((8, 8, 3), np.uint8), target.with_suffix(".png")),
    ):
        with pytest.raises(OSError, match=str(target)):
            write()


def coloured_clip(count):
    """Frame i is uniformly (i, 2i, 100)."""
    frames = torch.zeros(count, 16, 24, 3, dtype=torch.uint8)
    for i in range(count):
        frames[i] = torch.tensor([i, 2 * i, 100])
    return Clip(id="coloured", frames=frames)


def seen(sheet, count):
    """Which frames of `coloured_clip` stand in the sheet, each with the area it covers."""
    area = {i: int((sheet == np.array([i, 2 * i, 100])).all(axis=2).sum()) for i in range(count)}
    return {i: a for i, a in area.items() if a}


def test_contact_sheet_shows_evenly_spaced_frames_of_one_size(tmp_path):
    clip = coloured_clip(32)
    sheet = contact_sheet(clip, torch.rand(clip.size), title="surfing water, probability 0.91")
    area = seen(sheet, 32)
    assert list(area) == [0, 4, 9, 13, 18, 22, 27, 31]
    assert set(area.values()) == {module._CELL * round(module._CELL * 24 / 16)}
    assert Image.open(save_png(sheet, tmp_path / "sheet.png")).size == sheet.shape[1::-1]


def test_contact_sheet_of_a_short_clip_shows_each_frame_once():
    clip = coloured_clip(3)
    assert list(seen(contact_sheet(clip, torch.rand(clip.size)), 3)) == [0, 1, 2]


def test_a_long_title_is_wrapped_not_cut():
    clip = coloured_clip(2)
    plain = contact_sheet(clip, torch.rand(clip.size))
    wrapped = contact_sheet(clip, torch.rand(clip.size), title="a long name of a class " * 6)
    assert wrapped.shape[1] == plain.shape[1]
    assert wrapped.shape[0] > plain.shape[0] + 2 * module._HEAD
    assert (wrapped[:, -12:] == 255).all()


def test_comparison_has_a_row_per_explainer():
    clip = coloured_clip(4)
    two = comparison_sheet(clip, {"AOSA": torch.rand(clip.size), "OSA": torch.rand(clip.size)})
    three = comparison_sheet(clip, {name: torch.rand(clip.size) for name in ("AOSA", "OSA", "Random")})
    assert three.shape[0] - two.shape[0] == module._CELL + module._GAP
    assert list(seen(two, 4)) == [0, 1, 2, 3]


def test_refuses_a_sheet_without_columns():
    clip = grey_clip()
    with pytest.raises(AosaError, match="columns=0"):
        contact_sheet(clip, half_hot(clip), columns=0)
