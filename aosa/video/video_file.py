"""One video file: its packets, the frames that they give, and these as upright RGB."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import Interpolation, VideoReformatter

from aosa.errors import VideoError
from aosa.video.image_range import ImageRange
from aosa.video.images import MAX_PIXELS

# FFmpeg's own way: the bytes are those of its program and of OpenCV.
_SCALING = Interpolation.BICUBIC
# What a broken file makes PyAV raise.
_TROUBLE = (av.FFmpegError, ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError)
_MAX_NVOP = 19  # bytes; an MPEG-4 frame that is not coded is never longer
# Decoders that tell of the same faults and give the same frames each time with many threads; of FFV1, HEVC and MPEG-4
# damage is concealed while another thread reads the frame, of VP8, MPEG-1 and MPEG-2 not as one thread does.
_STEADY = ("h264", "vp9")
# Fixed, as what H.264 makes of some damage depends on it: a file gives the same frames on every machine.
_THREADS = 8


class Packet(NamedTuple):
    """What the container says of a packet that holds data.

    Args:
        time: when its frame is shown, in the container's unit; None when it does not say. An AVI and raw streams never
            do: what FFmpeg guesses is wrong for frames that are stored in another order than they are shown.
        dropped: whether an edit list says that its frame is not shown.
        damaged: whether it is cut off, or the container knows of an error in it.
        disposable: whether no other frame is built on its frame.
        blank: whether it holds no frame to be shown: a VP8 frame that only others are built on, an MPEG-4 frame that
            is "not coded".
    """

    time: int | None
    dropped: bool
    damaged: bool
    disposable: bool
    blank: bool


class VideoFile:
    """One reading of a video file, from the first packet to the last. Iterated, it gives each decoded frame in the
    order in which they are shown, with the number of its packet; a packet that raises an error in the decoder does
    not end it.

    The video is the first stream that is not a cover picture. Interlaced frames come as they are stored, both fields
    woven into one frame (H.265 codes each field as a frame of its own), and nothing is resampled: neither pixels that
    are not square nor frames of unequal duration.

    Args:
        threads: of the decoder; 0 = as many as give the same frames each time (for most codecs, one). Frames of an
            undamaged file are the same with any number, but for a few pixels of interlaced MPEG-4 with B-frames; only
            one thread tells for certain which packets raised an error, and conceals errors the same way each time.
        strict: whether the decoder raises an error where it would conceal one.

    Attributes:
        packets: those read so far.
        failed: numbers of the packets that raised an error (with one thread).
        listed: the frames that the container lists, when it turns out to be cut off before them; else None. Neither
            the dropped frames of an AVI nor what an edit list leaves out counts as cut off.

    Raises:
        VideoError: on iteration: no video. Frames that claim more than `MAX_PIXELS` pixels do not decode.
    """

    def __init__(self, path: Path, threads: int = 0, strict: bool = False) -> None:
        self.path, self.threads, self.strict = path, threads, strict
        self.packets: list[Packet] = []
        self.failed: set[int] = set()
        self.listed: int | None = None

    def __iter__(self) -> Iterator[tuple[int, av.VideoFrame]]:
        with open_video(self.path) as (container, stream):
            decoder = stream.codec_context
            decoder.thread_type = "AUTO"
            decoder.thread_count = self.threads or (_THREADS if decoder.name in _STEADY else 1)
            decoder.options = {"max_pixels": str(MAX_PIXELS), **({"err_detect": "explode"} if self.strict else {})}
            timed = container.format.name != "avi" and not container.format.flags & Flags.no_timestamps.value
            last = -1
            for packet in _demuxed(container, stream):
                if not packet.size:  # a dropped frame of an AVI; to the decoder it would be the end
                    continue
                number = len(self.packets)
                self.packets.append(_described(packet, decoder.name, timed))
                last = max(last, -1 if packet.dts is None else packet.dts)
                # A frame has the time of its packet: with the number there, each tells whose it is.
                packet.pts = number
                yield from self._decoded(decoder, packet, number)
            yield from self._decoded(decoder, None, len(self.packets) - 1)
            self.listed = self._cut_before(container, stream, last)

    def _decoded(self, decoder: Any, packet: av.Packet[Any] | None, number: int) -> Iterator[tuple[int, av.VideoFrame]]:
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError:
            self.failed.add(number)
            return
        for frame in frames:
            yield (number if frame.pts is None else frame.pts), frame

    def _cut_before(self, container: Any, stream: Any, last: int) -> int | None:
        listed, seen = stream.frames, len(self.packets)
        if container.format.name == "avi":
            # It numbers its dropped frames too, and says nothing of those at its end.
            whole = _riff_size(self.path) <= self.path.stat().st_size
            return None if whole or listed <= last + 1 else listed
        if "mov" in container.format.name:  # its index has what is read, an edit list may leave out the rest
            seen += listed - min(listed, len(stream.index_entries))
        return listed if listed > seen else None


def _demuxed(container: Any, stream: Any) -> Iterator[av.Packet[Any]]:
    # Where nothing more can be read, the file is cut off.
    with suppress(av.FFmpegError):
        yield from container.demux(stream)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container (`av.container.InputContainer`) and its video stream.

    Raises:
        VideoError: not a regular file, empty, or no video; also in place of what PyAV raises within.
    """
    if file_stat(path).st_size == 0:
        raise VideoError(f"{path}: the file is empty (zero bytes)")
    try:
        # An absolute path cannot be taken for a URL or a protocol ("12:30.mp4").
        options = {"max_pixels": str(MAX_PIXELS)}
        container = av.open(os.path.abspath(path), options=options, metadata_errors="ignore")
    except _TROUBLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"{path}: cannot be opened as a video; it is truncated, corrupt or no video ({reason})"
        raise VideoError(message) from None
    with container:
        try:
            yield container, _stream(path, container)
        except _TROUBLE as error:
            raise VideoError(f"{path}: cannot be read as a video ({error})") from None


