"""A part of a folder of numbered images, read as a video of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageRange:
    """The images of a folder from one number to another, both included. Where a folder of images is taken for a
    video (`aosa.video.decode`, `aosa.data.base.Entry.path`), so is this, by the methods of a path that these call.

    The folder is never listed: EPIC-Kitchens has folders of 200 000 images.

    Args:
        folder: where they lie.
        pattern: of their names: ``"frame_{:010d}.jpg"``.
        first, last: numbers.
    """

    folder: Path
    pattern: str
    first: int
    last: int

    def image(self, number: int) -> Path:
        """The image of that number, whether it is there or not."""
        return self.folder / self.pattern.format(number)

    def iterdir(self) -> Iterator[Path]:
        """The images that are there."""
        return (p for p in map(self.image, range(self.first, self.last + 1)) if p.exists())

    def is_dir(self) -> bool:
        return self.folder.is_dir()

    def exists(self) -> bool:
        return self.folder.exists()

    def stat(self) -> os.stat_result:
        return self.folder.stat()

    def relative_to(self, root: Path) -> Path:
        """As a record names it: ``P01/P01_01/frame_0000000008.jpg-202``."""
        return self.folder.relative_to(root) / self.name

    @property
    def name(self) -> str:
        return f"{self.pattern.format(self.first)}-{self.last}"

    @property
    def stem(self) -> str:
        return self.name

    def __str__(self) -> str:
        return f"{self.folder}{os.sep}{self.name}"


def as_video(path: str | Path | ImageRange) -> Path | ImageRange:
    """A path by its text; what is none already, as it is."""
    return Path(path) if isinstance(path, str) else path
