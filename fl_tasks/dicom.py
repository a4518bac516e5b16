"""Chest radiographs in DICOM (pydicom, the extra ``dicom``): from a file to grey values as a radiologist sees them.

Modality LUT, then VOI LUT or window, MONOCHROME1 inverted, rows from head to foot. CR, DX and RG of one frame and one
channel, 8 to 16 bits; everything else is refused with its reason. What a file says of its size is held against what
it has before anything is decoded.

Nothing that names a person leaves this module: errors quote no element, and the patient is known by a salted hash
that lives as long as one call.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import secrets
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_protocol.errors import ConfigError, DataError
from fl_tasks.dicom_frames import check_frame
from fl_tasks.patients import UNKNOWN

if TYPE_CHECKING:
    from fl_tasks.folder import ImageFile

SUFFIXES = frozenset({".dcm", ".dicom"})
MODALITIES = ("CR", "DX", "RG")
MAX_FILE_BYTES = 256 * 1024**2
MAX_PIXELS = 40_000_000  # a large detector has 15 million
MIN_SIDE = 16
HEADER_BYTES = 1024**2
"""Read for the patient alone, which stands near the beginning."""
MISSING = "is DICOM, which needs pydicom: pip install 'hilum[dicom]'"

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG, JPEG2000, JPEG2000_LOSSY = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
RLE = "1.2.840.10008.1.2.5"
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Value representations by how their length is written (PS3.5, 7.1.2)."""
UNDEFINED = 0xFFFFFFFF
PLAIN = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
READ = (*PLAIN, JPEG, JPEG2000, JPEG2000_LOSSY, RLE)
_NAMED = {
    "1.2.840.10008.1.2.1.99": "deflate", "1.2.840.10008.1.2.4.51": "JPEG of 12 bits",
    "1.2.840.10008.1.2.4.57": "lossless JPEG", "1.2.840.10008.1.2.4.70": "lossless JPEG",
    "1.2.840.10008.1.2.4.80": "JPEG-LS", "1.2.840.10008.1.2.4.81": "JPEG-LS",
}  # fmt: skip


def looks_like(path: Path) -> bool:
    """Whether ``path`` is DICOM, by its name or its first bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return begins(file.read(132))
    except OSError:
        return False


def begins(data: bytes) -> bool:
    """Whether these are the first bytes of a DICOM file."""
    return data[128:132] == b"DICM"


def read_radiograph(path: Path) -> np.ndarray:
    """float32 (rows, columns), bright where the patient absorbed, upright.

    Raises DataError in a few words, without the path, and OSError.
    """
    return radiograph_in(_bounded(path) if find_spec("pydicom") is not None else b"")


def radiograph_in(data: bytes) -> np.ndarray:
    """The same of a file's bytes."""
    if find_spec("pydicom") is None:
        raise DataError(MISSING)
    syntax = transfer_syntax(data)
    if syntax not in READ:
        how = _NAMED.get(syntax, "a way")
        raise DataError(f"is packed as {how} that is not read here: unpack it, e.g. with gdcmconv --raw")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file
            return _pixels(_parsed(data), syntax)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises what it likes, and its texts quote the file
        raise DataError(f"is a broken DICOM file ({type(error).__name__})") from None


def with_patients(files: Sequence[ImageFile]) -> list[ImageFile]:
    """``files`` with the patients of those DICOM files of which nothing else says whose they are.

    A patient is named after the first file that is theirs, so that the id goes nowhere and the parts are the same
    for everyone. Raises ConfigError if there are some and pydicom is not installed.
    """
    if not any(file.path.suffix.lower() in SUFFIXES for file in files):
        return list(files)
    if find_spec("pydicom") is None:
        raise ConfigError("these images are DICOM, which needs pydicom: pip install 'hilum[dicom]'")
    salt = secrets.token_bytes(32)
    first: dict[bytes, str] = {}
    found = []
    for file in files:
        unknown = UNKNOWN in file.patient and file.path.suffix.lower() in SUFFIXES
        key = _patient_key(file.path, salt) if unknown else None
        found.append(
            file if key is None else replace(file, patient=first.setdefault(key, UNKNOWN + file.name))
        )
    return found


