"""What a strategy keeps on the server between rounds (momentum, say): a file beside the model it belongs to.

    <models>/<digest of the model>.<round>.state.safetensors

Vectors of the model's shape (the group ``model``), float32, end to end in the order of their names. The round is in the name because a
round may leave the model as it was and yet change the state: a fold that is done again after a crash must find the
state it began with, not the one it had just written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fl_protocol.errors import DataError
from fl_protocol.modelfile import ModelFile, read_header
from fl_protocol.tensors import MODEL, TensorSpec, groups_of

SUFFIX = ".state.safetensors"


def state_path(folder: Path, digest: str, round_number: int) -> Path:
    """Where the state of the model ``digest``, made in that round, lies."""
    return folder / f"{digest}.{round_number}{SUFFIX}"


def is_state(path: Path) -> bool:
    return path.name.endswith(SUFFIX)


def layout(names: Iterable[str], tensors: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The tensors of a state file: each of the model's, once for every vector."""
    model = groups_of(tensors, MODEL)[0].tensors
    return tuple(TensorSpec(f"{name}/{spec.name}", spec.shape) for name in sorted(names) for spec in model)


def starts_of(names: Iterable[str], tensors: Sequence[TensorSpec]) -> dict[str, int]:
    """Where each vector begins in a state's payload, in bytes."""
    size = groups_of(tensors, MODEL)[0].num_bytes
    return {name: at * size for at, name in enumerate(sorted(names))}


def find_state(base: ModelFile, names: Mapping[str, float], round_number: int) -> ModelFile | None:
    """The state that the fold of ``round_number`` into ``base`` begins with; None if it begins with nothing.

    Raises DataError if there should be one and it is gone, cut, or of other tensors.
    """
    if not names:
        return None
    digest = base.path.name.split(".")[0]
    earlier = [number for number in _rounds(base.path.parent, digest) if number < round_number]
    if not earlier:
        if 0 < int(base.metadata.get("round", "0")) < round_number:
            raise DataError(
                f"the strategy's state beside {base.path} is gone: restore it, or start over with --fresh"
            )
        return None
    found = read_header(state_path(base.path.parent, digest, max(earlier)))
    if found.tensors != layout(names, base.tensors):
        raise DataError(
            f"{found.path} is not this strategy's state of that model: restore it, or use --fresh"
        )
    return found


def outdated(folder: Path, digests: Sequence[str]) -> list[Path]:
    """The state files that no fold can need any more: of other models, or older than the last two of a model."""
    by_model: dict[str, list[int]] = defaultdict(list)
    for file in folder.glob(f"*{SUFFIX}"):
        digest, number = file.name.removesuffix(SUFFIX).split(".")
        by_model[digest].append(int(number))
    return [
        state_path(folder, digest, number)
        for digest, numbers in by_model.items()
        for number in (sorted(numbers)[:-2] if digest in digests else numbers)
    ]


def _rounds(folder: Path, digest: str) -> list[int]:
    return [int(file.name.removesuffix(SUFFIX).split(".")[1]) for file in folder.glob(f"{digest}.*{SUFFIX}")]
