"""Updates on disk: what an earlier try left is found again, what is false is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.spool import Spool
from fl_protocol.tensors import LEAF_BYTES
from tests.payloads import leaves_of, manifest_of, random_payload

PAYLOAD = random_payload(2 * LEAF_BYTES + 40)
MANIFEST = manifest_of(PAYLOAD)
LEAVES = leaves_of(PAYLOAD)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    (tmp_path / "spool").mkdir()
    return Spool(tmp_path / "spool")


def write(spool: Spool, *leaves: int, client: str = "a", transfer: str = "1-t") -> None:
    for leaf in leaves:
        spool.write(client, transfer, leaf * LEAF_BYTES, LEAVES[leaf])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_leaves_in_any_order_make_the_payload(spool: Spool) -> None:
    assert spool.held_leaves(1, "a", "1-t", MANIFEST) == []
    write(spool, 2, 0, 1, 0)
    assert list(spool.leaves(1, "a", "1-t", MANIFEST)) == LEAVES
    assert spool.force_to_disk([(1, "a", "1-t")]) == {}
    assert spool.path(1, "a", "1-t").read_bytes() == PAYLOAD
    assert spool.path(1, "a", "1-t").relative_to(spool.folder) == Path("000001/a.1-t.f32")


def test_an_earlier_try_is_found_leaf_by_leaf(spool: Spool) -> None:
    spool.held_leaves(1, "a", "1-t", MANIFEST)
    write(spool, 2, 0)
    spool.close_all()
    later = Spool(spool.folder)
    assert later.held_leaves(1, "a", "1-t", MANIFEST) == [0, 2]
    write(later, 1)
    assert later.force_to_disk([(1, "a", "1-t")]) == {}
    assert later.held_leaves(1, "a", "1-t", MANIFEST) == [0, 1, 2]
    later.close_all()


@pytest.mark.parametrize(
    ("damage", "held"),
    [
        (lambda path: path.write_bytes(PAYLOAD[:-1]), [0, 1]),
        (lambda path: path.write_bytes(PAYLOAD[: LEAF_BYTES - 1]), []),
        (lambda path: path.write_bytes(b"\1" + PAYLOAD[1:]), [1, 2]),
        (lambda path: path.write_bytes(b""), []),
        (lambda path: path.write_bytes(PAYLOAD + b"more"), [0, 1, 2]),
    ],
)
def test_only_true_leaves_are_held(spool: Spool, damage: Callable[[Path], int], held: list[int]) -> None:
    spool.held_leaves(1, "a", "1-t", MANIFEST)
    damage(spool.path(1, "a", "1-t"))
    assert spool.held_leaves(1, "a", "1-t", MANIFEST) == held
    spool.close_all()


def test_uploads_do_not_meet(spool: Spool) -> None:
    for client in "ab":
        spool.held_leaves(1, client, "1-t", MANIFEST)
    spool.held_leaves(2, "c", "1-t", MANIFEST)
    write(spool, 0, client="a")
    assert spool.held_leaves(1, "b", "1-t", MANIFEST) == []
    assert spool.held_leaves(2, "a", "1-t", MANIFEST) == []
    spool.close_all()


def test_a_client_has_one_file_open_however_often_it_offers(spool: Spool) -> None:
    before = open_files()
    for number in range(50):
        spool.held_leaves(1, "a", f"1-t{number}", MANIFEST)
    spool.held_leaves(1, "b", "1-t", MANIFEST)
    assert open_files() == before + 2
    spool.close_client("a")
    spool.close_client("a")
    assert open_files() == before + 1
    spool.close("b", "1-t")
    spool.close("b", "1-t")
    assert open_files() == before


def test_a_full_disk_is_an_error_even_if_a_part_was_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.held_leaves(1, "a", "1-t", MANIFEST)
    pwrite, room = os.pwrite, [1000]

    def scarce(fd: int, data: bytes, at: int) -> int:
        taken = min(len(data), room[0])
        if not taken:
            raise OSError(28, "No space left on device")
        room[0] -= taken
        return pwrite(fd, bytes(data)[:taken], at)

    monkeypatch.setattr(os, "pwrite", scarce)
    with pytest.raises(OSError, match="No space left"):
        write(spool, 0)
    spool.close_all()


def test_ended_rounds_are_discarded(spool: Spool) -> None:
    for number in (1, 2, 3):
        spool.held_leaves(number, "a", "t", MANIFEST)
    spool.close_all()
    spool.discard_up_to(2)
    assert [folder.name for folder in spool.folder.iterdir()] == ["000003"]
    spool.discard_up_to(2)


def test_what_is_in_a_model_is_discarded_and_what_may_yet_be_stays(spool: Spool) -> None:
    for number, client in ((1, "a"), (1, "b"), (2, "a")):
        spool.held_leaves(number, client, "t", MANIFEST)
    spool.close_all()
    spool.discard([(1, "a", "t"), (2, "a", "t"), (9, "z", "t")])
    spool.discard_up_to(0)
    left = sorted(str(file.relative_to(spool.folder)) for file in spool.folder.rglob("*.f32"))
    assert left == ["000001/b.t.f32"]


def test_nobody_else_may_read_an_update(spool: Spool) -> None:
    spool.held_leaves(1, "a", "1-t", MANIFEST)
    assert spool.path(1, "a", "1-t").stat().st_mode & 0o077 == 0
    spool.close_all()


@pytest.mark.parametrize(
    ("damage", "whole"),
    [
        (lambda _path: None, True),
        (lambda path: path.write_bytes(PAYLOAD[:-1] + b"\1"), False),
        (lambda path: path.write_bytes(PAYLOAD[:-4]), False),
        (lambda path: path.write_bytes(PAYLOAD + b"more"), False),
        (Path.unlink, False),
    ],
)
def test_an_update_is_whole_if_its_bytes_have_its_digest(
    spool: Spool, damage: Callable[[Path], object], whole: bool
) -> None:
    spool.held_leaves(1, "a", "1-t", MANIFEST)
    write(spool, 0, 1, 2)
    spool.close_all()
    damage(spool.path(1, "a", "1-t"))
    assert spool.is_whole((1, "a", "1-t"), MANIFEST.digest, MANIFEST.groups) is whole
    assert not spool.is_whole((2, "a", "1-t"), MANIFEST.digest, MANIFEST.groups)
