"""The checksums in a RAR 4 archive: bsdtar does not compare them where a file is stored as it is."""

from __future__ import annotations

import struct
from pathlib import Path

_SIGNATURE = b"Rar!\x1a\x07\x00"
_FILE, _LONG, _LARGE, _FOLDER = 0x74, 0x8000, 0x100, 0xE0


def checksums(archive: Path) -> list[tuple[int, int]] | None:
    """Size and CRC-32 of each file, in the order of the archive (technote.txt of RAR 4.20); None for RAR 5, whose
    checksums bsdtar compares.

    Raises:
        ValueError: the blocks do not follow one another to the end.
    """
    found = []
    with archive.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return None
        length, at = archive.stat().st_size, len(_SIGNATURE)
        while at < length:
            file.seek(at)
            head = file.read(40)
            if len(head) < 7:
                raise ValueError("a block is cut short")
            kind, flags, size = struct.unpack_from("<xxBHH", head)
            if size < 7:
                raise ValueError("a block has no end")
            data = 0
            if (flags & _LONG or kind == _FILE) and len(head) >= 11:
                (data,) = struct.unpack_from("<I", head, 7)
            if kind == _FILE:
                if len(head) < 40 - 8 * (not flags & _LARGE):
                    raise ValueError("a block is cut short")
                unpacked, crc = struct.unpack_from("<IxI", head, 11)
                if flags & _LARGE:
                    high, higher = struct.unpack_from("<II", head, 32)
                    data, unpacked = data + (high << 32), unpacked + (higher << 32)
                if flags & _FOLDER != _FOLDER:
                    found.append((unpacked, crc))
            at += size + data
    return found
