"""Frames out of a video file, or out of a folder of numbered images, each at its place."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from aosa.errors import VideoError
from aosa.video.image_range import ImageRange, as_video
from aosa.video.images import list_images, read_image
from aosa.video.video_file import MAX_PIXELS, Converter, VideoFile, file_stat, open_video

# A broken image is reported by one VideoError, not by lines of OpenCV on stderr as well.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video showed.

    A frame's place is its rank by time among the packets that hold data and are shown, so a frame that is lost leaves
    a hole, and those after it keep their places. Not counted, because nobody sees them: what an edit list leaves out,
    the dropped frames of an AVI (empty packets), frames "not coded" (MPEG-4) or never shown (VP8), and the pictures
    before the first key frame of an open group, whose references are not in the file. Two fields in packets of their
    own are one frame. Where the container has no usable times (H.264 in an AVI, raw streams), the order of the packets
    stands in for them, and what lies as near to a lost frame as frames are reordered counts as damaged.

    Args:
        frames: the places, lost ones included, up to where the file is cut off.
        width, height: of the upright frames, in pixels.
        listed: the frames that the container lists, when the file is cut off before them; else None.
        lost: places of packets that give no frame.
        damaged: places of frames that decode and may show what was not filmed: the decoder or the container marks
            them as corrupt, or they are built on a frame that is lost or marked, up to the next key frame. MPEG-4 and
            MPEG-2 decoders conceal some errors without a mark; these are not known.
        threads: with which the file is read (see `aosa.video.video_file.VideoFile`): 1 where a decoder finds any fault.
    """

    frames: int
    width: int
    height: int
    listed: int | None = None
    lost: tuple[int, ...] = ()
    damaged: tuple[int, ...] = ()
    threads: int = 0

    @property
    def sound(self) -> bool:
        return not self.lost and not self.damaged


def describe_damage(lost: Sequence[int], damaged: Sequence[int]) -> str:
    """``3 lost frames (12-14) and 1 damaged frame (15)``; empty when there are none."""
    kinds = (("lost", lost), ("damaged", damaged))
    return " and ".join(f"{len(n)} {kind} frame{'s' * (len(n) > 1)} ({_ranges(n)})" for kind, n in kinds if n)


def _ranges(numbers: Sequence[int], most: int = 5) -> str:
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:most]]
    return ", ".join([*texts, "…"] if len(runs) > most else texts)


# What `probe` found, by video and `_state`; to be handed on from process to process, as it costs a whole decoding.
probed: dict[tuple[Path | ImageRange, tuple[int, int]], VideoInfo] = {}


def probe(path: str | Path | ImageRange) -> VideoInfo:
    """Decode a whole video, keeping nothing. The answer is cached until the file changes.

    Raises:
        VideoError: not found, no regular file, zero bytes, no video stream, frames out of reason, or not one frame
            decodes.
    """
    path = as_video(path)
    key = path, _state(path)
    if key not in probed:
        file = _file(path)
        probed[key] = _probe_images(path) if file is None else _probe_file(file)
    return probed[key]


def count_frames(path: str | Path | ImageRange) -> int:
    """The number of frames, those included that are lost in the middle (see `VideoInfo`); what a container claims is
    not trusted.

    Raises:
        VideoError: as `probe`.
    """
    path = as_video(path)
    return len(list_images(path)) if path.is_dir() else probe(path).frames


def frame_rate(path: str | Path | ImageRange) -> float | None:
    """Frames per second on average, as the container says; None for images and where it says nothing."""
    file = _file(as_video(path))
    if file is None:
        return None
    with suppress(VideoError), open_video(file) as (_, stream):
        rate = stream.average_rate
        return float(rate) if rate else None
    return None