def transfer_syntax(data: bytes) -> str:
    """How the rest of a file is written, from its file meta group (PS3.10, 7.1): explicit VR, little endian.

    Whoever reads the file next must find the same: it unpacks what is deflated without a bound. So a group is refused
    that says it twice, or that can be read in two ways.
    """
    if not begins(data):
        raise DataError("is no DICOM file")
    at = 132
    found: list[bytes] = []
    while data[at : at + 2] == b"\x02\x00":
        element, kind = data[at + 2 : at + 4], data[at + 4 : at + 6]
        length = int.from_bytes(data[at + 8 : at + 12] if kind in LONG else data[at + 6 : at + 8], "little")
        if (kind not in LONG and kind not in SHORT) or length == UNDEFINED:
            raise DataError("is a broken DICOM file (its first group)")
        at += 12 if kind in LONG else 8
        if element == b"\x10\x00":
            found.append(data[at : at + min(length, 64)])
        at += length
    if not found:
        raise DataError("does not say how it is written (no transfer syntax)")
    if len(found) > 1:
        raise DataError("says twice how it is written")
    return found[0].rstrip(b"\0 ").decode("ascii", "replace")


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"has more than {MAX_FILE_BYTES // 1024**2} MiB")
        return file.read(size)


def _parsed(data: bytes, **more: Any) -> Any:
    pydicom = import_module("pydicom")
    logging.getLogger("pydicom").propagate = False  # what it logs quotes the file
    return pydicom.dcmread(io.BytesIO(data), **more)


def _pixels(held: Any, syntax: str) -> np.ndarray:
    _check_kind(held)
    rows, columns, stored = _check_shape(held)
    if "PixelData" not in held:
        raise DataError("has no pixels")
    _check_length(held, syntax, rows, columns)
    values = held.pixel_array
    if values.shape != (rows, columns):
        raise DataError(f"says {columns} x {rows} pixels and has another shape")
    if stored < 8 * values.itemsize:  # what stands above the stored bits is no part of the value
        values = _stored_bits(values, stored)
    grey = _as_seen(_rescaled(values, held, syntax), held, syntax)
    found = np.nan_to_num(np.asarray(grey, dtype=np.float32))
    if held.PhotometricInterpretation == "MONOCHROME1":
        found = found.max() - found
    return _upright(found, held.get("PatientOrientation"))


def _check_kind(held: Any) -> None:
    """Raises DataError for what is no radiograph of one frame."""
    modality = str(held.get("Modality") or "")
    if modality not in MODALITIES:
        said = f"modality {modality[:16]!r}" if modality.isalnum() else "no modality"
        raise DataError(f"has {said}: radiographs are {', '.join(MODALITIES)}")
    if int(held.get("NumberOfFrames") or 1) != 1:
        raise DataError("has several frames: give single images")
    if int(held.get("SamplesPerPixel") or 1) != 1:
        raise DataError("is in colour: radiographs are grey")
    if held.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError("is neither MONOCHROME1 nor MONOCHROME2: radiographs are grey")


def _check_shape(held: Any) -> tuple[int, int, int]:
    """Rows, columns and stored bits. Raises DataError for what no detector makes."""
    rows, columns = int(held.get("Rows") or 0), int(held.get("Columns") or 0)
    if rows * columns > MAX_PIXELS:
        raise DataError(
            f"says {columns} x {rows} pixels: more than {MAX_PIXELS // 10**6} million are refused"
        )
    if min(rows, columns) < MIN_SIDE:
        raise DataError(f"is only {columns} x {rows} pixels")
    allocated, stored = int(held.get("BitsAllocated") or 0), int(held.get("BitsStored") or 0)
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        raise DataError(f"has {stored} of {allocated} bits a pixel: 8 to 16 are read")
    return rows, columns, stored


def _check_length(held: Any, syntax: str, rows: int, columns: int) -> None:
    """Raises DataError unless there are the bytes that the shape says, or a packed frame of that very shape."""
    wanted = rows * columns * int(held.BitsAllocated) // 8
    have = len(held.PixelData)
    if syntax not in PLAIN:
        frames = list(import_module("pydicom.encaps").generate_frames(held.PixelData, number_of_frames=1))
        check_frame(frames[0], syntax, rows, columns, wanted)
    elif have < wanted:
        raise DataError(
            f"is cut: it says {columns} x {rows} pixels and has {have:,} of their {wanted:,} bytes"
        )
    elif have > wanted + wanted % 2:
        raise DataError(
            f"lies about its size: {columns} x {rows} pixels have {wanted:,} bytes, and it has {have:,}"
        )


