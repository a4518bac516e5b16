"""Models as mappings from tensor name to float32 array, made one tensor at a time: files are never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from fl_protocol.errors import DataError
from fl_protocol.modelfile import ModelFile, write
from fl_protocol.tensors import CONTROL_PREFIX, LEAF_BYTES, TensorSpec, payload_order

Params = Mapping[str, np.ndarray]
"""Tensor name to float32 array."""


class LazyParams(Mapping[str, np.ndarray]):
    """Tensors of known shape, each made anew by ``make`` whenever it is asked for."""

    def __init__(self, specs: tuple[TensorSpec, ...], make: Callable[[TensorSpec], np.ndarray]) -> None:
        self.specs = tuple(sorted(specs, key=lambda spec: payload_order(spec.name)))
        self._by_name = {spec.name: spec for spec in self.specs}
        self._make = make

    def __getitem__(self, name: str) -> np.ndarray:
        return self._make(self._by_name[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def file_params(file: ModelFile, prefix: str = "") -> LazyParams:
    """The tensors of ``file``, read from disk one at a time: those of the model, without control variates.

    With ``prefix`` those whose names begin with it, under their names without it.
    """
    offsets, at = {}, file.offset
    for spec in file.tensors:
        offsets[spec.name] = at
        at += 4 * spec.num_values

    def load(spec: TensorSpec) -> np.ndarray:
        at = offsets[prefix + spec.name]
        values = np.fromfile(file.path, dtype="<f4", count=spec.num_values, offset=at)
        if values.size != spec.num_values:
            raise DataError(f"{file.path} ends early: it was cut while it was read")
        return values.reshape(spec.shape)

    chosen = [
        replace(spec, name=spec.name.removeprefix(prefix))
        for spec in file.tensors
        if (spec.name.startswith(prefix) if prefix else not spec.name.startswith(CONTROL_PREFIX))
    ]
    return LazyParams(tuple(chosen), load)


def specs_of(params: Params) -> tuple[TensorSpec, ...]:
    """The layout of ``params``, in payload order."""
    if isinstance(params, LazyParams):
        return params.specs
    return tuple(TensorSpec(name, tuple(params[name].shape)) for name in sorted(params, key=payload_order))


def joined(**groups: Params) -> LazyParams:
    """Several groups as one: a tensor NAME of the group ``g`` is called ``g/NAME``, of the group ``_`` just NAME."""
    places = {
        (name if group == "_" else f"{group}/{name}"): (params, name)
        for group, params in groups.items()
        for name in params
    }
    shapes = {id(params): {spec.name: spec.shape for spec in specs_of(params)} for params in groups.values()}
    specs = tuple(TensorSpec(called, shapes[id(params)][name]) for called, (params, name) in places.items())

    def load(spec: TensorSpec) -> np.ndarray:
        params, name = places[spec.name]
        return params[name]

    return LazyParams(specs, load)


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
