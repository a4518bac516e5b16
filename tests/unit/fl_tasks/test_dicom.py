from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from fl_protocol.errors import ConfigError, DataError
from fl_tasks import dicom
from fl_tasks.dicom import radiograph_in, read_radiograph, with_patients
from fl_tasks.dicom_frames import jpeg2000_size, jpeg_size
from fl_tasks.folder import list_images
from fl_tasks.images import read_image
from fl_tasks.orientation import quarter_turns
from tests.radiographs import RAMP, SECRET, radiograph


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_plain_values_come_back(tmp_path: Path, syntax: Any) -> None:
    assert np.array_equal(
        read_radiograph(radiograph(tmp_path / "a.dcm", syntax=syntax)), RAMP.astype(np.float32)
    )
    small = (RAMP // 8).astype(np.uint8)
    assert np.array_equal(read_radiograph(radiograph(tmp_path / "b.dcm", small)), small)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    found = read_radiograph(radiograph(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(found, RAMP.max() - RAMP.astype(np.float32))


def test_the_modality_lut_comes_before_the_window(tmp_path: Path) -> None:
    path = radiograph(
        tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1000, WindowWidth=200
    )
    found = read_radiograph(path)
    rescaled = RAMP.astype(float) * 2 - 100
    assert len(np.unique(found[rescaled < 900])) == len(np.unique(found[rescaled > 1100])) == 1
    inside = (rescaled > 905) & (rescaled < 1095)
    assert np.corrcoef(found[inside], rescaled[inside])[0, 1] == pytest.approx(1.0)


def windowed(values: np.ndarray, center: float, width: float, top: int = 2**16 - 1) -> np.ndarray:
    """The linear function of PS3.3, C.11.2.1.2.1, as it is written there; of width 1 it is a threshold."""
    x = values.astype(float)
    inside = ((x - (center - 0.5)) / max(width - 1, 1e-9) + 0.5) * top
    return np.where(
        x <= center - 0.5 - (width - 1) / 2, 0.0, np.where(x > center - 0.5 + (width - 1) / 2, top, inside)
    )


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"WindowCenter": 1000, "WindowWidth": 200}, windowed(RAMP, 1000, 200)),
        ({"WindowCenter": 900, "WindowWidth": 1}, windowed(RAMP, 900, 1)),
        ({"WindowCenter": [500, 1500], "WindowWidth": [300, 100]}, windowed(RAMP, 500, 300)),
        (
            {"WindowCenter": 500, "WindowWidth": 300, "PhotometricInterpretation": "MONOCHROME1"},
            2**16 - 1 - windowed(RAMP, 500, 300),
        ),
    ],
    ids=["linear", "width-1", "the-first-of-two", "inverted-after-it"],
)
def test_a_window_is_the_function_of_the_standard(
    tmp_path: Path, elements: dict[str, Any], expected: np.ndarray
) -> None:
    found = read_radiograph(radiograph(tmp_path / "a.dcm", **elements))
    assert found == pytest.approx(expected, abs=0.01)


INVERTED = list(range(240, 0, -1))


def a_table(values: list[int], first: int = 0, bits: int = 16, data: bytes | None = None) -> Sequence:
    """A LUT whose first entry is that of ``first``; ``data`` are its entries as bytes."""
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(values) % 2**16, first, bits])
    item.add_new(0x00283006, "US" if data is None else "OW", values if data is None else data)
    return Sequence([item])