def _rescaled(values: np.ndarray, held: Any, syntax: str) -> np.ndarray:
    """By the modality LUT, or without one by slope and intercept."""
    if table := _table_of(held, "ModalityLUTSequence"):
        return _looked_up(values, table, syntax)
    rescaled: np.ndarray = import_module("pydicom.pixels").apply_modality_lut(values, held)
    return rescaled


def _as_seen(values: np.ndarray, held: Any, syntax: str) -> np.ndarray:
    """By the VOI LUT, or without one by the first window. Raises DataError for a window that the standard rules out."""
    if table := _table_of(held, "VOILUTSequence"):
        return _looked_up(values, table, syntax)
    try:
        seen: np.ndarray = import_module("pydicom.pixels").apply_voi_lut(values, held, prefer_lut=False)
    except ValueError:
        raise DataError("has a window or a VOI LUT that cannot be, such as a window of no width") from None
    return seen


def _table_of(held: Any, name: str) -> Any:
    """The first table of a sequence, if it has one that is whole."""
    tables = held.get(name)
    return tables[0] if tables and all(tables[0].get(key) for key in ("LUTDescriptor", "LUTData")) else None


def _looked_up(values: np.ndarray, table: Any, syntax: str) -> np.ndarray:
    """What a table says of each value, those before its first entry and behind its last included (PS3.3, C.11.2.1.1).

    pydicom's own look-up counts the entries of a table of bytes in a byte, and shows noise where it has more than 256.
    Whether 16 bits have a sign is told elsewhere, and wrongly by some: a first entry that no value reaches has one.
    """
    entries, first = (int(value) & 0xFFFF for value in table.LUTDescriptor[:2])
    entries = entries or 0x10000
    if first > 0x7FFF and first > values.max():
        first -= 0x10000
    told, order = table.LUTData, ">" if syntax == BIG_ENDIAN else "<"
    if not isinstance(told, bytes):
        told, order = (np.atleast_1d(told).astype(np.int64) & 0xFFFF).astype("<u2").tobytes(), "<"
    shown = np.frombuffer(told, "u1" if len(told) < 2 * entries else f"{order}u2")
    if len(shown) < entries:
        raise DataError("has a table that is shorter than it says")
    at = np.clip(values.astype(np.int32) - first, 0, entries - 1)
    found: np.ndarray = shown[at]
    return found


def _stored_bits(values: np.ndarray, stored: int) -> np.ndarray:
    """The stored bits alone, as signed or unsigned as ``values`` are."""
    if values.dtype.kind == "u":
        return values & ((1 << stored) - 1)
    spare = 8 * values.itemsize - stored
    return (values << spare) >> spare


def _upright(grey: np.ndarray, orientation: Any) -> np.ndarray:
    """Rows to the patient's left, columns to the feet (PS3.3, C.7.6.1.1.1), if the file says where they run."""
    try:
        across, down = (str(part)[:1] for part in orientation)
    except (TypeError, ValueError):
        return grey
    if across in ("F", "H"):
        grey, across, down = grey.T, down, across
    grey = grey[::-1] if down == "H" else grey
    return np.ascontiguousarray(grey[:, ::-1] if across == "R" else grey)


def _patient_key(path: Path, salt: bytes) -> bytes | None:
    """The salted hash of the patient's id and who issued it; None if the file does not say."""
    try:
        with path.open("rb") as file:
            data = file.read(HEADER_BYTES)
        if transfer_syntax(data) not in READ:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = _parsed(data, stop_before_pixels=True, specific_tags=["PatientID", "IssuerOfPatientID"])
            said = [str(held.get(name) or "").strip() for name in ("PatientID", "IssuerOfPatientID")]
    except Exception:  # noqa: BLE001 - whatever is wrong with the file is told when its pixels are read
        return None
    return hashlib.blake2b("\0".join(said).encode(errors="replace"), key=salt).digest() if said[0] else None
