"""From a file to grey or RGB pixels of one size. The same road for training, evaluation and prediction."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fl_protocol.errors import DataError
from fl_tasks import dicom

MAX_PIXELS = 100_000_000
MIN_SIDE = 16
FORMATS = ("JPEG", "PNG")
ORIENTATION = 0x0112
"""The EXIF tag."""
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")

Image.MAX_IMAGE_PIXELS = MAX_PIXELS

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(path: Path, size: int, channels: int = 1) -> np.ndarray:
    """``path`` as uint8 (size, size), or (size, size, 3) for three channels.

    Raises DataError in a few words, without the path, if it cannot be used.
    """
    with in_words():
        if dicom.looks_like(path):
            return checked(square(Image.fromarray(dicom.read_radiograph(path)), size, channels))
        with Image.open(path, formats=FORMATS) as image:
            return checked(square(image, size, channels))


@contextmanager
def in_words() -> Iterator[None]:
    """Whatever is wrong with an image becomes a DataError of a few words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that nobody reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except _BOMBS:
        raise DataError(f"has more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except FileNotFoundError:
        raise DataError("does not exist") from None
    except PermissionError:
        raise DataError("may not be read") from None
    except IsADirectoryError:
        raise DataError("is a folder") from None
    except UnidentifiedImageError:
        raise DataError("is no JPEG, PNG or DICOM image") from None
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(f"is broken ({(str(error) or type(error).__name__).splitlines()[0][:80]})") from None


def checked(pixels: np.ndarray) -> np.ndarray:
    """``pixels``, unless they show nothing."""
    if (pixels.max(axis=(0, 1)) == pixels.min(axis=(0, 1))).all():
        raise DataError("shows nothing: it has one grey or colour only")
    return pixels


def square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """uint8 (size, size), or (size, size, 3) for three channels."""
    mode = "RGB" if channels == 3 else "L"
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise DataError(f"is only {width} x {height} pixels")
    image.draft(mode, (2 * size, 2 * size))  # lets JPEG decode at a fraction of its size, never below this
    resized = upright(image).convert(mode).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def upright(image: Image.Image) -> Image.Image:
    """As a person should see it, with 8 bits a channel."""
    turned = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
    return _stretched(turned) if turned.mode in DEEP_MODES else turned


def _stretched(image: Image.Image) -> Image.Image:
    """More than 8 bits to 8: the scale is the image's own, since files of 10 to 16 bits do not say which."""
    values = np.array(image, dtype=np.float32)
    low, high = np.percentile(values, [0.1, 99.9])
    values -= low  # in place: a large detector's image is 60 MB in this form
    values /= max(float(high - low), 1e-6)
    values *= 255.0
    np.nan_to_num(values, copy=False)
    return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
