from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl_protocol.errors import DataError
from fl_tasks.npz import MAX_ARRAY_BYTES, read_array, read_members


def npy(shape: str, descr: str = "'|u1'", body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An array file with whatever header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


def packed(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


kinds = st.sampled_from(["u1", "<i8", "<f4", "?", ">i2"]).map(np.dtype)


@given(hnp.arrays(kinds, hnp.array_shapes(max_dims=4, min_side=0, max_side=5)), st.booleans())
def test_what_numpy_writes_is_read_as_it_was(array: np.ndarray, fortran: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npz"
        np.savez_compressed(path, a=np.asfortranarray(array) if fortran else array)
        found = read_array(path, "a", read_members(path))
    assert (found.tobytes(), found.shape, found.dtype) == (array.tobytes(), array.shape, array.dtype)


def test_text_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", classes=np.array(["cat", "dog"]), x=np.zeros(3, np.uint8))
    assert list(read_members(tmp_path / "x.npz")) == ["x"]


def test_pickled_objects_are_refused_and_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3, np.uint8), y=np.array([{"a": 1}], dtype=object))
    with pytest.raises(
        DataError, match=r"holds pickled objects \(y\.npy\), which can run code.*plain arrays"
    ):
        read_members(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npy("(3,)", body=b"12"), "lies about the size of x.npy"),
        (npy("(2,)", body=b"123"), "lies about the size"),
        (npy(f"({MAX_ARRAY_BYTES + 1},)"), "more than 4,294,967,296 is refused"),
        (npy("(1099511627776, 1099511627776, 7)"), "absurd shape"),
        (npy("(-1, 5)"), "absurd shape"),
        (npy("(True,)"), "absurd shape"),
        (npy("[3]"), "absurd shape"),
        (npy("(1,1,1,1,1,1)", body=b"1"), "absurd shape"),
        (npy("(3,)", "[('a', 'O')]"), "pickled objects"),
        (npy("(3,)", "'|O8'"), "pickled objects"),
        (npy("__import__('os').getpid()"), "a header cannot be read"),
        (npy("(" * 5000), "a header cannot be read"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{", "a header is too long"),
        (b"no array at all", "a member is no .npy array"),
        (b"", "a member is no .npy array"),
    ],
)
def test_a_hostile_member_is_refused_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    path = packed(tmp_path / "x.npz", {"x": data})
    with pytest.raises(DataError, match=says) as caught:
        read_members(path)
    assert "\n" not in str(caught.value)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.npz", {"x": npy("(20000000,)", body=bytes(20_000_000))})
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="refused as a zip bomb"):
        read_members(path)


def test_other_ways_of_packing_and_crowds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="packed in another way"):
        read_members(packed(tmp_path / "a.npz", {"x": npy("(1,)", body=b"1")}, zipfile.ZIP_LZMA))
    many = {f"m{i}": b"" for i in range(300)}
    with pytest.raises(DataError, match="more than 256 members"):
        read_members(packed(tmp_path / "b.npz", many))


def test_a_file_that_is_cut_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 255, 100_000).astype(np.uint8))
    whole = path.read_bytes()
    members = read_members(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is no sound"):
        read_members(path)
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 255
    path.write_bytes(bytes(spoilt))
    with pytest.raises(DataError, match="is damaged in x"):
        read_array(path, "x", members)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="is no sound"):
        read_members(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_members(tmp_path / "absent.npz")


def test_looking_needs_no_numpy() -> None:
    code = "import sys, fl_tasks.sources; print([m for m in ('torch', 'PIL', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
