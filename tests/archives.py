"""Archives as no well-meaning program would make them."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777

Members = list[tuple[str, bytes, int]]


def write_zip(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content, mode in members:
            info = zipfile.ZipInfo(f"{name}/" if mode == FOLDER else name)
            info.create_system, info.external_attr = 3, mode << 16
            file.writestr(info, content)
    return path


def write_rar(path: Path, members: Members) -> Path:
    """RAR 4, made on Unix, nothing compressed (technote.txt of RAR 4.20): blocks of crc16, type, flags, size."""
    blocks = [b"Rar!\x1a\x07\x00", _block(0x73, 0, bytes(6))]
    for name, content, mode in members:
        raw = name.encode()
        fields = struct.pack(
            "<IIBIIBBHI", len(content), len(content), 3, zlib.crc32(content), 0x21 << 16, 20, 0x30, len(raw), mode
        )
        # The high bits of the flags: 0xE0 a folder, else the size of the dictionary.
        blocks += [_block(0x74, 0x8000 | (0xE0 if mode == FOLDER else 0), fields + raw), content]
    path.write_bytes(b"".join([*blocks, _block(0x7B, 0x4000, b"")]))
    return path


def _block(kind: int, flags: int, fields: bytes) -> bytes:
    head = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head
