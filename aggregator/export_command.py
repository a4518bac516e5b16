"""``fl-agg export``: a model in another form, and its model card beside it.

``--json`` prints one object: out, format, has_maps (whether heat maps stand in the graph), difference (from torch, at
most; null for safetensors), card (the two files).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregator.model_card import Card, Subject, card_of
from aggregator.model_card_text import markdown
from aggregator.report.run_data import read_run
from aggregator.rundir import GLOBAL
from fl_protocol.errors import ConfigError
from fl_protocol.modelfile import ModelFile
from fl_protocol.tensors import CONTROL_PREFIX, MAX_CHUNK_BYTES, MODEL

FORMATS = ("onnx", "torchscript", "safetensors")
ROUNDS = "rounds.jsonl"


@dataclass(frozen=True)
class Wanted:
    """What the options of the command say."""

    form: str
    out: Path
    model: Path
    run: Path | None


def wanted_of(form: str, out: str, model: str | None, run: str | None) -> Wanted:
    """Raises ConfigError for what cannot be."""
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r} is unknown: use one of {', '.join(FORMATS)}")
    if model is None and run is None:
        raise ConfigError("what to export? give --run DIR for a run's newest model, or --model FILE")
    folder = Path(run) if run is not None else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--run {folder} is no folder: give the run directory, with rounds.jsonl in it")
    file = Path(model) if model is not None else Path(run or "") / GLOBAL
    if folder is None and (file.parent / ROUNDS).is_file():
        folder = file.parent
    target = Path(out)
    if target.is_dir() or not target.parent.is_dir():
        raise ConfigError(f"--out {target} cannot be written: give a file in a folder that is there")
    return Wanted(form, target, file, folder)


def export(wanted: Wanted) -> dict[str, Any]:
    """Write the model and its card; returns what ``--json`` prints."""
    from fl_tasks.export import export as write_model
    from fl_tasks.predict import checked_file

    file = checked_file(wanted.model)
    card = card_of(subject_of(file), read_run(wanted.run) if wanted.run else None, wanted.form)
    try:
        done = write_model(wanted.model, wanted.out, wanted.form)
        cards = write_card(wanted.out, card)
    except OSError as error:
        raise ConfigError(f"--out {wanted.out} cannot be written: {error.strerror or error}") from None
    difference = None if wanted.form == "safetensors" else done.difference
    return {
        "out": done.out, "format": wanted.form, "has_maps": done.has_maps, "difference": difference,
        "card": [str(path) for path in cards],
    }  # fmt: skip


def subject_of(file: ModelFile) -> Subject:
    """The model in ``file``, hashed."""
    digest = file.manifest(MODEL, MAX_CHUNK_BYTES).digest
    own = [spec for spec in file.tensors if not spec.name.startswith(CONTROL_PREFIX)]
    return Subject(digest, file.metadata, sum(spec.num_values for spec in own))


def write_card(out: Path, card: Card) -> tuple[Path, Path]:
    """``NAME.card.md`` and ``NAME.card.json`` beside ``out``."""
    texts = {".card.md": markdown(card), ".card.json": json.dumps(card, indent=1) + "\n"}
    paths = []
    for ending, text in texts.items():
        path = out.with_name(out.stem + ending)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        draft.write_text(text, "utf-8")
        draft.replace(path)
        paths.append(path)
    return paths[0], paths[1]


def told(done: dict[str, Any]) -> str:
    """For people: what was written, and what came of the check."""
    checked = f", {done['difference']:.1e} from torch at most" if done["difference"] is not None else ""
    maps = (
        ""
        if done["format"] == "safetensors"
        else (", with heat maps" if done["has_maps"] else ", without heat maps")
    )
    return f"{done['out']} ({done['format']}{maps}{checked})\n" + "\n".join(done["card"])
