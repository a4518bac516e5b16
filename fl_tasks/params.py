"""Models as mappings from tensor name to float32 array, made one tensor at a time: files are never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from fl_protocol.errors import DataError
from fl_protocol.modelfile import ModelFile, write
from fl_protocol.tensors import LEAF_BYTES, TensorSpec

Params = Mapping[str, np.ndarray]
"""Tensor name to float32 array."""


class LazyParams(Mapping[str, np.ndarray]):
    """Tensors of known shape, each made anew by ``make`` whenever it is asked for."""

    def __init__(self, specs: tuple[TensorSpec, ...], make: Callable[[TensorSpec], np.ndarray]) -> None:
        self.specs = tuple(sorted(specs, key=lambda spec: spec.name))
        self._by_name = {spec.name: spec for spec in self.specs}
        self._make = make

    def __getitem__(self, name: str) -> np.ndarray:
        return self._make(self._by_name[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def file_params(file: ModelFile) -> LazyParams:
    """The tensors of ``file``, read from disk one at a time."""
    offsets, at = {}, file.offset
    for spec in file.tensors:
        offsets[spec.name] = at
        at += 4 * spec.num_values

    def load(spec: TensorSpec) -> np.ndarray:
        values = np.fromfile(file.path, dtype="<f4", count=spec.num_values, offset=offsets[spec.name])
        if values.size != spec.num_values:
            raise DataError(f"{file.path} ends early: it was cut while it was read")
        return values.reshape(spec.shape)

    return LazyParams(file.tensors, load)


def specs_of(params: Params) -> tuple[TensorSpec, ...]:
    """The layout of ``params``, sorted by name."""
    if isinstance(params, LazyParams):
        return params.specs
    return tuple(TensorSpec(name, tuple(params[name].shape)) for name in sorted(params))


def write_params(path: Path, params: Params, metadata: Mapping[str, str], *, durable: bool = True) -> bool:
    """Write ``params`` to ``path``, one tensor in memory at a time; say whether every value was finite.

    A file with other values is written too: who called decides what becomes of it. ``durable`` as in
    :func:`fl_protocol.modelfile.write`.
    """
    specs = specs_of(params)
    finite = True

    def pieces() -> Iterator[memoryview]:
        nonlocal finite
        for spec in specs:
            values = np.ascontiguousarray(params[spec.name], dtype="<f4").reshape(-1)
            if values.size != spec.num_values:
                raise ValueError(f"{spec.name} has {values.size} values, not {spec.num_values}")
            finite = finite and bool(np.isfinite(values).all())
            raw = memoryview(values).cast("B")  # type: ignore[arg-type]
            for at in range(0, len(raw), LEAF_BYTES):
                yield raw[at : at + LEAF_BYTES]

    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, specs, metadata, pieces(), durable=durable)
    return finite


def first_mismatch(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first tensor, by name, that is missing, extra or of another shape, in words; None if all fit."""
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            return f"tensor {name} is missing"
        if name not in wanted:
            return f"tensor {name} is not one of this model's"
        if tuple(wanted[name]) != tuple(found[name]):
            return f"tensor {name} has shape {list(found[name])}, not {list(wanted[name])}"
    return None
