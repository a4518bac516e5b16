"""Pieces on real files: every strategy as in memory, across groups and leaves, and never all of it at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aggregator.folding import fold
from aggregator.pieces import LEAST_PIECE_BYTES, SpooledUpdate, piece_bytes_for, slices, whole_groups
from aggregator.server_state import state_path
from aggregator.strategies.registry import STRATEGIES
from aggregator.strategies.scaffold import Scaffold
from aggregator.strategy import Clients, Facts, Piece, Stepped, Sums
from fl_protocol.modelfile import ModelFile, read_header, with_control, write
from fl_protocol.tensors import CONTROL, LEAF_BYTES, MODEL, TensorSpec
from tests.payloads import Floats, floats, model_file
from tests.pieces import folded

LEAF = LEAF_BYTES // 4
SIZE = 2 * LEAF + 77


def spool(folder: Path, num: int, size: int = SIZE) -> tuple[list[SpooledUpdate], list[Floats]]:
    deltas = [floats(size, 100 + k, scale=0.1) for k in range(num)]
    updates = []
    for k, delta in enumerate(deltas):
        path = folder / f"c{k:02d}.f32"
        path.write_bytes(delta.tobytes())
        updates.append(SpooledUpdate(path, Facts(f"c{k:02d}", 1 + 17 * k, k % 3, {"local_steps": 1.0 + k})))
    return updates, deltas


def values(model: ModelFile) -> Floats:
    return np.frombuffer(b"".join(model.pieces()), "<f4")


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_on_disk_as_in_memory(tmp_path: Path, name: str) -> None:
    """Cut in leaves and smaller pieces; a survey adds up its parts in another order, so the last bit may differ."""
    strategy, base = STRATEGIES[name](), model_file(tmp_path / "base", {"w": floats(SIZE, 0)}, {"round": "0"})
    updates, deltas = spool(tmp_path, 7)
    digest = fold(strategy, base, updates, tmp_path, {"round": "1"}).digest
    wanted = folded(strategy, floats(SIZE, 0), deltas, [update.facts for update in updates]).model
    found = values(read_header(tmp_path / f"{digest}.safetensors"))
    assert np.all(np.abs(found - wanted) <= 2 * np.spacing(np.abs(wanted)))
    again = fold(strategy, base, updates, tmp_path, {"round": "1"}).digest
    assert again == digest, "the same updates make the same bytes"


def test_a_leaf_may_hold_the_end_of_one_group_and_the_beginning_of_another(tmp_path: Path) -> None:
    """SCAFFOLD: a model of one and a half leaves, and a control variate behind it."""
    size = LEAF + LEAF // 2
    plain = model_file(tmp_path / "plain", {"w": floats(size, 0)}, {"round": "0"})
    tensors, _ = with_control(plain)
    write(tmp_path / "base", tensors, {"round": "0"}, [floats(2 * size, 0).tobytes()])
    updates, deltas = spool(tmp_path, 3, 2 * size)
    clients = Clients(known=10, known_before=8)
    digest = fold(
        Scaffold(), read_header(tmp_path / "base"), updates, tmp_path, {"round": "1"}, clients
    ).digest
    found = values(read_header(tmp_path / f"{digest}.safetensors"))
    before, mean = floats(2 * size, 0).astype(float), np.mean(np.stack(deltas).astype(float), axis=0)
    assert np.allclose(found[:size], before[:size] + mean[:size], atol=1e-6)
    assert np.allclose(found[size:], 0.8 * before[size:] + 0.3 * mean[size:], atol=1e-6)


@dataclass(frozen=True)
class Remembering(Scaffold):
    """SCAFFOLD that adds up what it was told, for the model alone."""

    @property
    def server_state(self) -> Mapping[str, float]:
        return {"sum": 0.0}

    def step(self, piece: Piece, change: Sums) -> Stepped:
        moved, _ = super().step(piece, change.copy())
        assert set(piece.state) == ({"sum"} if piece.group == MODEL else set())
        return moved, {name: vector + change for name, vector in piece.state.items()}


def test_state_is_the_models_and_not_the_control_variates(tmp_path: Path) -> None:
    size = LEAF + LEAF // 2
    plain = model_file(tmp_path / "plain", {"w": floats(size, 0)}, {"round": "0"})
    tensors, pieces = with_control(plain)
    write(tmp_path / "base", tensors, {"round": "0"}, pieces)
    updates, deltas = spool(tmp_path, 3, 2 * size)
    base = read_header(tmp_path / "base")
    for number in ("1", "2"):
        digest = fold(Remembering(), base, updates, tmp_path, {"round": number}).digest
        base = read_header(tmp_path / f"{digest}.safetensors")
    kept = values(read_header(state_path(tmp_path, digest, 2)))
    assert np.allclose(kept, 2 * np.mean(np.stack(deltas).astype(float), axis=0)[:size], atol=1e-6)


def test_slices_cover_everything_once_and_cross_no_border() -> None:
    groups = whole_groups(
        [TensorSpec("a", (1000,)), TensorSpec("b", (24,)), TensorSpec("control/a", (1000,))]
    )
    assert [(each.group, each.offset, each.length) for each in groups] == [
        (MODEL, 0, 4096), (CONTROL, 4096, 4000)
    ]  # fmt: skip
    parts = list(slices(groups, 1000, 8000, 1500))
    assert [part.offset for part in parts] == [1000, 2500, 4000, 4096, 5596, 7096]
    assert sum(part.length for part in parts) == 7000
    assert [part.group for part in parts] == [MODEL] * 3 + [CONTROL] * 3


def test_pieces_shrink_as_updates_grow_in_number() -> None:
    assert piece_bytes_for(1) == piece_bytes_for(16) == LEAF_BYTES
    assert piece_bytes_for(32) == LEAF_BYTES // 2
    assert piece_bytes_for(100_000) == LEAST_PIECE_BYTES
    assert all(piece_bytes_for(num) % 4 == 0 for num in range(1, 100))


@pytest.mark.parametrize(
    "name", ["median", "trimmed-mean", "krum", "geometric-median", "norm-clipping", "fedadam"]
)
def test_memory_does_not_hold_all_updates(tmp_path: Path, name: str) -> None:
    """32 updates of 8 MB, 256 MB in all. Side by side there are 4 MB a thread, and twice that in float64."""
    size = 2_000_000
    base = model_file(tmp_path / "base", {"w": np.zeros(size, np.float32)}, {"round": "0"})
    update = tmp_path / "u.f32"
    update.write_bytes(floats(size, 1).tobytes())
    updates = [SpooledUpdate(update, Facts(f"c{k:02d}", 1 + k)) for k in range(32)]
    tracemalloc.start()
    try:
        fold(STRATEGIES[name](), base, updates, tmp_path, {"round": "1"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32_000_000
