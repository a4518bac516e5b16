"""What packed DICOM frames say of their own size, read before a decoder allocates what they say."""

from __future__ import annotations

from fl_protocol.errors import DataError

JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
_LONE = frozenset({0x01, *range(0xD0, 0xDA)})
"""JPEG markers without a segment."""


def check_frame(frame: bytes, syntax: str, rows: int, columns: int, raw_bytes: int) -> None:
    """Raises DataError unless ``frame`` is of one channel and of that shape; ``raw_bytes`` is its size unpacked."""
    if syntax == RLE:
        if len(frame) > 2 * raw_bytes + 64:  # PackBits never makes more than that of so many bytes
            raise DataError("lies about its size: its packed pixels are longer than they could be")
        return
    size = jpeg_size(frame) if syntax == JPEG else jpeg2000_size(frame)
    if size is None:
        raise DataError("has packed pixels that cannot be read")
    if size != (rows, columns, 1):
        height, width, channels = size
        raise DataError(
            f"lies about its size: it says {columns} x {rows} pixels, and its packed pixels {width} x {height} in "
            f"{channels} channel{'s' * (channels != 1)}"
        )


def jpeg2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and channels from the SIZ marker (ISO 15444-1, A.5.1), which comes first."""
    if len(frame) < 42 or frame[:4] != b"\xff\x4f\xff\x51":
        return None
    width, height, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
    return height - top, width - left, int.from_bytes(frame[40:42], "big")


def jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and channels from the first start-of-frame marker (ITU T.81, B.2.2)."""
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(frame[at + 5 : at + 7], "big")
            return height, int.from_bytes(frame[at + 7 : at + 9], "big"), frame[at + 9]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
        elif marker in _LONE:
            at += 2
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
