"""Numbered images of a folder, taken for a video."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from aosa.data.image_range import ImageRange
from aosa.errors import VideoError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_images(folder: Path | ImageRange) -> list[Path]:
    """The images of a folder in the order of their numbers.

    Raises:
        VideoError: no images, or a number that is missing or there twice.
    """
    numbered: dict[int, Path] = {}
    for path in folder.iterdir():
        digits = re.findall(r"\d+", path.stem)
        if path.suffix.lower() in IMAGE_EXTENSIONS and digits and not path.name.startswith("."):
            number = int(digits[-1])
            if number in numbered:
                raise VideoError(f"{folder}: {numbered[number].name} and {path.name} have one number")
            numbered[number] = path
    if not numbered:
        raise VideoError(f"{folder}: no numbered images (such as image_00001.jpg) in this folder")
    numbers = sorted(numbered)
    steps = np.diff(numbers)
    if len(steps) and steps.max() > steps.min():
        gap = int(steps.argmax())
        raise VideoError(
            f"{folder}: images are missing between {numbered[numbers[gap]].name} and {numbered[numbers[gap + 1]].name}"
        )
    return [numbered[n] for n in numbers]


def read_image(path: Path) -> np.ndarray:
    """One image: uint8 H×W×3, RGB.

    Raises:
        VideoError: not an image, truncated or empty.
    """
    # imdecode of bytes, since imread cannot open every file name on every platform.
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise VideoError(f"{path}: not a readable image (truncated, corrupt or empty)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
