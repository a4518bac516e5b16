from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aggregator.cli import app
from aggregator.export_command import wanted_of
from fl_protocol.errors import ConfigError, DataError
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_tasks.base import Place
from fl_tasks.params import write_params
from fl_tasks.registry import get_task


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a model of one round."""
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "global.safetensors"
    model = get_task("chest-xray", Place("cpu", 1)).initialise("tiny-cnn", 32, 1, None)
    write_params(path, model.params, model.metadata)
    digest = read_header(path).manifest("model", MAX_CHUNK_BYTES).digest
    write_params(path, model.params, {**model.metadata, DIGEST_KEY: digest, "round": "1"})
    line = {"round": 1, "outcome": "closed", "accepted": ["a"], "num_examples": 9, "model_sha256": digest}
    (folder / "rounds.jsonl").write_text(json.dumps(line) + "\n")
    return folder


@pytest.mark.parametrize("form", ["onnx", "torchscript", "safetensors"])
def test_a_model_and_its_card(run: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "model.bin"
    said = CliRunner().invoke(
        app, ["export", "--run", str(run), "--format", form, "--out", str(out), "--json"]
    )
    assert said.exit_code == 0, said.output
    told = json.loads(said.output)
    assert told["out"] == str(out) and out.stat().st_size > 10_000
    assert told["difference"] is None if form == "safetensors" else told["difference"] < 1e-4
    card = json.loads((tmp_path / "model.card.json").read_text())
    assert card["digest"] == read_header(run / "global.safetensors").metadata[DIGEST_KEY]
    assert card["format"] == form and card["training"]["sites"] == 1
    assert "research" in (tmp_path / "model.card.md").read_text()
    assert not list(tmp_path.glob(".*"))


def test_the_run_of_a_model_file_is_found_beside_it(run: Path, tmp_path: Path) -> None:
    model = run / "global.safetensors"
    wanted = wanted_of("onnx", str(tmp_path / "m.onnx"), str(model), None)
    assert wanted.run == run and wanted.model == model
    lone = tmp_path / "lone.safetensors"
    assert wanted_of("onnx", str(tmp_path / "m.onnx"), str(lone), None).run is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--out", "m.onnx"], "give --run DIR"),
        (["--out", "m.onnx", "--run", "nowhere"], "is no folder"),
        (
            ["--out", "m.onnx", "--run", ".", "--format", "pickle"],
            "use one of onnx, torchscript, safetensors",
        ),
        (["--out", "nowhere/m.onnx", "--model", "m"], "give a file in a folder that is there"),
        (["--out", ".", "--model", "m"], "give a file in a folder that is there"),
        (["--out", "m.onnx", "--model", "absent.safetensors"], "does not exist"),
        (["--out", "m.onnx", "--model", "text.safetensors"], "not a usable model file"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.safetensors").write_text("nothing of the kind, though it has a few letters")
    said = CliRunner().invoke(app, ["export", *words])
    assert isinstance(said.exception, ConfigError) and reason in str(said.exception)
    assert "\n" not in str(said.exception)
    assert [file.name for file in tmp_path.iterdir()] == ["text.safetensors"]


def test_a_model_that_was_altered_is_not_exported(run: Path, tmp_path: Path) -> None:
    path = run / "global.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    said = CliRunner().invoke(app, ["export", "--run", str(run), "--out", str(tmp_path / "m.onnx")])
    assert isinstance(said.exception, DataError) and "was altered" in str(said.exception)
    assert not (tmp_path / "m.onnx").exists()
