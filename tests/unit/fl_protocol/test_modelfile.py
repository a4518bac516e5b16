"""Model files: the data part is the wire payload, and a broken file is told from a whole one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fl_protocol.errors import DataError
from fl_protocol.modelfile import header_bytes, read_header, with_control, write, write_at
from fl_protocol.tensors import LEAF_BYTES, TensorSpec
from tests.payloads import floats, manifest_of, model_file

TENSORS = {
    "b.weight": floats(6, 1).reshape(2, 3),
    "a": floats(1, 2).reshape(()),
    "c \u80ba": floats(LEAF_BYTES // 4 + 1, 3),
}
PAYLOAD = b"".join(TENSORS[name].tobytes() for name in sorted(TENSORS))


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", TENSORS, {"round": "3", "name": "\u80ba"})
    read = load_file(model.path)
    assert set(read) == set(TENSORS)
    assert all(np.array_equal(read[name], TENSORS[name]) for name in TENSORS)
    assert model.metadata == {"round": "3", "name": "\u80ba"}
    assert model.tensors == tuple(TensorSpec(name, TENSORS[name].shape) for name in sorted(TENSORS))
    assert (model.size, model.offset % 64) == (len(PAYLOAD), 0)


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    save_file({"b": np.ones(2, np.float32), "a": np.zeros((1, 3), np.float32)}, tmp_path / "m", {"k": "v"})
    model = read_header(tmp_path / "m")
    assert model.tensors == (TensorSpec("a", (1, 3)), TensorSpec("b", (2,)))
    assert b"".join(model.pieces()) == bytes(12) + np.ones(2, "<f4").tobytes()


def test_the_data_part_is_the_payload(tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", TENSORS, {"k": "v"})
    assert model.path.read_bytes()[model.offset :] == PAYLOAD
    for piece_bytes in (7, LEAF_BYTES, len(PAYLOAD), 2 * len(PAYLOAD)):
        pieces = list(model.pieces(piece_bytes))
        assert b"".join(pieces) == PAYLOAD
        assert all(len(piece) == piece_bytes for piece in pieces[:-1])


def test_manifest_describes_the_file(tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", TENSORS, {"k": "v"})
    manifest = model.manifest("model", 65536, round_number=4, predecessor="0" * 64, with_metadata=True)
    manifest.check()
    assert manifest.digest == manifest_of(PAYLOAD, group="model", tensors=model.tensors).digest
    assert (manifest.round_number, manifest.predecessor, manifest.metadata) == (4, "0" * 64, {"k": "v"})
    assert model.manifest("model", 65536).metadata is None


def test_scaffold_begins_with_zeros_behind_the_model(tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", TENSORS)
    tensors, pieces = with_control(model)
    write(tmp_path / "c.safetensors", tensors, {}, pieces)
    whole = read_header(tmp_path / "c.safetensors")
    assert b"".join(whole.pieces()) == PAYLOAD + bytes(len(PAYLOAD))
    assert [group.name for group in whole.manifest("model", 65536).groups] == ["model", "control"]
    read = load_file(whole.path)
    assert set(read) == set(TENSORS) | {f"control/{name}" for name in TENSORS}
    again, pieces = with_control(whole)
    assert (again, b"".join(pieces)) == (whole.tensors, PAYLOAD + bytes(len(PAYLOAD))), (
        "an --init that has one"
    )


def test_header_is_padded_and_sorts_its_metadata() -> None:
    header = header_bytes([TensorSpec("w", (2,)), TensorSpec("x", ())], {"b": "2", "a": "1"})
    length = int.from_bytes(header[:8], "little")
    assert (len(header) % 64, length) == (0, len(header) - 8)
    assert list(json.loads(header[8:])["__metadata__"]) == ["a", "b"]
    assert json.loads(header[8:])["x"] == {"dtype": "F32", "shape": [], "data_offsets": [8, 12]}


def _whole(path: Path) -> bytes:
    return model_file(path, TENSORS).path.read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda whole: b"", "is not a usable model file"),
        (lambda whole: whole[:4], "is not a usable model file"),
        (lambda whole: whole[:100], "is not a usable model file"),
        (lambda whole: whole[: len(whole) // 2], "is not a usable model file"),
        (lambda whole: whole[:-1], "is not a usable model file"),
        (lambda whole: whole + b"\0", "is not a usable model file"),
        (lambda whole: b"\xff" * 8 + whole[8:], "is not a usable model file"),
        (lambda whole: b"\x80\x02pickled" * 9, "is not a usable model file"),
        (lambda whole: b"no model", "is not a usable model file"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: Callable[[bytes], bytes], complaint: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content(_whole(path)))
    with pytest.raises(DataError, match=complaint) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _file(entries: object, payload: bytes) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + payload


def _entry(shape: object, *span: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": span}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (_file(["a"], b""), "its header is no map"),
        (_file({"a": "F32"}, b""), "its header is damaged"),
        (_file({"a": {"dtype": "F32"}}, b""), "its header is damaged"),
        (_file({"a": _entry([-1], 0, 4)}, bytes(4)), "not made of whole numbers"),
        (_file({"a": _entry([1.0], 0, 4)}, bytes(4)), "not made of whole numbers"),
        (_file({"a": _entry(7, 0, 28)}, bytes(28)), "its header is damaged"),
        (_file({"a": _entry([2**40], 0, 4)}, bytes(4)), "its size is not that of its tensors"),
        (_file({"a": _entry([2], 0, 4), "b": _entry([1], 8, 12)}, bytes(12)), "sorted by name"),
        (_file({"a": _entry([1], 0, 4), "b": _entry([1], 0, 4)}, bytes(8)), "sorted by name"),
        (_file({"__metadata__": [1], "a": _entry([1], 0, 4)}, bytes(4)), "its header is damaged"),
        ((2).to_bytes(8, "little") + b"[" * 2, "is not a usable model file"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "its header is damaged"),
        ((2**63).to_bytes(8, "little") + b"{}", "it has no header"),
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)


def test_reading_a_header_loads_no_numpy(tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", TENSORS)
    code = (
        "import sys; from pathlib import Path; from fl_protocol.modelfile import read_header; "
        "read_header(Path(sys.argv[1])).manifest('model', 65536); sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(model.path)], check=True)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it does not exist"):
        read_header(tmp_path / "none")
    with pytest.raises(DataError, match="is not a usable model file"):
        read_header(tmp_path)


def test_other_dtypes_and_orders_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float64)}, tmp_path / "f64")
    with pytest.raises(DataError, match="not float32"):
        read_header(tmp_path / "f64")
    specs = [TensorSpec("b", (1,)), TensorSpec("a", (2,))]
    write(tmp_path / "unsorted", specs, {}, [bytes(12)])
    with pytest.raises(DataError, match="sorted by name"):
        read_header(tmp_path / "unsorted")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    model = model_file(tmp_path / "m.safetensors", TENSORS)
    os.truncate(model.path, model.offset + 10)
    with pytest.raises(DataError, match="ends early"):
        list(model.pieces())


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    before = _whole(path)

    def pieces() -> Iterator[bytes]:
        yield b"\1" * 8
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(path, [TensorSpec("w", (4,))], {}, pieces())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_at_goes_on_where_a_short_write_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[:3], at))
    path = tmp_path / "f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        write_at(fd, b"0123456789", 2)
    finally:
        os.close(fd)
    assert path.read_bytes() == b"\0\x000123456789"


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_file_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    asked: list[str] = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda _fd, name=name: asked.append(name))
    write(tmp_path / "m.safetensors", [TensorSpec("w", (1,))], {}, [bytes(4)], durable=durable)
    assert asked == (["fdatasync", "fsync"] if durable else [])
    assert read_header(tmp_path / "m.safetensors").size == 4
