from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fl_protocol.errors import DataError
from fl_tasks import images
from fl_tasks.images import read_image

RAMP = np.tile(np.arange(0, 250, 2, dtype=np.uint8), (90, 1))


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png") -> Path:
    image.save(tmp_path / name)
    return tmp_path / name


def test_every_kind_of_grey_comes_out_alike(tmp_path: Path) -> None:
    plain = read_image(saved(tmp_path, Image.fromarray(RAMP)), 32)
    assert plain.dtype == np.uint8
    assert plain.shape == (32, 32)
    assert np.all(np.diff(plain[16].astype(int)) > 0)
    for mode in ("RGB", "RGBA", "LA", "P"):
        other = read_image(saved(tmp_path, Image.fromarray(RAMP).convert(mode)), 32)
        assert np.abs(other.astype(int) - plain).max() <= 2
    jpeg = read_image(saved(tmp_path, Image.fromarray(RAMP), "x.jpeg"), 32)
    assert np.abs(jpeg.astype(int) - plain).max() <= 4


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_sixteen_bit_files_use_the_whole_range(tmp_path: Path, bits: int) -> None:
    deep = np.tile(np.linspace(0, 2**bits - 1, 125).astype(np.uint16), (90, 1))
    found = read_image(saved(tmp_path, Image.fromarray(deep)), 32)
    assert found.min() < 12
    assert found.max() > 243
    assert np.all(np.diff(found[16].astype(int)) > 0)


def test_what_lies_beyond_the_scale_of_a_deep_image_is_white_or_black(tmp_path: Path) -> None:
    deep = np.tile(np.linspace(1000, 2000, 64).astype(np.uint16), (64, 1))
    deep[10, 10], deep[20, 20] = 65_535, 0  # a marker and a dead pixel
    found = read_image(saved(tmp_path, Image.fromarray(deep)), 64)
    assert (found[10, 10], found[20, 20]) == (255, 0)
    assert np.all(np.diff(found[40].astype(int)) > 0)


def test_an_image_is_made_smaller_by_averaging(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))
    found = read_image(saved(tmp_path, Image.fromarray(stripes)), 16)
    assert found[:, 1:-1] == pytest.approx(np.full((16, 14), 100), abs=1), "no column is picked out"
    wide = Image.fromarray(RAMP[:40])  # 125 x 40: both sides to one length
    expected = wide.resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(read_image(saved(tmp_path, wide), 32), np.asarray(expected))


@pytest.mark.parametrize("value", [np.uint16(700), np.uint8(0), np.uint8(255)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_that_shows_nothing_is_refused(tmp_path: Path, value: np.generic, channels: int) -> None:
    with pytest.raises(DataError, match="shows nothing: it has one grey or colour only"):
        read_image(saved(tmp_path, Image.fromarray(np.full((40, 40), value))), 32, channels)


def test_colours_stay_where_a_model_sees_them(tmp_path: Path) -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[:20, :, 0] = 250
    found = read_image(saved(tmp_path, Image.fromarray(red)), 32, 3)
    assert found.shape == (32, 32, 3) and found[0, 0].tolist() == [250, 0, 0]
    one_colour = Image.fromarray(np.full((40, 40, 3), [9, 200, 3], np.uint8))
    with pytest.raises(DataError, match="shows nothing"):
        read_image(saved(tmp_path, one_colour), 32, 3)


def test_a_turned_photograph_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(RAMP[::-1, ::-1].copy()).save(tmp_path / "x.jpeg", exif=exif)
    found = read_image(tmp_path / "x.jpeg", 32)
    assert np.all(np.diff(found[16].astype(int)[::4]) > 0)


def broken(tmp_path: Path, what: str) -> Path:
    path = tmp_path / "x.jpeg"
    if what == "text":
        path.write_text("this is no image")
    elif what == "empty":
        path.write_bytes(b"")
    elif what in ("truncated jpeg", "truncated png"):
        noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
        Image.fromarray(noise).save(path, format=what.split()[1])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif what in ("1x1", "8x40"):
        Image.new("L", (1, 1) if what == "1x1" else (8, 40)).save(path)
    elif what == "gif":
        Image.new("L", (50, 50)).save(path, format="GIF")
    elif what == "folder":
        path.mkdir()
    elif what == "damaged png":
        noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
        Image.fromarray(noise).save(path, format="PNG")
        data = bytearray(path.read_bytes())
        data[5000:20000] = bytes(15000)
        path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("text", "is no JPEG, PNG or DICOM image"),
        ("empty", "is no JPEG, PNG or DICOM image"),
        ("truncated jpeg", "is broken .*truncated"),
        ("truncated png", "is broken"),
        ("damaged png", "is broken"),
        ("1x1", "is only 1 x 1 pixels"),
        ("8x40", "is only 8 x 40 pixels"),
        ("gif", "is no JPEG, PNG or DICOM image"),
        ("folder", "is a folder|is no JPEG"),
        ("absent", "does not exist"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, what: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_image(broken(tmp_path, what), 32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [80, 150])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # 80 x 80 is a warning to Pillow, 150 x 150 an error
    with pytest.raises(DataError, match="more than 100 million pixels"):
        read_image(saved(tmp_path, Image.new("L", (side, side))), 32)


def test_the_bound_is_set() -> None:
    assert Image.MAX_IMAGE_PIXELS == images.MAX_PIXELS


def test_a_text_bomb_in_a_png_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 70_000_000, zip=True)
    Image.fromarray(RAMP).save(tmp_path / "x.png", pnginfo=text)
    with pytest.raises(DataError, match="is broken"):
        read_image(tmp_path / "x.png", 32)


def test_real_originals_and_their_reduced_copies_look_alike(real_data: Path) -> None:
    compared = 0
    for path in sorted((real_data / "chest_xray_originals").rglob("*.jp*g"))[:6]:
        for reduced in (real_data / "chest_xray").rglob(f"{path.stem}.*"):
            gap = read_image(path, 64).astype(int) - read_image(reduced, 64)
            assert np.abs(gap).mean() < 4
            compared += 1
    assert compared
