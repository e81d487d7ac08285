"""Archives: zip of each kind of packing, and rar where something reads it."""

from __future__ import annotations

import io
import random
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aosa.downloads.unpack import unpack
from tests.archives import FILE, FOLDER, write_rar
from tests.fuzz.mutate import mutate
from tests.running import snapshot

_FILES = {
    "UCF-101/Surfing/v_Surfing_g01_c01.avi": bytes(range(256)) * 8,
    "UCF-101/Surfing/v two.avi": b"",
    "ucfTrainTestlist/classInd.txt": b"1 Archery\n2 Surfing\n" * 30,
}


def inputs(rng: random.Random) -> Iterator[bytes]:
    while True:
        yield mutate(rng, rng.choice(seeds()), seeds())


def check(content: bytes, folder: Path) -> None:
    """All of it as it was packed, or nothing; and nothing beside the folder."""
    inside = folder / "in"
    inside.mkdir()
    archive = folder / f"a.{'rar' if content[:3] == b'Rar' else 'zip'}"
    archive.write_bytes(content)
    try:
        unpack(archive, inside)
    except Exception:
        assert not any(inside.iterdir()), "refused, and something was unpacked"
        raise
    finally:
        assert {p.name for p in folder.iterdir()} == {"in", archive.name}, "something left the folder"
    found = snapshot(inside, "")
    # A directory entry that is gone is not to be seen: none but the zip itself tells what was in it.
    assert found
    assert found.items() <= _FILES.items(), "what was unpacked is not what was packed"


@cache
def seeds() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as file:
            for name, data in _FILES.items():
                file.writestr(zipfile.ZipInfo(name), data, method)
        made.append(packed.getvalue())
    if shutil.which("bsdtar"):
        with tempfile.TemporaryDirectory() as folder:
            members = [("UCF-101", b"", FOLDER), *((name, data, FILE) for name, data in _FILES.items())]
            made.append(write_rar(Path(folder) / "a.rar", members).read_bytes())
    return made