@pytest.mark.parametrize(
    "elements",
    [
        {"VOILUTSequence": a_table(INVERTED)},
        {"VOILUTSequence": a_table(INVERTED), "WindowCenter": 100, "WindowWidth": 50},
        {"ModalityLUTSequence": a_table(INVERTED)},
    ],
    ids=["voi", "voi-before-window", "modality"],
)
def test_a_table_says_how_bright_each_value_is(tmp_path: Path, elements: dict[str, Any]) -> None:
    values = (RAMP // 8).astype(np.uint16)
    found = read_radiograph(radiograph(tmp_path / "a.dcm", values, **elements))
    assert np.array_equal(found, 240 - values.astype(np.float32))


DOUBLED = [2 * value for value in range(2000)]
BYTES = [value // 8 for value in range(2000)]
SIGNED = (RAMP.astype(np.int16) - 500).astype(np.int16)


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("pixels", "table", "expected"),
    [
        (RAMP, a_table(DOUBLED[:1500], 100), 2 * np.clip(RAMP.astype(int) - 100, 0, 1499)),
        (RAMP, a_table(BYTES, bits=8), RAMP // 8),
        (RAMP, a_table(BYTES, bits=8, data=bytes(BYTES)), RAMP // 8),
        (RAMP, a_table(BYTES, bits=8, data=np.array(BYTES, "<u2").tobytes()), RAMP // 8),
        (RAMP, a_table(DOUBLED, data=np.array(DOUBLED, "<u2").tobytes()), 2 * RAMP),
        (34 * RAMP, a_table([0] * 2**16, data=np.arange(2**16)[::-1].astype("<u2").tobytes()), 65535 - 34 * RAMP),
        (SIGNED, a_table(DOUBLED, -500), 2 * RAMP),
        (SIGNED, a_table(DOUBLED, 2**16 - 500), 2 * RAMP),
    ],
    ids=["ends", "bytes-in-words", "bytes-packed", "bytes-as-ow", "words-as-ow", "65536", "signed", "sign-untold"],
)  # fmt: skip
def test_tables_of_any_length_depth_and_beginning(
    tmp_path: Path, name: str, syntax: Any, pixels: np.ndarray, table: Sequence, expected: np.ndarray
) -> None:
    found = read_radiograph(radiograph(tmp_path / "a.dcm", pixels, syntax, **{name: table}))
    assert np.array_equal(found, expected.astype(np.float32))


def test_a_table_begins_below_nought_where_rescaled_values_do(tmp_path: Path) -> None:
    """Implicit VR and unsigned pixels: the sign of the first entry is nowhere to be read, and -500 looks like 65036."""
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        path = radiograph(tmp_path / "a.dcm", syntax=syntax, RescaleSlope=1, RescaleIntercept=-500,
                          VOILUTSequence=a_table(DOUBLED, -500))  # fmt: skip
        assert np.array_equal(read_radiograph(path), 2.0 * RAMP)


def test_a_table_that_lacks_entries_is_refused_and_an_empty_one_is_none(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "a.dcm", VOILUTSequence=a_table(DOUBLED, data=bytes(1000)))
    with pytest.raises(DataError, match="has a table that is shorter than it says"):
        read_radiograph(path)
    empty = radiograph(tmp_path / "b.dcm", VOILUTSequence=Sequence([Dataset()]))
    assert np.array_equal(read_radiograph(empty), RAMP)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_eight_to_sixteen_bits(tmp_path: Path, bits: int) -> None:
    kind = np.uint8 if bits == 8 else np.uint16
    values = (RAMP.astype(float) / RAMP.max() * (2**bits - 1)).astype(kind)
    found = read_radiograph(radiograph(tmp_path / "a.dcm", values, BitsStored=bits, HighBit=bits - 1))
    assert np.array_equal(found, values)


def test_signed_values_and_what_stands_above_the_stored_bits(tmp_path: Path) -> None:
    signed = (RAMP.astype(np.int16) - 500).astype(np.int16)
    assert np.array_equal(read_radiograph(radiograph(tmp_path / "a.dcm", signed)), signed)
    overlaid = (RAMP % 4096 | 0xF000).astype(np.uint16)
    found = read_radiograph(radiograph(tmp_path / "b.dcm", overlaid, BitsStored=12, HighBit=11))
    assert np.array_equal(found, RAMP % 4096)
    twelve = (SIGNED & 0x0FFF).astype(np.int16)  # as a detector writes -500 in 12 of 16 bits
    found = read_radiograph(radiograph(tmp_path / "c.dcm", twelve, BitsStored=12, HighBit=11))
    assert np.array_equal(found, SIGNED)


@pytest.mark.parametrize(
    ("said", "back"),
    [(["L", "F"], lambda a: a), (["L", "H"], lambda a: a[::-1]), (["R", "F"], lambda a: a[:, ::-1]),
     (["R", "H"], lambda a: a[::-1, ::-1]), (["F", "L"], lambda a: a.T), (["H", "L"], lambda a: a.T[::-1]),
     (["F", "R"], lambda a: a.T[:, ::-1]), (["H", "R"], lambda a: a.T[::-1, ::-1]), (["LP", "FP"], lambda a: a), (None, lambda a: a)],
)  # fmt: skip
def test_an_image_is_laid_as_it_says(
    tmp_path: Path, said: list[str] | None, back: Callable[[np.ndarray], np.ndarray]
) -> None:
    found = read_radiograph(radiograph(tmp_path / "a.dcm", PatientOrientation=said))
    assert np.array_equal(found, back(RAMP))


def test_packed_frames(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "a.dcm")
    held = pydicom.dcmread(path)
    held.compress(RLELossless)
    held.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(read_radiograph(tmp_path / "rle.dcm"), RAMP)
    held = pydicom.dcmread(path)
    held.compress(JPEG2000Lossless)
    held.save_as(tmp_path / "j2k.dcm")
    assert np.array_equal(read_radiograph(tmp_path / "j2k.dcm"), RAMP)


def siz(rows: int, columns: int, channels: int = 1) -> bytes:
    head = struct.pack(
        ">HHHHIIIIIIIIH", 0xFF4F, 0xFF51, 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, channels
    )
    return head + bytes([15, 1, 1]) * channels + b"\xff\xd9"


def sof(rows: int, columns: int, channels: int = 1) -> bytes:
    return (
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0"
        + struct.pack(">HBHHB", 11, 8, rows, columns, channels)
        + bytes(9)
    )


def test_the_sizes_that_codecs_say() -> None:
    assert jpeg2000_size(siz(300, 200, 3)) == (300, 200, 3)
    assert jpeg_size(sof(300, 200)) == (300, 200, 1)
    assert jpeg_size(b"\xff\xd8\xff\xff\xff" + sof(7, 8)[2:]) == (7, 8, 1)
    for junk in (
        b"",
        b"\xff\xd8",
        b"\xff\x4f\xff\x51",
        b"\xff\xd8" + b"\xff" * 50,
        b"x" * 100,
        sof(1, 1)[:12],
    ):
        assert jpeg_size(junk) is None and jpeg2000_size(junk) is None


LIE = r"lies about its size: it says 40 x 48 pixels, and its packed pixels 60000 x 60000"


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"Modality": "CT"}, "has modality 'CT': radiographs are CR, DX, RG"),
        ({"Modality": None}, "has no modality"),
        ({"Modality": SECRET}, "has no modality"),
        ({"NumberOfFrames": 2}, "has several frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "is in colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is neither MONOCHROME1 nor MONOCHROME2"),
        ({"PixelData": None}, "has no pixels"),
        ({"Rows": 60000, "Columns": 60000}, "says 60000 x 60000 pixels: more than 40 million are refused"),
        ({"Rows": 4800}, "is cut: it says 40 x 4800 pixels and has 3,840 of their 384,000 bytes"),
        ({"Rows": 24}, "lies about its size: 40 x 24 pixels have 1,920 bytes, and it has 3,840"),
        ({"Rows": 2, "Columns": 960}, "is only 960 x 2 pixels"),
        ({"Rows": None}, "is only 40 x 0 pixels"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "has 32 of 32 bits a pixel: 8 to 16 are read"),
        ({"BitsStored": 4}, "has 4 of 16 bits"),
        ({"syntax": JPEGLosslessSV1, "PixelData": encapsulate([b"x" * 10])}, "is packed as lossless JPEG .* unpack it"),
        ({"syntax": JPEG2000Lossless, "PixelData": encapsulate([siz(60000, 60000)])}, LIE),
        ({"syntax": JPEG2000Lossless, "PixelData": encapsulate([siz(48, 40, 3)])}, "40 x 48 in 3 channels"),
        ({"syntax": JPEGBaseline8Bit, "PixelData": encapsulate([sof(60000, 60000)])}, LIE),
        ({"syntax": JPEGBaseline8Bit, "PixelData": encapsulate([b"no jpeg"])}, "packed pixels that cannot be read"),
        ({"syntax": RLELossless, "PixelData": encapsulate([bytes(20_000)])}, "longer than they could be"),
        ({"syntax": JPEG2000Lossless, "PixelData": encapsulate([siz(48, 40)])}, r"is a broken DICOM file \("),
        ({"WindowCenter": 5, "WindowWidth": 0}, "a window of no width"),
    ],
)  # fmt: skip
def test_what_is_no_radiograph_is_refused_with_its_reason(
    tmp_path: Path, elements: dict[str, Any], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = radiograph(tmp_path / "x.dcm", **elements)
    with pytest.raises(DataError, match=says) as caught:
        read_image(path, 32)
    assert "\n" not in str(caught.value) and "Smith" not in str(caught.value)
    assert "Smith" not in "".join(capfd.readouterr())


def test_a_deflated_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "x.dcm", syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(DataError, match="is packed as deflate"):
        read_radiograph(path)


def element(number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    """One of the file meta group."""
    size = len(value) if length is None else length
    long = b"\0\0" + struct.pack("<I", size) if kind in dicom.LONG else struct.pack("<H", size)
    return struct.pack("<HH", 2, number) + kind + long + value


PLAINLY = element(0x10, b"UI", b"1.2.840.10008.1.2.1\0")
DEFLATED = element(0x10, b"UI", b"1.2.840.10008.1.2.1.99")


@pytest.mark.parametrize("group", [
    PLAINLY + DEFLATED,
    DEFLATED + PLAINLY,
    PLAINLY + element(0x12, b"OB", b"\xfe\xff\xdd\xe0\0\0\0\0", dicom.UNDEFINED) + DEFLATED,
    element(0x12, b"UC", PLAINLY[4:].ljust(0x00100002, b"\0")) + DEFLATED,  # its length reads as a tag
    element(0x12, b"ZZ", b"") + DEFLATED,
], ids=["twice", "twice-the-other-way", "no-length", "a-long-one-that-looks-short", "of-no-kind"])  # fmt: skip
def test_a_bomb_behind_a_header_that_reads_in_two_ways_is_not_unpacked(
    group: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 kB that pydicom would unpack to 400 MB: it takes the last of two, and knows kinds that a simple reader does not."""
    monkeypatch.setattr(dicom, "_parsed", lambda *_: pytest.fail("pydicom was asked"))
    with pytest.raises(DataError, match=r"says twice how|broken DICOM file|packed as deflate"):
        radiograph_in(bytes(128) + b"DICM" + group)


def test_a_file_cut_anywhere_is_a_named_problem(tmp_path: Path) -> None:
    whole = radiograph(tmp_path / "whole.dcm").read_bytes()
    for length in (0, 100, 131, 132, 140, 200, 300, 500, 700, len(whole) - 3000, len(whole) - 1):
        (tmp_path / "x.dcm").write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            read_image(tmp_path / "x.dcm", 32)
        assert "Smith" not in str(caught.value)


def test_an_element_that_claims_four_gigabytes_costs_none(tmp_path: Path) -> None:
    whole = radiograph(tmp_path / "x.dcm").read_bytes()
    at = whole.index(b"\xe0\x7f\x10\x00OW") + 8
    (tmp_path / "x.dcm").write_bytes(whole[:at] + struct.pack("<I", 0xFFFFFFF0) + whole[at + 4 :])
    tracemalloc.start()
    with contextlib.suppress(DataError):  # what is there of the pixels may do
        read_image(tmp_path / "x.dcm", 32)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_larger_file_than_any_radiograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "MAX_FILE_BYTES", 1024**2)
    path = radiograph(tmp_path / "x.dcm")
    with path.open("ab") as file:
        file.truncate(1024**2 + 1)
    with pytest.raises(DataError, match="has more than 1 MiB"):
        read_radiograph(path)


def test_a_file_without_the_name_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "IM000001")
    assert read_image(path, 32).shape == (32, 32)


def test_without_pydicom_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = radiograph(tmp_path / "NORMAL" / "x.dcm")
    radiograph(tmp_path / "PNEUMONIA" / "x.dcm")
    monkeypatch.setattr(dicom, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match=r"needs pydicom: pip install 'hilum\[dicom\]'"):
        read_image(path, 32)
    with pytest.raises(ConfigError, match=r"needs pydicom: pip install 'hilum\[dicom\]'"):
        with_patients(list_images(str(tmp_path), "train"))


def test_patients_are_grouped_and_their_ids_go_nowhere(tmp_path: Path) -> None:
    for name, patient, issuer in (("NORMAL/a", "7", None), ("NORMAL/b", "8", None), ("PNEUMONIA/c", "7", None),
                                  ("PNEUMONIA/d", "7", "elsewhere"), ("PNEUMONIA/e", "", None)):  # fmt: skip
        radiograph(tmp_path / f"{name}.dcm", PatientID=patient, IssuerOfPatientID=issuer)
    (tmp_path / "PNEUMONIA" / "broken.dcm").write_bytes(b"no dicom")
    (tmp_path / "PNEUMONIA" / "person9_virus_1.png").write_bytes(b"not read here")
    found = {file.name: file.patient for file in with_patients(list_images(str(tmp_path), "train"))}
    assert found == {
        "NORMAL/a.dcm": "file:NORMAL/a.dcm", "NORMAL/b.dcm": "file:NORMAL/b.dcm", "PNEUMONIA/c.dcm": "file:NORMAL/a.dcm",
        "PNEUMONIA/d.dcm": "file:PNEUMONIA/d.dcm", "PNEUMONIA/e.dcm": "file:PNEUMONIA/e.dcm",
        "PNEUMONIA/broken.dcm": "file:PNEUMONIA/broken.dcm", "PNEUMONIA/person9_virus_1.png": "person9_virus",
    }  # fmt: skip


def test_a_patient_is_known_by_another_key_in_every_call(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "a.dcm")
    one, again, other = (dicom._patient_key(path, salt * 32) for salt in (b"a", b"a", b"b"))
    assert one == again != other
    assert one is not None and b"4711" not in one


def test_what_is_known_otherwise_stays(tmp_path: Path) -> None:
    radiograph(tmp_path / "NORMAL" / "a.dcm")
    radiograph(tmp_path / "PNEUMONIA" / "b.dcm")
    files = [replace(file, patient="from the table") for file in list_images(str(tmp_path), "train")]
    assert {file.patient for file in with_patients(files)} == {"from the table"}


def test_the_real_files(real_data: Path) -> None:
    large = read_image(real_data / "dicom" / "cr_chest_pa_jpeg2000.dcm", 224)
    small = read_image(real_data / "dicom" / "cr_chest_pa_small.dcm", 224)
    assert np.abs(large.astype(int) - small).mean() < 2
    assert small[180:, :].mean() > small[60:140, 60:90].mean() + 20  # the belly is brighter than a lung
    assert quarter_turns(small) == 0
