from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_protocol.errors import DataError
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import TensorSpec
from fl_tasks.params import LazyParams, file_params, first_mismatch, joined, specs_of, write_params

BIG = {"b": np.arange(100_000, dtype=np.float32).reshape(100, 1000), "a": np.array(2.5, np.float32)}


def test_a_written_file_reads_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "m.safetensors"
    assert write_params(path, BIG, {"task": "t"})
    file = read_header(path)
    assert file.metadata == {"task": "t"}
    read = file_params(file)
    assert list(read) == ["a", "b"]
    assert all(np.array_equal(read[name], BIG[name]) for name in BIG)
    assert specs_of(read) == specs_of(BIG)


def test_lazy_params_are_made_one_at_a_time(tmp_path: Path) -> None:
    made: list[str] = []

    def make(spec: TensorSpec) -> np.ndarray:
        made.append(spec.name)
        return np.ones(spec.shape, np.float32)

    lazy = LazyParams((TensorSpec("b", (2,)), TensorSpec("a", (3,))), make)
    assert len(lazy) == 2
    assert made == []
    write_params(tmp_path / "m.safetensors", lazy, {})
    assert made == ["a", "b"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_told(tmp_path: Path, value: float) -> None:
    params = {"a": np.array([1.0, value], np.float32), "b": np.ones(2, np.float32)}
    assert not write_params(tmp_path / "m.safetensors", params, {})


def test_groups_joined_in_a_file_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    control = {"b": BIG["b"] + 1, "a": np.array(7, np.float32)}
    write_params(path, joined(control=control, _=BIG, norms={"n": np.ones(2, np.float32)}), {})
    file = read_header(path)
    assert [spec.name for spec in file.tensors] == ["a", "b", "norms/n", "control/a", "control/b"]
    found = file_params(file, "control/")
    assert set(found) == {"a", "b"}
    assert all(np.array_equal(found[name], control[name]) for name in control)
    assert set(file_params(file)) == {"a", "b", "norms/n"}, "a model without its control variates"
    assert np.array_equal(file_params(file)["b"], BIG["b"])


def test_a_tensor_of_another_size_than_said_is_a_bug(tmp_path: Path) -> None:
    lazy = LazyParams((TensorSpec("a", (3,)),), lambda _: np.ones(2, np.float32))
    with pytest.raises(ValueError, match="a has 2 values, not 3"):
        write_params(tmp_path / "m.safetensors", lazy, {})
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_while_open_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_params(path, BIG, {})
    params = file_params(read_header(path))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises(DataError, match="ends early"):
        params["b"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"a": (2,), "b": (3, 4)}, None),
        ({"b": (3, 4)}, "tensor a is missing"),
        ({"a": (2,), "b": (4, 3)}, r"tensor b has shape \[4, 3\], not \[3, 4\]"),
        ({"a": (2,), "b": (3, 4), "aa": ()}, "tensor aa is not one of this model's"),
    ],
)
def test_the_first_mismatch_is_named(found: dict[str, tuple[int, ...]], says: str | None) -> None:
    wrong = first_mismatch({"b": (3, 4), "a": (2,)}, found)
    assert (wrong is None) if says is None else wrong == says.replace("\\", "")
