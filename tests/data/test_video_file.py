"""Pixels of every kind of video file: those that went in, and byte for byte those of another decoder."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from aosa.clip import InputSpec
from aosa.data.files import content_digest, read_clip
from aosa.data.preprocess import Geometry
from aosa.errors import VideoError
from aosa.video import video_file
from aosa.video.decode import count_frames, frame_rate, pick_frames, probe, read_frames
from aosa.video.video_file import VideoFile
from tests.videos import INTERLACED, encode, scene, set_matrix

FIELDS = {"flags": INTERLACED}
Q = {"qmin": 1, "qmax": 2}
X265 = "qp=8:log-level=none:pools=1:frame-threads=1"
# File → codec, pixel format, options. Chroma that the other decoder is to take as sited to the left is so tagged.
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "progressive.mp4": ("libx264", "yuv420p", {"qp": 8}),
    "h264_tff.mp4": ("libx264", "yuv420p", {"qp": 8, "x264_params": "tff=1", **FIELDS}),
    "h264_bff.ts": ("libx264", "yuv420p", {"qp": 8, "x264_params": "bff=1", **FIELDS}),
    "h264_422_10_left.mov": ("libx264", "yuv422p10le", {"qp": 8, "x264_params": "tff=1", **FIELDS}),
    "h264_10_left.mp4": ("libx264", "yuv420p10le", {"qp": 8}),
    "h264_444.mkv": ("libx264", "yuv444p", {"qp": 8}),
    "h264_rgb.mp4": ("libx264rgb", "rgb24", {"qp": 0}),
    "h264_601.mp4": ("libx264", "yuv420p", {"qp": 8, "matrix": 6}),
    "h264_709.mp4": ("libx264", "yuv420p", {"qp": 8, "matrix": 1}),
    "h264_709_full.mp4": ("libx264", "yuv420p", {"qp": 8, "matrix": 1, "full_range": True}),
    "h264_2020.mp4": ("libx264", "yuv420p", {"qp": 8, "matrix": 9}),
    "h264_full.mp4": ("libx264", "yuvj420p", {"qp": 8}),
    "h265.mp4": ("libx265", "yuv420p", {"x265_params": X265}),
    "h265_fields.mp4": ("libx265", "yuv420p", {"x265_params": f"{X265}:interlace=tff"}),
    "h265_10_left.mp4": ("libx265", "yuv420p10le", {"x265_params": X265}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"bf": 2, **Q}),
    "mpeg2_interlaced.mpg": ("mpeg2video", "yuv420p", {**Q, **FIELDS}),
    "mpeg2_interlaced_422.ts": ("mpeg2video", "yuv422p", {**Q, **FIELDS}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"bf": 2, **Q}),
    "mpeg4_interlaced.avi": ("mpeg4", "yuv420p", {"bf": 2, **Q, **FIELDS}),
    "dv.avi": ("dvvideo", "yuv420p", {}),
    "dv_411_left.dv": ("dvvideo", "yuv411p", {"rate": Fraction(30000, 1001)}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "prores_interlaced.mov": ("prores_ks", "yuv422p10le", FIELDS),
    "mjpeg.avi": ("mjpeg", "yuvj422p", Q),
    "vp8.webm": ("libvpx", "yuv420p", {"crf": 4, "b": "4M"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"crf": 4, "b": "4M", "auto_alt_ref": 1, "lag_in_frames": 8}),
    "av1.mp4": ("libsvtav1", "yuv420p", {"crf": 8, "svtav1_params": "lp=1"}),
    "ffv1_rgb.mkv": ("ffv1", "bgr0", {}),
    "ffv1_411.mkv": ("ffv1", "yuv411p", {}),
    "ffv1_grey16.mkv": ("ffv1", "gray16le", {}),
    "ffv1_alpha.mkv": ("ffv1", "yuva420p", {}),
    "huffyuv.avi": ("huffyuv", "yuv422p", {}),
    "raw.avi": ("rawvideo", "bgr24", {}),
    "palette.gif": ("gif", "rgb8", {}),
}  # fmt: skip
GREY = {"ffv1_grey16.mkv"}
SIZES = {"dv.avi": (576, 720), "dv_411_left.dv": (480, 720)}
# dB of the worst frame. Chroma at a quarter of the pixels costs the most; eight bits for RGB more.
COARSE = {"palette.gif": 18.0, "ffv1_411.mkv": 29.0}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, ((a.astype(float) - b) ** 2).mean())))


def by_ffmpeg(path: Path, shape: tuple[int, ...], scaling: str = "") -> np.ndarray:
    """The frames by the ffmpeg program; chroma of interlaced frames by field."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("the ffmpeg program is not installed: nothing to compare with")
    # One thread: with four, FFmpeg shows a few pixels of interlaced MPEG-4 otherwise.
    line = [
        "-threads",
        "1",
        "-i",
        str(path),
        "-vf",
        f"scale=flags=bicubic:interl=-1{scaling},format=rgb24",
        "-vsync",
        "passthrough",
    ]
    raw = subprocess.run([program, "-v", "error", *line, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each file is made once: path and the frames that went in."""
    made: dict[str, tuple[Path, np.ndarray]] = {}

    def make(name: str) -> tuple[Path, np.ndarray]:
        if name not in made:
            codec, pixels, options = KINDS[name]
            size = SIZES.get(name, (96, 128))
            frames = scene(6 if name in SIZES else 12, *size)
            if name in GREY:
                frames = frames.mean(axis=-1, keepdims=True).astype(np.uint8).repeat(3, axis=-1)
            made[name] = encode(tmp_path_factory.mktemp("kind") / name, frames, codec, pixels, **options), frames
        return made[name]

    return make


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_those_that_went_in(kinds, name):
    path, frames = kinds(name)
    info = probe(path)
    assert (info.frames, info.height, info.width) == frames.shape[:3]
    assert info.sound
    assert info.listed is None
    decoded = read_frames(path, range(info.frames))
    worst = min(psnr(a, b) for a, b in zip(decoded, frames, strict=True))
    assert worst > COARSE.get(name, 31.0)
    # Each frame is nearest to its own source, not to a neighbour's.
    middle = [psnr(decoded[3], frame) for frame in frames]
    assert int(np.argmax(middle)) == 3


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_those_of_another_decoder(kinds, name):
    path, frames = kinds(name)
    ours = read_frames(path, range(len(frames)))
    theirs = by_ffmpeg(path, ours.shape[1:], ":in_h_chr_pos=0" if "_left" in name else "")
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["h264_tff.mp4", "mpeg4.avi", "vp9.webm"])
def test_pixels_do_not_depend_on_threads(kinds, name):
    path, _ = kinds(name)
    convert = video_file.Converter()
    one, many = ([convert(path, frame) for _, frame in VideoFile(path, threads)] for threads in (1, 4))
    assert np.array_equal(one, many)
    assert np.array_equal(one, read_frames(path, range(len(one))))


def test_a_file_that_turns_interlaced_half_way(tmp_path):
    """Two streams of MPEG-2, one after the other."""
    frames = scene(16, 96, 128)
    plain = encode(tmp_path / "plain.m2v", frames[:8], "mpeg2video", format="mpeg2video", **Q)
    fields = encode(tmp_path / "fields.m2v", frames[8:], "mpeg2video", format="mpeg2video", **Q, **FIELDS)
    path = tmp_path / "both.m2v"
    path.write_bytes(plain.read_bytes() + fields.read_bytes())
    decoded = read_frames(path, range(16))
    assert [f.interlaced_frame for _, f in VideoFile(path)] == [False] * 8 + [True] * 8
    assert min(psnr(a, b) for a, b in zip(decoded, frames, strict=True)) > 31
    assert np.array_equal(decoded, by_ffmpeg(path, decoded.shape[1:]))


@pytest.mark.parametrize("size", [(49, 64), (48, 67), (51, 33), (17, 19)])
@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_odd_sizes(tmp_path, size, codec):
    frames = scene(4, *size)
    path = encode(tmp_path / "odd.avi", frames, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", **Q)
    decoded = read_frames(path, range(4))
    assert decoded.shape == frames.shape
    assert min(psnr(a, b) for a, b in zip(decoded, frames, strict=True)) > 25
    left = ":in_h_chr_pos=0" if codec == "mpeg4" and size[0] % 2 else ""  # FFmpeg's quick way for even heights has none
    assert np.array_equal(decoded, by_ffmpeg(path, decoded.shape[1:], left))


TURNS = {
    "as it is": ((1, 0, 0, 1), lambda f: f),
    "90 clockwise": ((0, 1, -1, 0), lambda f: np.rot90(f, -1)),
    "180": ((-1, 0, 0, -1), lambda f: np.rot90(f, 2)),
    "270 clockwise": ((0, -1, 1, 0), lambda f: np.rot90(f, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda f: f[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda f: f[::-1]),
    "mirrored, 90 clockwise": ((0, 1, 1, 0), lambda f: f.swapaxes(0, 1)),
    "mirrored, 270 clockwise": ((0, -1, -1, 0), lambda f: f[::-1, ::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_and_mirrored_frames_are_upright(tmp_path, turn):
    matrix, expected = TURNS[turn]
    frames = scene(3)
    path = encode(tmp_path / "a.mp4", frames, "mpeg4", **Q)
    stored = read_frames(path, range(3))
    decoded = read_frames(set_matrix(path, matrix), range(3))
    assert np.array_equal(decoded, [expected(f) for f in stored])
    assert (probe(path).height, probe(path).width) == decoded.shape[1:3]
    if "mirrored" not in turn:  # that program leaves out some mirrors
        assert np.array_equal(decoded, by_ffmpeg(path, decoded.shape[1:])) or turn == "upside down"


def test_frames_of_unequal_duration_and_pixels_that_are_not_square_stay_as_they_are(tmp_path):
    frames = scene(6)
    path = encode(tmp_path / "a.mkv", frames, "mpeg4", times=[0, 1, 5, 6, 7, 20], aspect="16:9", **Q)
    assert probe(path).sound
    decoded = read_frames(path, range(6))
    assert decoded.shape == frames.shape
    assert min(psnr(a, b) for a, b in zip(decoded, frames, strict=True)) > 31
    with pytest.raises(VideoError, match="only 6 frames decode"):
        read_frames(path, [6])


def test_colours_that_cannot_be_converted_are_refused(tmp_path):
    path = tmp_path / "ycgco.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.colorspace = 8
        file.mux(stream.encode(av.VideoFrame.from_ndarray(scene(1)[0], format="rgb24").reformat(format="yuv420p")))
        file.mux(stream.encode())
    with pytest.raises(VideoError, match=r"ycgco\.mp4: a frame \(yuv420p, matrix 8\) cannot be converted to RGB"):
        probe(path)


def test_a_title_that_is_not_utf8(tmp_path):
    frames = scene(4)
    path = encode(tmp_path / "a.avi", frames, "mpeg4")
    with av.open(str(path)) as given, av.open(str(tmp_path / "titled.mkv"), "w") as made:
        made.metadata["title"] = "Mxxxrchen"
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    path = tmp_path / "titled.mkv"
    path.write_bytes(path.read_bytes().replace(b"Mxxxrchen", b"M\xe4\xe4\xe4rchen"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert probe(path).frames == 4
    assert frame_rate(path) == 25
    clip, _, _ = read_clip(path, InputSpec(frames=4, size=(24, 24)))
    assert clip.frames.shape == (4, 24, 24, 3)


def test_a_cover_picture_is_not_the_video(tmp_path):
    frames = scene(5)
    path = tmp_path / "covered.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        cover = file.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        cover.height, cover.width, cover.pix_fmt = 20, 30, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
        file.mux(cover.encode(av.VideoFrame.from_ndarray(frames[0, :20, :30].copy(), format="rgb24")))
    cover_first(path)
    with av.open(str(path)) as file:
        assert [s.codec_context.name for s in file.streams.video] == ["mjpeg", "mpeg4"]
    info = probe(path)
    assert (info.frames, info.height, info.width) == (5, 48, 64)
    assert frame_rate(path) == 25
    assert psnr(read_frames(path, [2])[0], frames[2]) > 28


def cover_first(path: Path) -> None:
    """Move an MP4's user data (``udta``) before its track."""
    data = path.read_bytes()
    track, user = data.index(b"trak") - 4, data.index(b"udta") - 4
    length = int.from_bytes(data[user : user + 4], "big")
    path.write_bytes(data[:track] + data[user : user + length] + data[track:user] + data[user + length :])


def test_what_is_no_regular_file_is_refused_unopened(tmp_path):
    """Opening a FIFO would wait for a writer."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(tmp_path / "socket.mp4"))
    server.close()
    paths = [tmp_path / "pipe.mp4", tmp_path / "link.mp4", tmp_path / "socket.mp4", Path("/dev/zero")]
    for path in paths:
        for use in (probe, count_frames, content_digest, lambda p: list(pick_frames(p, [0]))):
            with pytest.raises(VideoError, match=f"{path.name}: not a regular file"):
                use(path)
        assert frame_rate(path) is None


def test_frames_are_resized_and_freed_as_they_come(tmp_path):
    """Of 40 frames of 920 kB, a few at a time."""
    path = encode(tmp_path / "a.mkv", scene(40, 480, 640), "mpeg4")
    spec = InputSpec(frames=40, size=(24, 24))
    expected = Geometry((480, 640), spec).frames(read_frames(path, range(40)))
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        clip, _, _ = read_clip(path, spec)
        peak = tracemalloc.get_traced_memory()[1]
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        tracemalloc.stop()
        gc.enable()
    assert np.array_equal(clip.frames, expected)
    assert alive <= 4
    assert peak < 8e6


def test_frames_out_of_reason_are_refused_before_they_are_allocated(tmp_path):
    """A claim of 138 megapixels in an AVI's headers, and in the pictures themselves; 67 are decoded at most."""
    header = encode(tmp_path / "header.avi", scene(2), "ffv1", "bgr0")
    data = header.read_bytes()
    for old, new in ((48, 12000), (64, 11500)):
        data = data.replace(old.to_bytes(4, "little"), new.to_bytes(4, "little"))
    header.write_bytes(data)
    pictures = encode(tmp_path / "pictures.avi", scene(2), "mjpeg", "yuvj420p")
    data, size = pictures.read_bytes(), (48).to_bytes(2, "big") + (64).to_bytes(2, "big")
    assert data.count(size) == 2
    pictures.write_bytes(data.replace(size, (12000).to_bytes(2, "big") + (11500).to_bytes(2, "big")))
    line = [sys.executable, "-c", PEAK, str(header), str(pictures)]
    out = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ, **PYTHON}).stdout
    for path, found in zip((header, pictures), out.splitlines(), strict=True):
        grown, message = found.split("|")
        assert f"{path.name}: not one frame decodes" in message
        assert "more than 67108864 pixels" in message
        assert int(grown) < 60_000


# KiB by which a probe raises the peak of the process's memory, and what it says.
PEAK = """
import resource, sys
from aosa.video.decode import probe
from aosa.errors import VideoError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    before = peak()
    try:
        probe(path)
    except VideoError as error:
        print(peak() - before, error, sep="|")
"""
PYTHON = {"PYTHONPATH": str(Path(__file__).parents[2])}
