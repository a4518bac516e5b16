"""What a site keeps of its accepted rounds: its control variate (SCAFFOLD), its own normalisation layers (FedBN).

    kept/<job>/<round>.safetensors     control/NAME and norms/NAME, as the accepted update of that round left them
    outbox/<update>.kept               the same of an update that is not accepted yet

Training writes the second; only the verdict makes it the first. So a round that is tried again, or repeated by an
aggregator that lost its memory, begins with what was kept of a round *before* it and trains the same; for that the
last but one is kept too. A run begun afresh finds nothing before its first round: control variates begin with zero,
and what an earlier run left is deleted.

Unlike everything else that an edge keeps, this cannot be fetched or trained again, so it is forced to disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from fl_protocol.modelfile import (
    DIGEST_KEY,
    ModelFile,
    force_folder_to_disk,
    force_to_disk,
    read_header,
    write,
)
from fl_protocol.tensors import CONTROL_PREFIX, LEAF_BYTES, TensorSpec

NORMS_PREFIX = "norms/"
SUFFIX = ".safetensors"


def pending_of(update_file: str | Path) -> Path:
    """Where training puts what is kept if the update in ``update_file`` is accepted."""
    return Path(update_file).with_suffix(".kept")


class Kept:
    """The folder of one job. It is made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, round_number: int) -> Path | None:
        """Training for that round begins: what was kept of the last accepted round before it.

        What was kept of that round or of later ones goes: the aggregator that asks knows nothing of it.
        """
        for file in self._files():
            if _round(file) >= round_number:
                file.unlink()
        return self.before(round_number)

    def before(self, round_number: int) -> Path | None:
        """What was kept of the last accepted round before this one."""
        return max((file for file in self._files() if _round(file) < round_number), key=_round, default=None)

    def accept(self, round_number: int, update_file: str | Path) -> None:
        """The update of that round was accepted: what waits beside it counts from now on. Saying so twice is safe."""
        pending = pending_of(update_file)
        if not pending.exists():
            return
        before = self.before(round_number)
        self.folder.mkdir(parents=True, exist_ok=True)
        with pending.open("r+b") as file:
            force_to_disk(file)
        target = self.folder / f"{round_number:09d}{SUFFIX}"
        pending.replace(target)
        force_folder_to_disk(self.folder)
        for other in self._files():
            if _round(other) < round_number and other != before:
                other.unlink()

    def site_model(self, model_file: Path, out: Path) -> Path | None:
        """Write ``out``: the model with this site's newest norms in place of its own, for predictions here.

        None if no norms were kept, or of another model only.
        """
        newest = max(self._files(), key=_round, default=None)
        if newest is None:
            return None
        model, own = read_header(model_file), read_header(newest)
        mine = {spec.name: spec.shape for spec in own.tensors if spec.name.startswith(NORMS_PREFIX)}
        tensors = tuple(spec for spec in model.tensors if not spec.name.startswith(CONTROL_PREFIX))
        shapes = {NORMS_PREFIX + spec.name: spec.shape for spec in tensors}
        if not mine or any(shapes.get(name) != shape for name, shape in mine.items()):
            return None
        metadata = {key: value for key, value in model.metadata.items() if key != DIGEST_KEY}
        write(out, tensors, metadata | {"norms": "site"}, _mixed(tensors, model, own), durable=False)
        return out

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f"[0-9]*{SUFFIX}"))


def _round(file: Path) -> int:
    return int(file.stem)


def _mixed(tensors: tuple[TensorSpec, ...], model: ModelFile, own: ModelFile) -> Iterator[bytes]:
    """``tensors`` end to end, each from ``own`` if it is there."""
    offsets = {file.path: _offsets(file) for file in (model, own)}
    with model.path.open("rb") as theirs, own.path.open("rb") as ours:
        for spec in tensors:
            name = NORMS_PREFIX + spec.name
            is_own = name in offsets[own.path]
            file, at = (ours, offsets[own.path][name]) if is_own else (theirs, offsets[model.path][spec.name])
            file.seek(at)
            for start in range(0, 4 * spec.num_values, LEAF_BYTES):
                yield file.read(min(LEAF_BYTES, 4 * spec.num_values - start))


def _offsets(file: ModelFile) -> dict[str, int]:
    sizes = [4 * spec.num_values for spec in file.tensors]
    starts = accumulate(sizes, initial=file.offset)
    return dict(zip((spec.name for spec in file.tensors), starts, strict=False))
