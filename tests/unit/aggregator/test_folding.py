"""The fold on real files: FedAvg to the last bit, in little memory, whole or not at all."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from aggregator import folding
from aggregator.folding import fold, unfit
from aggregator.pieces import SpooledUpdate
from aggregator.strategies.fedavg import FedAvg
from aggregator.strategy import Facts
from fl_protocol.modelfile import DIGEST_KEY, ModelFile, read_header
from fl_protocol.tensors import LEAF_BYTES
from tests.payloads import Floats, floats, model_file

LEAF = LEAF_BYTES // 4
LAYOUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "one value": {"w": (1,)},
    "scalar and matrix": {"b": (), "w": (7, 13)},
    "just a leaf": {"w": (LEAF,)},
    "a leaf and a value": {"w": (LEAF + 1,)},
    "many leaves": {"a": (3, LEAF), "b": (17,), "c": (2, 2, LEAF // 3)},
}


def based(folder: Path, layout: dict[str, tuple[int, ...]]) -> ModelFile:
    tensors = {
        name: floats(int(np.prod(shape, dtype=int)), seed).reshape(shape)
        for seed, (name, shape) in enumerate(layout.items())
    }
    return model_file(folder / "base.safetensors", tensors, {"round": "0"})


def spooled(folder: Path, size: int, num_clients: int) -> tuple[list[SpooledUpdate], list[Floats]]:
    deltas = [floats(size // 4, 100 + k, scale=0.1) for k in range(num_clients)]
    updates = []
    for k, delta in enumerate(deltas):
        path = folder / f"client-{k:02d}.f32"
        path.write_bytes(delta.tobytes())
        updates.append(SpooledUpdate(path, Facts(f"client-{k:02d}", 1 + 17 * k)))
    return updates, deltas


def values(model: ModelFile) -> Floats:
    return np.frombuffer(b"".join(model.pieces()), "<f4")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("num_clients", [1, 2, 5])
def test_against_plain_numpy(tmp_path: Path, layout: dict[str, tuple[int, ...]], num_clients: int) -> None:
    base = based(tmp_path, layout)
    updates, deltas = spooled(tmp_path, base.size, num_clients)
    manifest = fold(FedAvg(), base, updates, tmp_path, {"round": "1", "predecessor": "x"})
    weights = np.array([update.facts.num_examples for update in updates], np.float64)
    mean = sum(w * d.astype(np.float64) for w, d in zip(weights, deltas, strict=True)) / weights.sum()
    wanted = (values(base) + mean).astype(np.float32)
    model = read_header(tmp_path / f"{manifest.digest}.safetensors")
    found = values(model)
    assert np.all(np.abs(found - wanted) <= np.spacing(np.abs(wanted)))
    assert model.tensors == base.tensors
    assert model.metadata == {"round": "1", "predecessor": "x", DIGEST_KEY: manifest.digest}
    manifest.check()
    assert model.manifest("model", manifest.chunk_bytes) == manifest


def test_the_bytes_do_not_depend_on_when_updates_came_or_how_many_threads_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = based(tmp_path, LAYOUTS["many leaves"])
    updates, _ = spooled(tmp_path, base.size, 4)
    digests = set()
    for threads, order in zip((1, 2, 3, 4), itertools.permutations(updates), strict=False):
        monkeypatch.setattr(folding, "THREADS", threads)
        in_name_order = sorted(order, key=lambda update: update.path)
        digests.add(fold(FedAvg(), base, in_name_order, tmp_path, {}).digest)
    assert len(digests) == 1


def test_memory_does_not_grow_with_model_or_clients(tmp_path: Path) -> None:
    """Eight updates of 20 MB are folded in a few leaves a thread (a leaf, in float64 and float32, is 2 MB)."""
    base = based(tmp_path, {"w": (5_000_000,)})
    update = tmp_path / "u.f32"
    update.write_bytes(bytes(base.size))
    updates = [SpooledUpdate(update, Facts(f"client-{k}", 1 + k)) for k in range(8)]
    tracemalloc.start()
    try:
        manifest = fold(FedAvg(), base, updates, tmp_path, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000
    assert np.array_equal(values(read_header(tmp_path / f"{manifest.digest}.safetensors")), values(base))


def test_folding_again_after_a_crash_gives_the_same_file(tmp_path: Path) -> None:
    base = based(tmp_path, LAYOUTS["scalar and matrix"])
    updates, _ = spooled(tmp_path, base.size, 2)
    (tmp_path / f".fold.{os.getpid()}.tmp").write_bytes(b"half a model" * 1000)
    first = fold(FedAvg(), base, updates, tmp_path, {"round": "1"})
    content = (tmp_path / f"{first.digest}.safetensors").read_bytes()
    assert fold(FedAvg(), base, updates, tmp_path, {"round": "1"}) == first
    assert (tmp_path / f"{first.digest}.safetensors").read_bytes() == content


@pytest.mark.parametrize("damage", ["short", "missing"])
def test_a_damaged_spool_is_an_error_and_leaves_nothing(tmp_path: Path, damage: str) -> None:
    base = based(tmp_path, LAYOUTS["many leaves"])
    updates, _ = spooled(tmp_path, base.size, 2)
    if damage == "short":
        os.truncate(updates[1].path, base.size - 4)
    else:
        updates[1].path.unlink()
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError):  # noqa: PT011 - of whatever kind
        fold(FedAvg(), base, updates, tmp_path, {})
    assert set(tmp_path.iterdir()) == before


def test_no_file_stays_open(tmp_path: Path) -> None:
    base = based(tmp_path, LAYOUTS["many leaves"])
    updates, _ = spooled(tmp_path, base.size, 3)
    before = len(list(Path("/proc/self/fd").iterdir()))
    fold(FedAvg(), base, updates, tmp_path, {})
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({0: 1e18, 5: -1e18}, None),
        ({3: float("nan")}, "not_finite"),
        ({3: float("inf")}, "not_finite"),
        ({0: float("-inf")}, "not_finite"),
        ({99: float("nan")}, "not_finite"),
        ({1: float("inf"), 2: float("-inf")}, "not_finite"),
        ({4: 1e20}, "absurd_values"),
        ({4: -3e38}, "absurd_values"),
        ({4: 1e20, 5: float("nan")}, "not_finite"),
    ],
)
def test_unfit(changes: dict[int, float], reason: str | None) -> None:
    delta = floats(100, 0)
    for at, value in changes.items():
        delta[at] = value
    assert unfit(delta.tobytes()) == reason


def test_unfit_takes_denormals_and_zeros() -> None:
    assert unfit(np.full(10, 1e-45, "<f4").tobytes()) is None
    assert unfit(bytes(40)) is None
