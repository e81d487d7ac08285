"""A whole video, window by window."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import aosa
from aosa import load_map, save_map
from aosa.config import quoted
from aosa.data import files
from aosa.data.files import read_clip, read_windows
from aosa.data.window import Window
from aosa.stages import sliding
from aosa.video.decode import pick_frames
from tests.running import Ended, common_options, run


@pytest.fixture
def video(tmp_path, write_video) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)
    return write_video(tmp_path / "clip.avi", noise)


def explain(folder: Path, video: Path, *overrides: str) -> Ended:
    options = [*common_options(folder / "out"), "windows=sliding", f"video={quoted(str(video))}"]
    return run("explain_video", "explainer=grad_cam", *options, *overrides)


def result(folder: Path) -> Path:
    (info,) = (folder / "out").rglob("info.json")
    return info.parent


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def stamps(out: Path) -> dict[str, int]:
    return {p.stem: p.stat().st_mtime_ns for p in (out / "windows").iterdir()}


def test_windows_scores_and_overlay(tmp_path, video):
    ended = explain(tmp_path, video)
    assert ended.status == 0, ended.err
    out = result(tmp_path)
    assert {p.name for p in out.iterdir()} == {
        "overlay.mp4", "scores.png", "scores.csv", "probabilities.npy", "windows", "info.json", "config.yaml"
    }  # fmt: skip
    assert sorted(stamps(out)) == ["000000", "000008", "000016", "000024"]
    model = aosa.load_model("r3d_tiny", checkpoint="random", device="cpu")
    scores = np.load(out / "probabilities.npy")
    for row, probabilities, start in zip(rows(out), scores, (0, 8, 16, 24), strict=True):
        clip, _, _ = read_clip(video, model.spec, Window(window="start"), id="x")
        if start == 0:
            want = model.scores(clip.tensor(model.spec)[None])[0].detach().numpy()
            np.testing.assert_allclose(probabilities, want, rtol=1e-4)
        best = int(probabilities.argmax())
        assert (int(row["first_frame"]), int(row["last_frame"])) == (start, start + 15)
        assert float(row["seconds"]) == (start + 8) / 25
        assert row["explained"] == model.class_names[best]
        assert float(row["probability"]) == pytest.approx(probabilities[best], abs=1e-6)
        assert load_map(out / "windows" / f"{start:06d}.b2nd")[0].target == best
    frames = decode(out / "overlay.mp4")
    assert len(frames) == 40
    assert frames.shape[2] == 48 * 14  # the least whole factor that reaches 640
    assert frames[:, 32 * 14 :].mean() > 200  # the strip, on white
    with av.open(str(out / "overlay.mp4")) as container:
        assert container.streams.video[0].average_rate == 25
    with Image.open(out / "scores.png") as figure:
        assert np.asarray(figure).std() > 10


def test_frames_are_the_videos_own_and_what_the_model_does_not_see_is_dim(tmp_path, write_video):
    grey = np.full((24, 32, 48, 3), 100, np.uint8)
    grey[12:] = 200
    # A map of one video frame is constant in a scene of one grey: random differs from voxel to voxel.
    assert explain(tmp_path, write_video(tmp_path / "grey.avi", grey), "explainer=random").status == 0
    frames = decode(result(tmp_path) / "overlay.mp4")[:, : 32 * 14].astype(float)
    # 32×48 is resized to 64×96, of which the middle 64 columns are seen: source columns 8 to 40.
    left, right = frames[:, :, : 7 * 14].mean(axis=(1, 2, 3)), frames[:, :, 41 * 14 :].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(left, 0.45 * grey[:, 0, 0, 0], atol=4)
    np.testing.assert_allclose(right, left, atol=4)
    assert (frames[:, :, 9 * 14 : 39 * 14].std(axis=(1, 2, 3)) > 10).all()


def test_finished_windows_are_not_explained_again(tmp_path, video):
    assert explain(tmp_path, video).status == 0
    out = result(tmp_path)
    before, overlay = stamps(out), (out / "overlay.mp4").read_bytes()
    (out / "windows" / "000008.b2nd").unlink()
    (out / "windows" / "000016.b2nd").write_bytes(b"damaged")
    ended = explain(tmp_path, video)
    assert "2 of 4 windows have their map" in ended.out
    after = stamps(out)
    assert {k for k in after if after[k] != before[k]} == {"000008", "000016"}
    assert (out / "overlay.mp4").read_bytes() == overlay


def test_damaged_probabilities_and_maps_of_something_else_are_made_again(tmp_path, video, monkeypatch):
    monkeypatch.setattr(sliding, "save_video", lambda frames, path, fps: path)  # the slow part, not looked at here
    assert explain(tmp_path, video).status == 0
    out = result(tmp_path)
    file, window = out / "probabilities.npy", out / "windows" / "000008.b2nd"
    whole, good = np.load(file), (file.read_bytes(), window.read_bytes())
    saliency, meta = load_map(window)
    huge = good[0].replace(b"(4, 6), }" + b" " * 6, b"(4, 6000000), }")
    assert huge != good[0]
    short = saliency.with_values(saliency.values[:2])
    without = {key: value for key, value in meta.items() if key != "range"}
    for content, (other, about) in zip(
        (whole[:, :5], whole[:3], whole.astype("f4"), whole[0], whole * np.nan, whole.astype(object), huge),
        ((short, meta), (saliency, without), (saliency, {**meta, "size": [32]}), *[(saliency, meta)] * 4),
        strict=True,
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content)
        save_map(window, other, about)
        ended = explain(tmp_path, video)
        assert ended.status == 0, ended.err
        assert (file.read_bytes(), window.read_bytes()) == good


def test_each_choice_that_changes_maps_has_a_folder_of_its_own(tmp_path, video, monkeypatch):
    monkeypatch.setattr(sliding, "save_video", lambda frames, path, fps: path)  # the slow part, not looked at here
    for overrides in ([], ["window_stride=16"], ["target=2"], ["interval=2"], ["scale=video"], ["fps=10"], []):
        assert explain(tmp_path, video, *overrides).status == 0
    folders = list((tmp_path / "out" / "videos" / "clip").iterdir())
    assert len(folders) == 4  # the scale of colours and the pace change no map
    shutil.copyfile(video, tmp_path / "other.avi")
    assert explain(tmp_path, tmp_path / "other.avi").status == 0
    assert next(p.name for p in (tmp_path / "out" / "videos" / "other").iterdir()) in {p.name for p in folders}


def test_one_class_for_the_whole_video(tmp_path, video):
    assert explain(tmp_path, video, "target=video").status == 0
    out = result(tmp_path)
    mean = np.load(out / "probabilities.npy").mean(axis=0)
    assert {load_map(p)[0].target for p in (out / "windows").iterdir()} == {int(mean.argmax())}
    info = json.loads((out / "info.json").read_text())
    assert list(info["top"].values()) == pytest.approx(sorted(mean, reverse=True)[:5])


def test_windows_are_those_of_single_clips(video):
    spec = aosa.InputSpec(frames=5, interval=3, size=(24, 30))
    windows = Window().sliding(40, spec, "clip", 40, stride=7)
    assert [w[0] for w in windows] == [0, 7, 14, 21, 27]
    assert {w[-1] - w[0] for w in windows} == {12}
    clips = list(read_windows(video, spec, windows, id="clip", name="clip.avi"))
    assert [c.id for c, _ in clips] == ["clip/000000", "clip/000007", "clip/000014", "clip/000021", "clip/000027"]
    alone, indices, _ = read_clip(video, spec, Window(window="start", interval=3))
    assert (clips[0][0].frames == alone.frames).all()
    assert clips[0][0].source == alone.source
    last, _, _ = read_clip(video, spec, Window(window="index", index=2, interval=3))  # frames 26 to 38
    assert indices == windows[0]
    assert not (clips[-1][0].frames == last.frames).all()


def test_a_window_comes_before_the_rest_is_decoded(video, monkeypatch):
    decoded = []

    def watched(path, indices):
        for i, pixels in pick_frames(path, indices):
            decoded.append(i)
            yield i, pixels

    monkeypatch.setattr(files, "pick_frames", watched)
    spec = aosa.InputSpec(frames=4, size=(24, 30))
    clips = read_windows(video, spec, Window().sliding(40, spec, "clip", None), id="clip", name="clip.avi")
    next(clips)
    assert decoded == [0, 1, 2, 3]
    next(clips)
    assert decoded == [0, 1, 2, 3, 4, 5]


def test_short_video_is_looped_if_wanted(tmp_path, write_video):
    short = write_video(tmp_path / "short.avi", 10)
    assert "the window needs 16" in explain(tmp_path, short).err
    assert explain(tmp_path, short, "short_videos=loop").status == 0
    assert len(decode(result(tmp_path) / "overlay.mp4")) == 10


def test_folder_of_images(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(20):
        Image.fromarray(np.full((32, 48, 3), 8 * i, np.uint8)).save(frames / f"image_{i + 1:05d}.png")
    assert explain(tmp_path, frames, "fps=10").status == 0
    assert len(decode(result(tmp_path) / "overlay.mp4")) == 20


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["window_stride=0"], "error: window_stride=0: give a whole number from 1 to 16"),
        (["window_stride=17"], "error: window_stride=17: give a whole number from 1 to 16"),
        (["window=start"], "windows=sliding takes all windows: leave out window=start"),
        (["windows=all"], "error: windows=all: choose one of one, sliding"),
        (["windows=one", "target=video"], "target=video and window_stride are for windows=sliding"),
        (["windows=one", "window_stride=4"], "target=video and window_stride are for windows=sliding"),
        (["scale=frame"], "error: scale=frame: choose one of window, video"),
        (["target=6"], "target=6 is out of range"),
        (["interval=3"], "has 40 frames, the window needs 46"),
        (["explainer.layer=layer9"], "has no layer 'layer9'"),
        (["fps=0"], "error: fps=0: give"),
    ],
)
def test_bad_input(tmp_path, video, overrides, message):
    ended = explain(tmp_path, video, *overrides)
    assert ended.status == 1
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not list((tmp_path / "out").rglob("*.mp4"))
