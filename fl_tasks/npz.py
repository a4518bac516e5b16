"""Reading .npz files from anywhere: bounded before anything is allocated, and never a pickle.

An .npz is a zip file of .npy arrays, each a short header and the raw values. Headers are read here, without numpy, so
that a file can be looked at before there is a task process; values go straight into the array they fill.
"""

from __future__ import annotations

import ast
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fl_protocol.errors import DataError

if TYPE_CHECKING:
    import numpy as np

MAX_MEMBERS = 256
MAX_HEADER_BYTES = 10_000
MAX_ARRAY_BYTES = 4 * 1024**3
MAX_DIMENSIONS = 5
LARGE_BYTES, MAX_RATIO = 16 * 1024**2, 200
"""A member of more than LARGE_BYTES packed tighter than MAX_RATIO is no data: photographs pack to a half or a tenth."""
_MAGIC = b"\x93NUMPY"
_PLAIN = re.compile(r"[<>|=]?([biuf])(\d{1,2})")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Member:
    """One array of a file: numpy's name of its type, its shape, and where in the member its values begin."""

    dtype: str
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * int(re.sub(r"\D", "", self.dtype))


def read_members(path: Path) -> dict[str, Member]:
    """The arrays of ``path`` that hold plain numbers, by name. Raises DataError if it is no sound .npz.

    Members of another kind, such as text, are left out; pickled objects are refused with the whole file.
    """
    try:
        with zipfile.ZipFile(path) as held:
            infos = held.infolist()
            if len(infos) > MAX_MEMBERS:
                raise DataError(
                    f"{path} has more than {MAX_MEMBERS} members: no data set here looks like that"
                )
            found = {info.filename.removesuffix(".npy"): _member(path, held, info) for info in infos}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except _BROKEN as error:
        raise DataError(f"{path} is no sound .npz file ({_short(error)}): fetch it again") from None
    return {name: member for name, member in found.items() if member is not None}


def read_array(path: Path, name: str, members: Mapping[str, Member]) -> np.ndarray:
    """The array ``name``, one of ``members``. Raises DataError if the file ends early or is damaged."""
    import numpy as np

    member = members[name]
    flat = np.empty(math.prod(member.shape), dtype=member.dtype)
    try:
        with zipfile.ZipFile(path) as held, held.open(f"{name}.npy") as stream:
            stream.read(member.offset)
            _fill(stream, memoryview(flat.view(np.uint8)))  # type: ignore[arg-type]
            if stream.read(1):
                raise ValueError("more values than its header says")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (*_BROKEN, KeyError) as error:
        raise DataError(f"{path} is damaged in {name} ({_short(error)}): fetch it again") from None
    return flat.reshape(member.shape, order="F" if member.fortran_order else "C")


def _fill(stream: IO[bytes], view: memoryview) -> None:
    at = 0
    while at < len(view):
        piece = stream.read(min(len(view) - at, 1 << 20))
        if not piece:
            raise EOFError("it ends early")
        view[at : at + len(piece)] = piece
        at += len(piece)


def _member(path: Path, held: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    if not info.filename.endswith(".npy"):
        return None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("packed in another way than numpy packs")
    with held.open(info) as stream:
        header, offset = _header(stream)
    kind = header.get("descr")
    if not isinstance(kind, str) or kind.lstrip("<>|=").startswith("O"):
        raise DataError(
            f"{path} holds pickled objects ({info.filename}), which can run code when they are read: save plain "
            "arrays of numbers"
        )
    if not _PLAIN.fullmatch(kind):
        return None
    member = Member(kind, _shape(header.get("shape")), header.get("fortran_order") is True, offset)
    _check_size(path, info, member)
    return member


def _header(stream: IO[bytes]) -> tuple[dict[str, Any], int]:
    """The header's fields, and where the values begin."""
    start = stream.read(8)
    if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise ValueError("a member is no .npy array")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError("a header is too long")
    try:
        fields = ast.literal_eval(stream.read(length).decode("utf-8").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("a header cannot be read")  # noqa: TRY004 - the file's fault, not a caller's
    return fields, 8 + width + length


def _shape(value: Any) -> tuple[int, ...]:
    sound = isinstance(value, tuple) and len(value) <= MAX_DIMENSIONS
    if not sound or not all(type(size) is int and 0 <= size < 2**40 for size in value):
        raise ValueError("an absurd shape")
    return tuple(value)


def _check_size(path: Path, info: zipfile.ZipInfo, member: Member) -> None:
    if member.num_bytes > MAX_ARRAY_BYTES:
        raise DataError(
            f"{path} says that {info.filename} has {member.num_bytes:,} bytes: more than {MAX_ARRAY_BYTES:,} is refused"
        )
    if member.offset + member.num_bytes != info.file_size:
        raise DataError(f"{path} lies about the size of {info.filename}: its shape and its length disagree")
    if info.file_size > LARGE_BYTES and info.file_size > MAX_RATIO * max(1, info.compress_size):
        raise DataError(
            f"{path} unpacks {info.compress_size:,} bytes of {info.filename} to {info.file_size:,}: refused as a "
            "zip bomb"
        )


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:80]