def read_frames(path: str | Path | ImageRange, indices: Sequence[int]) -> np.ndarray:
    """The frames at `indices` (0 = first), upright; an index may come several times.

    Returns:
        uint8 N×H×W×3, RGB.

    Raises:
        VideoError: as `pick_frames`.
    """
    places = defaultdict(list)
    for place, i in enumerate(indices):
        places[i].append(place)
    out = np.empty(0, np.uint8)
    for i, pixels in pick_frames(path, indices):
        if not out.size:
            out = np.empty((len(indices), *pixels.shape), np.uint8)
        out[places[i]] = pixels
    return out


def pick_frames(path: str | Path | ImageRange, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Index and pixels (uint8 H×W×3, RGB, upright) of each frame of `indices`, in the video's order, one at a time.

    A lost frame is the one that decodes before it, at the video's beginning the one after it; whether it may be is
    for `aosa.data.window.Window.check_damage` to say. Reads forward and never seeks: seeking lands on wrong frames in
    many real files.

    Raises:
        VideoError: as `probe`; or the video ends before the last index, or changes its size.
    """
    path, wanted = as_video(path), sorted(set(indices))
    file, shape, reached = _file(path), None, 0
    for place, pixels in _images(path, wanted) if file is None else _video(file, wanted):
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise VideoError(f"{path}: the size of its frames changes within the window")
        yield place, pixels
        reached += 1
    if reached < len(wanted):
        raise VideoError(f"{path}: frame {wanted[-1]} was asked for, and only {count_frames(path)} frames decode")


def _file(path: Path | ImageRange) -> Path | None:
    """The video file; None for images."""
    return None if isinstance(path, ImageRange) or path.is_dir() else path


def _state(path: Path | ImageRange) -> tuple[int, int]:
    """Size and time of change: the key under which a probe stays valid."""
    file = _file(path)
    try:
        stat = path.stat() if file is None else file_stat(file)
    except OSError:
        raise VideoError(f"{path}: no such video") from None
    return stat.st_size, stat.st_mtime_ns


def _images(path: Path | ImageRange, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    images = list_images(path)
    for i in wanted:
        if i < len(images):
            yield i, read_image(images[i])


def _probe_images(path: Path | ImageRange) -> VideoInfo:
    # Images are files of their own, so each is read.
    images = list_images(path)
    height, width = read_image(images[0]).shape[:2]
    for image in images[1:]:
        read_image(image)
    return VideoInfo(len(images), width, height)


def _video(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    info = probe(path)
    lost = set(info.lost)
    decoded = [place for place in range(info.frames) if place not in lost]
    needed: dict[int, list[int]] = {}
    for place in wanted:
        if place < info.frames:
            needed.setdefault(decoded[max(0, bisect_right(decoded, place) - 1)], []).append(place)
    convert = Converter()
    for source, (_, frame) in zip(decoded, VideoFile(path, info.threads), strict=False):
        if source in needed:
            pixels = convert(path, frame)
            for place in needed.pop(source):
                yield place, pixels
        if not needed:
            return


class _Shown(NamedTuple):
    """A decoded frame, without its pixels; `number` is its packet's."""

    number: int
    key: bool
    corrupt: bool
    interlaced: bool


def _probe_file(path: Path) -> VideoInfo:
    quick = VideoFile(path, strict=True)
    seen, size = _decode(quick)
    faulty = bool(quick.failed) or any(p.damaged for p in quick.packets) or any(s.corrupt for s in seen)
    if seen and not faulty and len(seen) == len(quick.packets):
        return VideoInfo(len(seen), *size, quick.listed)
    file = VideoFile(path, threads=1)
    shown, size = _decode(file)
    if not shown:
        raise VideoError(
            f"{path}: not one frame decodes; the file is truncated or corrupt, or claims frames of more than "
            f"{MAX_PIXELS} pixels"
        )
    threads = int(faulty or seen != shown)
    return VideoInfo(**_places(file, shown), width=size[0], height=size[1], listed=file.listed, threads=threads)


def _decode(file: VideoFile) -> tuple[list[_Shown], tuple[int, int]]:
    """All frames without their pixels; width and height of the first."""
    shown, size = list[_Shown](), (0, 0)
    for number, frame in file:
        if not shown:
            height, width = Converter()(file.path, frame).shape[:2]  # what cannot be converted is found out now
            size = width, height
        shown.append(_Shown(number, frame.key_frame, frame.is_corrupt, frame.interlaced_frame))
    return shown, size


def _places(file: VideoFile, shown: list[_Shown]) -> dict[str, Any]:
    """Frames, lost and damaged places of a file of which not each packet gave a sound frame."""
    packets, shown = file.packets, _without_doubles(file, shown)
    missing, numbers = _missing(file, shown), [s.number for s in shown]
    times: Sequence[Any] = [p.time for p in packets]
    known = [times[n] for n in numbers]
    reach = 0
    if None in known or known != sorted(known) or any(times[n] is None for n in missing):
        times = range(len(packets))
        reach = max(abs(rank - place) for place, rank in enumerate(np.argsort(np.argsort(numbers)).tolist()))
    elif not any(n < numbers[0] for n in missing):
        # The video begins with an open group: what comes after its key frame and is shown before it.
        missing = [n for n in missing if n in file.failed or times[n] > known[0]]
    waiting = deque(sorted(missing, key=lambda n: times[n]))
    lost: dict[int, int] = {}
    places: list[int] = []
    for number in numbers:
        while waiting and times[waiting[0]] < times[number]:
            lost[waiting.popleft()] = len(places) + len(lost)
        places.append(len(places) + len(lost))
    if file.listed is None:
        lost |= {n: len(places) + len(lost) + i for i, n in enumerate(waiting)}
    marked = {s.number for s in shown if s.corrupt or packets[s.number].damaged}
    bad = _built_on(sorted(marked | {n for n in lost if not packets[n].disposable}), shown, places)
    bad |= {place for place, s in zip(places, shown, strict=True) if s.number in marked}
    if reach:
        bad |= {place for hole in lost.values() for place in range(hole - reach, hole + reach + 1)} & set(places)
    frames = len(places) + len(lost)
    return {"frames": frames, "lost": tuple(sorted(lost.values())), "damaged": tuple(sorted(bad))}


def _without_doubles(file: VideoFile, shown: list[_Shown]) -> list[_Shown]:
    """The decoded frames, where of two with one packet the first was made up in place of a lost reference: it then
    stands, damaged, for the last packet before that is missing."""
    counts = Counter(s.number for s in shown)
    missing = _missing(file, shown)
    out = []
    for s in shown:
        if counts[s.number] > 1 and missing and missing[0] < s.number:
            counts[s.number] -= 1
            s = s._replace(number=missing.pop(bisect_left(missing, s.number) - 1), corrupt=True)
        out.append(s)
    return out


def _missing(file: VideoFile, shown: list[_Shown]) -> list[int]:
    """Numbers of the packets that should have given a frame and gave none."""
    gave = {s.number: s for s in shown}

    def is_quiet(number: int) -> bool:
        """Whether it is right that nothing came: a blank packet, or the second field of a frame."""
        first = gave.get(number - 1)
        return number not in file.failed and (file.packets[number].blank or (first is not None and first.interlaced))

    return [n for n, p in enumerate(file.packets) if n not in gave and not p.dropped and not is_quiet(n)]


def _built_on(sources: list[int], shown: list[_Shown], places: list[int]) -> set[int]:
    """Places of the frames that may be built on the packets `sources`: those read after one of them and before the
    next key frame, or shown before that."""
    keys: list[int] = []
    built = set()
    for i in sorted(range(len(shown)), key=lambda i: shown[i].number):
        if shown[i].key:
            keys.append(i)
        begin = next((shown[k].number for k in reversed(keys) if places[k] <= places[i]), 0)
        if bisect_left(sources, begin) < bisect_left(sources, shown[i].number):
            built.add(places[i])
    return built
