from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_tasks import export as ex
from fl_tasks import jobs
from fl_tasks.base import Place, Watch
from fl_tasks.images import read_image
from fl_tasks.looker import Looker
from fl_tasks.onnx_model import OnnxModel
from fl_tasks.params import file_params, joined, write_params
from fl_tasks.predict import predict
from fl_tasks.registry import get_task
from fl_tasks.worker import Worker

Make = Callable[..., Path]


@pytest.fixture
def model_file(tmp_path: Path) -> Make:
    """Makes a model as a run leaves it."""

    def make(name: str = "hilum-cnn", task: str = "chest-xray", size: int = 48) -> Path:
        path = tmp_path / "global.safetensors"
        model = get_task(task, Place("cpu", 1)).initialise(name, size, 1, None)
        write_params(path, model.params, model.metadata)
        digest = read_header(path).manifest("model", MAX_CHUNK_BYTES).digest
        write_params(
            path, model.params, {**model.metadata, DIGEST_KEY: digest, "round": "3", "temperature": "1.5"}
        )
        return path

    return make


@pytest.mark.parametrize(
    ("name", "task", "size"),
    [
        ("hilum-cnn", "chest-xray", 48),
        ("hilum-cnn", "chest-xray", 90),
        ("tiny-cnn", "cifar10", 32),
        ("resnet18", "chest-xray", 64),
    ],
)
def test_onnx_sees_what_torch_sees(model_file: Make, tmp_path: Path, name: str, task: str, size: int) -> None:
    path, out = model_file(name, task, size), tmp_path / "model.onnx"
    done = ex.export(path, out, ex.ONNX)
    assert done.has_maps and done.difference <= ex.TOLERANCE
    model, looker = OnnxModel(out), Looker(str(path), "cpu")
    assert model.metadata == read_header(path).metadata
    shape = (size, size, 3) if task == "cifar10" else (size, size)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    mine, theirs = looker.look(pixels), model.look(pixels)
    assert np.abs(mine.logits - theirs.logits).max() < 1e-4
    assert mine.maps is not None and theirs.maps is not None and mine.maps.shape == theirs.maps.shape
    assert np.abs(mine.maps - theirs.maps).max() < 1e-4 * mine.maps.max()


def test_real_xrays_look_the_same_through_both(model_file: Make, tmp_path: Path, real_data: Path) -> None:
    path, out = model_file(size=64), tmp_path / "model.onnx"
    ex.export(path, out, ex.ONNX)
    model, looker = OnnxModel(out), Looker(str(path), "cpu")
    files = sorted((real_data / "chest_xray" / "test").glob("*/*.jpeg"))[::40]
    for file, row in zip(files, predict(path, files, "cpu"), strict=True):
        mine, theirs = (each.look(read_image(file, 64)) for each in (looker, model))
        assert np.abs(mine.logits - theirs.logits).max() < 1e-4
        assert mine.maps is not None and theirs.maps is not None
        assert np.abs(mine.maps - theirs.maps).max() < 1e-4 * mine.maps.max()
        said = list(row["probabilities"].values())
        assert np.abs(theirs.probabilities(model.metadata) - said).max() < 1e-5


def test_a_model_without_a_closed_form_goes_without_maps(model_file: Make, tmp_path: Path) -> None:
    path = model_file("mobilenet_v3_small", size=64)
    done = ex.export(path, tmp_path / "m.onnx", ex.ONNX)
    assert not done.has_maps
    assert OnnxModel(tmp_path / "m.onnx").look(np.zeros((64, 64), np.uint8)).maps is None
    assert Looker(str(path), "cpu").look(np.eye(64, dtype=np.uint8)).maps is not None


def test_the_preprocessing_is_in_the_graph(model_file: Make, tmp_path: Path) -> None:
    """Brightness says nothing, as in training: every image is standardised by itself."""
    ex.export(model_file(), tmp_path / "m.onnx", ex.ONNX)
    model = OnnxModel(tmp_path / "m.onnx")
    dark = np.random.default_rng(0).integers(0, 100, (48, 48), dtype=np.uint8)
    assert np.allclose(model.look(dark).logits, model.look(dark + 100).logits, atol=1e-3)


def test_torchscript_carries_its_metadata(model_file: Make, tmp_path: Path) -> None:
    path, out = model_file(), tmp_path / "model.pt"
    ex.export(path, out, ex.TORCHSCRIPT)
    extra = {ex.METADATA_FILE: ""}
    with ex._without_known_warnings():
        module = torch.jit.load(io.BytesIO(out.read_bytes()), _extra_files=extra)  # type: ignore[no-untyped-call]
    assert json.loads(extra[ex.METADATA_FILE]) == read_header(path).metadata
    logits, maps = module(torch.zeros(5, 48, 48, dtype=torch.uint8))
    assert logits.shape == (5, 2) and maps.shape == (5, 2, 3, 3)


def test_safetensors_leave_out_what_only_training_needs(model_file: Make, tmp_path: Path) -> None:
    path, out = model_file(), tmp_path / "plain.safetensors"
    file = read_header(path)
    params = {name: values.copy() for name, values in file_params(file).items()}
    write_params(
        path, joined(_=params, control=params), {k: v for k, v in file.metadata.items() if k != DIGEST_KEY}
    )
    ex.export(path, out, ex.SAFETENSORS)
    written = read_header(out)
    assert [spec.name for spec in written.tensors] == sorted(params)
    assert written.metadata[DIGEST_KEY] == written.manifest("model", MAX_CHUNK_BYTES).digest
    assert written.metadata["temperature"] == "1.5"


def test_what_differs_from_torch_is_not_written(
    model_file: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = ex._from_onnx
    monkeypatch.setattr(ex, "_from_onnx", lambda *given: tuple(each + 1e-3 for each in true(*given)))
    with pytest.raises(DataError, match="differs from torch"):
        ex.export(model_file(), tmp_path / "m.onnx", ex.ONNX)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["global.safetensors"]


def test_without_onnx_one_line_says_how(
    model_file: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ex, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'hilum\[onnx\]'"):
        ex.export(model_file(), tmp_path / "m.onnx", ex.ONNX)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match="no ONNX model"):
        OnnxModel(tmp_path / "m.onnx")


def test_the_task_process_exports_and_explains(model_file: Make, tmp_path: Path) -> None:
    path = str(model_file())
    worker = Worker(Place("cpu", 1), io.BytesIO())
    done = worker.answer(jobs.Export(path, str(tmp_path / "m.onnx"), ex.ONNX), Watch())
    assert isinstance(done, jobs.Exported) and done.has_maps
    pixels = np.eye(48, dtype=np.uint8)
    seen = worker.answer(jobs.Explain(path, pixels.tobytes(), pixels.shape), Watch())
    assert isinstance(seen, jobs.Explained) and seen.shape == (2, 3, 3)
    wanted = OnnxModel(tmp_path / "m.onnx").look(pixels)
    assert np.allclose(np.frombuffer(seen.logits, "<f4"), wanted.logits, atol=1e-4)


def test_reading_an_exported_model_needs_no_torch(model_file: Make, tmp_path: Path) -> None:
    ex.export(model_file(), tmp_path / "m.onnx", ex.ONNX)
    code = (
        "import sys, numpy as np; from pathlib import Path; from fl_tasks.onnx_model import OnnxModel\n"
        "from fl_tasks import cautions, meaning, pictures\n"
        f"OnnxModel(Path({str(tmp_path / 'm.onnx')!r})).look(np.eye(48, dtype=np.uint8))\n"
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
