"""One image that a person hands in, from its bytes alone: what the model is given, and what people are shown.

The model's pixels take the road of training (images.py). Nothing touches a disk, and what is declared is held against
bounds before anything is decoded.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from fl_protocol.errors import DataError
from fl_tasks import dicom
from fl_tasks.images import FORMATS, checked, in_words, square, upright

MAX_PIXELS = 25_000_000
"""A large detector has 15 million; so many take 100 MB to decode in colour."""
SHOWN_SIDE = 1200
QUALITY = 88
THUMBNAIL_SIDE = 64


@dataclass(frozen=True)
class Picture:
    """One image. ``width`` and ``height`` are the file's own."""

    pixels: np.ndarray
    """uint8 (s, s) or (s, s, 3): what the model is given."""
    thumbnail: np.ndarray
    """uint8 (64, 64, 3), in the image's own colours."""
    width: int
    height: int
    shown: bytes = b""
    """A JPEG for people, at most SHOWN_SIDE a side; empty unless it was asked for."""


def read_picture(data: bytes, name: str, size: int, channels: int, *, shown: bool = False) -> Picture:
    """Raises DataError in a few words, without the name, if it cannot be used."""
    with in_words():
        if dicom.begins(data) or PurePosixPath(name).suffix.lower() in dicom.SUFFIXES:
            grey = Image.fromarray(dicom.radiograph_in(data))
            return _picture(grey, grey, size, channels, shown=shown)
        first = _opened(data)
        return _picture(first, _opened(data), size, channels, shown=shown)


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"says {width:,} x {height:,} pixels: more than {MAX_PIXELS // 10**6} million are refused"
        )
    return image


def _picture(first: Image.Image, second: Image.Image, size: int, channels: int, *, shown: bool) -> Picture:
    """Each image is decoded by itself, at a fraction of its size where that can be: for the model, then for the eye."""
    width, height = first.size
    pixels = checked(square(first, size, channels))
    if second is not first:
        first.close()
    side = SHOWN_SIDE if shown else THUMBNAIL_SIDE
    second.draft("RGB", (side, side))
    seen = upright(second)
    if max(seen.size) > side:
        shrunk = seen if seen.mode in ("L", "RGB") else seen.convert("RGB")
        ratio = side / max(seen.size)
        smaller = (max(1, round(seen.width * ratio)), max(1, round(seen.height * ratio)))
        seen = shrunk.resize(smaller, Image.Resampling.BILINEAR, reducing_gap=2.0)
    colours = seen.convert("RGB")
    small = np.asarray(colours.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX))
    return Picture(pixels, small, width, height, _jpeg(colours) if shown else b"")


def _jpeg(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()
