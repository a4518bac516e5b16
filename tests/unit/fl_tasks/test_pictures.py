from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_protocol.errors import DataError
from fl_tasks import pictures
from fl_tasks.images import read_image
from fl_tasks.pictures import read_picture
from tests.radiographs import chest, radiograph


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    image.save(written, kind)
    return written.getvalue()


def declared(width: int, height: int) -> bytes:
    """A PNG that says so of itself, and has a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def zipped() -> bytes:
    """42 kB that unpack to 40 MB."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xray.png", bytes(40_000_000))
    return written.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("side", [128, 700])
def test_the_model_is_given_what_training_gives_it(tmp_path: Path, kind: str, side: int) -> None:
    data = encoded(Image.fromarray(chest(3)).resize((side, side + 20)), kind)
    (tmp_path / "x").write_bytes(data)
    found = read_picture(data, "x", 64, 1, shown=True)
    assert np.array_equal(found.pixels, read_image(tmp_path / "x", 64))
    assert (found.width, found.height) == (side, side + 20)


def test_dicom_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "x.dcm", (chest(1).astype(np.uint16) * 16))
    found = read_picture(path.read_bytes(), "upload", 64, 1, shown=True)
    assert np.array_equal(found.pixels, read_image(path, 64))
    assert Image.open(io.BytesIO(found.shown)).size == (found.width, found.height)


def test_what_people_see_is_bounded_and_keeps_its_shape() -> None:
    found = read_picture(encoded(Image.fromarray(chest(0)).resize((2400, 1800))), "x", 64, 1, shown=True)
    assert Image.open(io.BytesIO(found.shown)).size == (1200, 900)
    assert not read_picture(encoded(Image.fromarray(chest(0))), "x", 64, 1).shown


def test_colours_are_kept_for_the_eye_alone() -> None:
    red = np.zeros((80, 80, 3), np.uint8)
    red[..., 0] = np.arange(80)
    found = read_picture(encoded(Image.fromarray(red)), "x", 32, 1)
    assert found.pixels.ndim == 2 and found.thumbnail[:, :, 1].max() == 0 < found.thumbnail[:, :, 0].max()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (declared(30_000, 30_000), "million pixels"),
        (declared(8_000, 8_000), "says 8,000 x 8,000 pixels: more than 25 million are refused"),
        (declared(400, 400), "is broken"),
        (zipped(), "is no JPEG, PNG or DICOM image"),
        (b"GIF89a" + bytes(100), "is no JPEG, PNG or DICOM image"),
        (b"<html><script>alert(1)</script></html>", "is no JPEG, PNG or DICOM image"),
        (b"", "is no JPEG, PNG or DICOM image"),
        (encoded(Image.fromarray(chest(0)), "JPEG")[:900], "is broken"),
    ],
)
def test_what_is_no_image_is_refused_in_words(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_picture(data, "image.png", 64, 1, shown=True)


def test_a_cut_dicom_is_refused(tmp_path: Path) -> None:
    data = radiograph(tmp_path / "x.dcm").read_bytes()
    with pytest.raises(DataError, match=r"cut|broken"):
        read_picture(data[: len(data) - 500], "x.dcm", 64, 1)
    with pytest.raises(DataError, match="is no DICOM file"):
        read_picture(b"text", "x.dcm", 64, 1)


def test_a_bound_of_its_own_is_below_pillows() -> None:
    assert pictures.MAX_PIXELS < Image.MAX_IMAGE_PIXELS  # type: ignore[operator]