def _stream(path: Path, container: Any) -> Any:
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    stream = next((s for s in container.streams.video if not s.disposition & pictures), None)
    if stream is None:
        raise VideoError(f"{path}: there is no video stream in it (audio only?)")
    if stream.codec_context is None:
        raise VideoError(f"{path}: there is no decoder for its video stream")
    return stream


def file_stat(path: Path | ImageRange) -> os.stat_result:
    """What the system says of a video file.

    Raises:
        VideoError: not there, or not a regular file (nor a link to one): a FIFO would be waited for without end.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        raise VideoError(f"{path}: no such video") from None
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{path}: not a regular file (a FIFO, a socket or a device)")
    return found


class Converter:
    """Decoded frames → uint8 H×W×3, RGB, upright.

    Matrix (BT.601, BT.709, …) and range are those that the frame is tagged with; untagged, BT.601 and limited range,
    as FFmpeg has it. Each field of an interlaced frame has its own chroma. An alpha channel is left out. Frames are
    turned and mirrored as their display matrix says, in quarters: the nearest, for other angles.

    Raises:
        VideoError: on a call: a pixel format or a matrix (such as YCgCo) that cannot be converted.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()  # one for all frames: setting it up takes longer than a frame
        self._turns: dict[int, tuple[bool, slice, slice]] = {}

    def __call__(self, path: Path, frame: av.VideoFrame) -> np.ndarray:
        try:
            # One thread: more would cost more than they save at the sizes that networks see.
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=_SCALING, threads=1)
            pixels = rgb.to_ndarray()
            swapped, rows, columns = self._turn(frame)
            return np.ascontiguousarray((pixels.swapaxes(0, 1) if swapped else pixels)[rows, columns])
        except _TROUBLE as error:
            colours = f"{frame.format.name}, matrix {int(frame.colorspace)}"
            message = f"{path}: a frame ({colours}) cannot be converted to RGB ({error})"
            raise VideoError(message) from None

    def _turn(self, frame: av.VideoFrame) -> tuple[bool, slice, slice]:
        """Whether rows and columns change places, and how both are then read. Looked up once for each angle."""
        angle = frame.rotation
        if angle not in self._turns:
            self._turns[angle] = _read_matrix(frame)
        return self._turns[angle]


def _read_matrix(frame: av.VideoFrame) -> tuple[bool, slice, slice]:
    # A frame whose own `side_data` is asked for keeps its memory until garbage is collected. Of damaged data some
    # decoders show what a frame's memory held before: the same each time only where it is given back in order.
    matrix: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    # x' = a·x + c·y, y' = b·x + d·y
    a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else np.frombuffer(matrix, np.int32)[:5].tolist()
    swapped = max(abs(a), abs(d)) < max(abs(b), abs(c))
    x, y = (c, b) if swapped else (a, d)
    return swapped, slice(None, None, -1 if y < 0 else 1), slice(None, None, -1 if x < 0 else 1)


def _described(packet: av.Packet[Any], codec: str, timed: bool) -> Packet:
    return Packet(
        packet.pts if timed else None,
        packet.is_discard,
        packet.is_corrupt,
        packet.is_disposable,
        _is_blank(codec, memoryview(packet)),
    )


def _is_blank(codec: str, data: memoryview) -> bool:
    if codec == "vp8":
        return not data[0] >> 4 & 1  # show_frame
    return codec == "mpeg4" and len(data) <= _MAX_NVOP


def _riff_size(path: Path) -> int:
    """Bytes that an AVI's outermost chunks claim, one after the other."""
    end, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while end < size:
            file.seek(end)
            head = file.read(8)
            if head[:4] != b"RIFF" or len(head) < 8:
                break
            end += 8 + int.from_bytes(head[4:], "little")
    return end
