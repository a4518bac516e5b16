"""What a strategy keeps beside a model: found again by the fold it belongs to, and by no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from aggregator.folding import fold
from aggregator.pieces import SpooledUpdate
from aggregator.rundir import RunDirectory
from aggregator.server_state import outdated, state_path
from aggregator.strategies.fedopt import FedAdam, FedAvgM
from aggregator.strategy import Facts
from fl_protocol.errors import DataError
from fl_protocol.modelfile import ModelFile, read_header
from fl_protocol.tensors import LEAF_BYTES
from tests.payloads import Floats, floats, model_file
from tests.pieces import folded

SHAPES = {"a": (LEAF_BYTES // 4 + 3,), "b": (2, 5)}
SIZE = LEAF_BYTES // 4 + 13


def first(folder: Path) -> ModelFile:
    tensors = {name: floats(int(np.prod(shape)), 1).reshape(shape) for name, shape in SHAPES.items()}
    draft = model_file(folder / "draft", tensors, {"round": "0"})
    path = folder / f"{draft.manifest('model', LEAF_BYTES).digest}.safetensors"
    draft.path.replace(path)
    return read_header(path)


def updates(folder: Path, number: int, scale: float = 0.1) -> tuple[list[SpooledUpdate], list[Floats]]:
    deltas = [floats(SIZE, 10 * number + k, scale=scale) for k in range(3)]
    found = []
    for k, delta in enumerate(deltas):
        path = folder / f"{number}-{k}.f32"
        path.write_bytes(delta.tobytes())
        found.append(SpooledUpdate(path, Facts(f"c{k}", 1)))
    return found, deltas


def values(model: ModelFile) -> Floats:
    return np.frombuffer(b"".join(model.pieces()), "<f4")


def test_rounds_on_disk_are_rounds_in_memory(tmp_path: Path) -> None:
    """Three rounds of FedAdam, state and all, to the bit; and the library reads the state's file."""
    strategy, base = FedAdam(), first(tmp_path)
    model, state = values(base), None
    for number in (1, 2, 3):
        spooled, deltas = updates(tmp_path, number)
        digest = fold(strategy, base, spooled, tmp_path, {"round": str(number)}).digest
        base = read_header(tmp_path / f"{digest}.safetensors")
        wanted = folded(strategy, model, deltas, state=state)
        model, state = wanted.model, wanted.state
        assert values(base).tobytes() == model.tobytes()
        kept = load_file(state_path(tmp_path, digest, number))
        assert list(kept) == ["momentum/a", "momentum/b", "second_moment/a", "second_moment/b"]
        for name, vector in state.items():
            assert (
                np.concatenate([kept[f"{name}/a"], kept[f"{name}/b"].ravel()]).tobytes() == vector.tobytes()
            )


def test_a_fold_done_again_begins_with_the_state_it_began_with(tmp_path: Path) -> None:
    """Even where the model stays as it was, and the state's new file has its digest too."""
    strategy, base = FedAdam(), first(tmp_path)
    still, _ = updates(tmp_path, 1, scale=0.0)
    spooled, _ = updates(tmp_path, 2)
    digests = set()
    for number in (1, 2, 2, 2):
        digest = fold(strategy, base, still, tmp_path, {"round": str(number)}).digest
        assert f"{digest}.safetensors" == base.path.name, "no change, no momentum: the model stays"
        base = read_header(base.path)
    for _ in range(2):
        digests.add(fold(strategy, base, spooled, tmp_path, {"round": "3"}).digest)
    second = {n: load_file(state_path(tmp_path, base.path.stem, n))["second_moment/b"][0, 0] for n in (1, 2)}
    assert np.allclose([second[1], second[2]], [1e-6 * 0.99, 1e-6 * 0.99**2])
    assert len(digests) == 1


def test_a_state_that_is_gone_or_of_another_strategy_is_an_error(tmp_path: Path) -> None:
    base = first(tmp_path)
    spooled, _ = updates(tmp_path, 1)
    digest = fold(FedAvgM(), base, spooled, tmp_path, {"round": "1"}).digest
    base = read_header(tmp_path / f"{digest}.safetensors")
    with pytest.raises(DataError, match="is not this strategy's state of that model"):
        fold(FedAdam(), base, spooled, tmp_path, {"round": "2"})
    state_path(tmp_path, digest, 1).unlink()
    with pytest.raises(DataError, match=r"the strategy's state beside .* is gone: restore it"):
        fold(FedAvgM(), base, spooled, tmp_path, {"round": "2"})
    assert not list(tmp_path.glob(".*"))


def test_states_are_kept_as_long_as_their_models(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for digest, number in (("aa", 1), ("bb", 2), ("cc", 3), ("cc", 4), ("cc", 5)):
        (run.models / f"{digest}.safetensors").touch()
        state_path(run.models, digest, number).touch()
    run.keep_models(["bb", "cc"])
    kept = {path.name for path in run.models.iterdir()}
    models = {"bb.safetensors", "cc.safetensors"}
    assert kept == models | {f"{name}.state.safetensors" for name in ("bb.2", "cc.4", "cc.5")}
    assert outdated(run.models, ["bb", "cc"]) == []
    run.close()
