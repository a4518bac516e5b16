"""What a site keeps: it counts once the update was accepted, and a repeated round begins where it began before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_client.kept import Kept, pending_of
from fl_protocol.modelfile import DIGEST_KEY, read_header, with_control, write
from fl_tasks.params import file_params
from tests.payloads import floats, model_file


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept" / "job")


def trained(folder: Path, round_number: int) -> Path:
    """An update with what is kept of it, if it is accepted, beside it."""
    update = folder / f"{round_number}-abc-1.safetensors"
    model_file(pending_of(update), {"control/w": np.full(2, round_number, np.float32)})
    return update


def value(path: Path | None) -> float | None:
    return float(file_params(read_header(path), "control/")["w"][0]) if path else None


def test_only_the_verdict_makes_it_count(kept: Kept, tmp_path: Path) -> None:
    update = trained(tmp_path, 1)
    assert kept.before(2) is None
    assert not kept.folder.exists(), "nothing is left where nothing is kept"
    kept.accept(1, update)
    assert value(kept.before(2)) == 1
    assert not pending_of(update).exists()
    kept.accept(1, update)
    assert value(kept.before(2)) == 1, "told twice"


def test_a_repeated_round_begins_with_what_came_before_it(kept: Kept, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        kept.accept(number, trained(tmp_path, number))
    assert value(kept.before(9)) == 4
    assert len(list(kept.folder.iterdir())) == 2
    assert value(kept.begin(4)) == 2, "trained again, it trains the same"
    assert value(kept.begin(9)) == 2, "by an aggregator that knows nothing of the first time"


def test_a_run_begun_afresh_begins_with_nothing(kept: Kept, tmp_path: Path) -> None:
    for number in (7, 8):
        kept.accept(number, trained(tmp_path, number))
    assert kept.begin(1) is None
    kept.accept(1, trained(tmp_path, 1))
    assert value(kept.begin(9)) == 1, "what the earlier run left is gone"
    assert len(list(kept.folder.iterdir())) == 1


def test_an_update_accepted_late_does_not_take_the_place_of_a_newer_one(kept: Kept, tmp_path: Path) -> None:
    kept.accept(1, trained(tmp_path, 1))
    late, newer = trained(tmp_path, 2), trained(tmp_path, 3)
    kept.accept(3, newer)
    kept.accept(2, late)
    assert value(kept.begin(4)) == 3


NORMED = {"head": floats(300_000, 1), "norm.w": floats(3, 2)}


def test_a_site_predicts_with_its_own_norms(kept: Kept, tmp_path: Path) -> None:
    plain = model_file(tmp_path / "plain", NORMED)
    tensors, pieces = with_control(plain)
    metadata = {"model": "m", DIGEST_KEY: "0" * 64}
    write(tmp_path / "m.safetensors", tensors, metadata, pieces)
    assert kept.site_model(tmp_path / "m.safetensors", tmp_path / "site") is None
    own = floats(3, 9)
    model_file(tmp_path / "1-abc-1.kept", {"norms/norm.w": own, "control/head": floats(2, 3)})
    kept.accept(1, tmp_path / "1-abc-1.safetensors")
    assert kept.site_model(tmp_path / "m.safetensors", tmp_path / "site") == tmp_path / "site"
    file = read_header(tmp_path / "site")
    found = file_params(file)
    assert set(found) == set(NORMED)
    assert np.array_equal(found["head"], NORMED["head"])
    assert np.array_equal(found["norm.w"], own)
    assert file.metadata == {"model": "m", "norms": "site"}, "it is not the model of that digest"


@pytest.mark.parametrize("kept_of", [{"control/head": floats(2, 3)}, {"norms/norm.w": floats(4, 3)}])
def test_without_norms_of_this_model_the_global_one_serves(
    kept: Kept, tmp_path: Path, kept_of: dict[str, np.ndarray]
) -> None:
    model_file(tmp_path / "m.safetensors", NORMED)
    model_file(tmp_path / "1-abc-1.kept", kept_of)
    kept.accept(1, tmp_path / "1-abc-1.safetensors")
    assert kept.site_model(tmp_path / "m.safetensors", tmp_path / "site") is None
    assert not (tmp_path / "site").exists()
