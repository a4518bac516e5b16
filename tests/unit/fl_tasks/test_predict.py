from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fl_protocol.errors import DataError
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_tasks.base import Place, Watch
from fl_tasks.chest_xray import ChestXray
from fl_tasks.jobs import DataOptions
from fl_tasks.params import file_params, write_params
from fl_tasks.predict import predict

Folder = Callable[..., Path]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model as a run leaves it: with the digest of its tensors."""
    path = tmp_path / "global.safetensors"
    model = ChestXray(Place("cpu", 1)).initialise("hilum-cnn", 32, 1, None)
    write_params(path, model.params, model.metadata)
    digest = read_header(path).manifest("model", MAX_CHUNK_BYTES).digest
    write_params(path, model.params, {**model.metadata, DIGEST_KEY: digest, "round": "3"})
    return path


def altered(path: Path, **metadata: str) -> Path:
    file = read_header(path)
    params = {name: array.copy() for name, array in file_params(file).items()}
    write_params(path, params, {**file.metadata, **metadata})
    return path


def test_rows_for_files_and_folders_in_order(model_file: Path, folder: Folder, tmp_path: Path) -> None:
    data = folder(count=2)
    bad = tmp_path / "notes.jpeg"
    bad.write_text("no image")
    rows = predict(model_file, [bad, data, tmp_path / "absent.png"], "cpu")
    assert [Path(row["file"]).name for row in rows] == [
        "notes.jpeg", "IM-0000-0000.png", "IM-0000-0001.png", "person0_virus_0.png", "person0_virus_1.png", "absent.png",
    ]  # fmt: skip
    assert rows[0] == {"file": str(bad), "error": "is no JPEG, PNG or DICOM image"}
    assert rows[-1]["error"] == "does not exist"
    for row in rows[1:-1]:
        assert set(row) == {"file", "class", "probability", "probabilities"}
        assert sum(row["probabilities"].values()) == pytest.approx(1.0)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["class"]]
    json.dumps(rows)


def test_prediction_agrees_with_evaluation(model_file: Path, folder: Folder, tmp_path: Path) -> None:
    """One preprocessing serves both: the mean loss of single predictions is that of the evaluation."""
    data = folder(count=3)
    task = ChestXray(Place("cpu", 1))
    dataset = task.prepare(
        DataOptions("chest-xray", str(data), 32, str(tmp_path / "c"), role="eval"), Watch()
    )
    file = read_header(model_file)
    from fl_tasks.base import Model

    score = task.evaluate(Model(file_params(file), file.metadata), dataset, Watch(), detail=False)
    rows = predict(model_file, [data], "cpu")
    losses = [-np.log(row["probabilities"][Path(row["file"]).parent.name]) for row in rows]
    assert np.mean(losses) == pytest.approx(score.metrics["loss"], abs=1e-6)


def test_a_file_cut_in_half(model_file: Path, tmp_path: Path) -> None:
    model_file.write_bytes(model_file.read_bytes()[: model_file.stat().st_size // 2])
    with pytest.raises(DataError, match="is not a usable model file"):
        predict(model_file, [tmp_path / "x.png"], "cpu")


def test_a_file_with_one_bit_changed(model_file: Path, tmp_path: Path) -> None:
    data = bytearray(model_file.read_bytes())
    data[-1000] ^= 1
    model_file.write_bytes(bytes(data))
    with pytest.raises(DataError, match="was altered"):
        predict(model_file, [tmp_path / "x.png"], "cpu")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"preprocessing": json.dumps({"version": 2})}, "update Hilum"),
        ({"preprocessing": "{"}, "does not say how to use it"),
        ({"image_size": "big"}, "does not say how to use it"),
        ({"classes": '["CAT", "DOG"]'}, "other classes than chest-xray has"),
        ({"task": "no-such-task"}, "is a model of task 'no-such-task', which cannot predict here"),
        ({"model": "resnet18"}, "tensor .* use a file of the same model"),
    ],
)
def test_a_model_that_cannot_be_used_says_why(
    model_file: Path, folder: Folder, metadata: dict[str, str], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        predict(altered(model_file, **metadata), [folder(count=1)], "cpu")


def test_nothing_to_predict(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for paths in ([], [tmp_path / "empty"]):
        with pytest.raises(DataError, match="no image to predict"):
            predict(model_file, paths, "cpu")


def test_the_temperature_that_travels_with_a_model_is_used(model_file: Path, folder: Folder) -> None:
    data = folder(count=2)
    plain = [row["probabilities"]["PNEUMONIA"] for row in predict(model_file, [data], "cpu")]
    cooled = [
        row["probabilities"]["PNEUMONIA"]
        for row in predict(altered(model_file, temperature="2.5"), [data], "cpu")
    ]
    odds = [np.log(p / (1 - p)) for p in plain]
    assert [np.log(p / (1 - p)) for p in cooled] == pytest.approx([each / 2.5 for each in odds])
    with pytest.raises(DataError, match="says temperature 'nan', which cannot be"):
        predict(altered(model_file, temperature="nan"), [data], "cpu")
