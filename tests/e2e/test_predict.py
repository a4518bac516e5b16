"""``fl-edge predict``: class and probability by a model that a run has just made, and what it says of what it cannot use."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from fl_protocol.modelfile import read_header
from tests.e2e.conftest import XrayRun
from tests.e2e.processes import Programs


def test_a_folder_an_image_and_a_file_that_is_none(xray_run: XrayRun, programs: Programs) -> None:
    """Sorted as given; the same figures for people; whole folders; a bad file is a row, not the end."""
    shutil.copytree(xray_run.folder / "odd" / "PNEUMONIA", programs.folder / "images")
    (programs.folder / "text.jpeg").write_text("no image\n")
    words = (
        "fl-edge",
        "predict",
        "--device",
        "cpu",
        "--model",
        xray_run.model,
        "images",
        "text.jpeg",
        "nowhere.png",
    )
    as_json = programs.start(*words, "--json")
    assert as_json.wait() == 0 and as_json.err == "", as_json.told()
    rows = json.loads(as_json.out)
    assert [row["file"] for row in rows] == [
        *(f"images/person{k}_virus_{k}.jpeg" for k in range(5)),
        "text.jpeg",
        "nowhere.png",
    ]
    for row in rows[:5]:
        assert set(row) == {"file", "class", "probability", "probabilities"}
        assert set(row["probabilities"]) == {"NORMAL", "PNEUMONIA"}
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["class"]]
        assert sum(row["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert [set(row) for row in rows[5:]] == [{"file", "error"}] * 2
    table = programs.start(*words)
    assert table.wait() == 0, table.told()
    lines = table.out.splitlines()
    assert re.fullmatch(
        rf"images/person0_virus_0.jpeg +{rows[0]['class']} +{rows[0]['probability']:.1%}", lines[0]
    ), table.told()
    assert re.match(r"text.jpeg +is no JPEG", lines[5]) and re.match(r"nowhere.png +does not exist", lines[6])


def altered(model: Path, target: Path) -> None:
    """The model with one byte of its tensors changed."""
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)


def test_models_that_cannot_be_used(xray_run: XrayRun, finished_run: Path, programs: Programs) -> None:
    folder = programs.folder
    shutil.copy(xray_run.model, folder / "cut.safetensors")
    os.truncate(folder / "cut.safetensors", xray_run.model.stat().st_size // 2)
    altered(xray_run.model, folder / "altered.safetensors")
    shutil.copy(finished_run / "global.safetensors", folder / "echo.safetensors")
    (folder / "image.jpeg").write_bytes(next(xray_run.folder.glob("odd/PNEUMONIA/*.jpeg")).read_bytes())
    (folder / "empty").mkdir()
    cases = (
        ("cut.safetensors", "image.jpeg", "cut.safetensors is not a usable model file .*give a whole"),
        ("altered.safetensors", "image.jpeg", "altered.safetensors was altered: .*digest.*fetch it again"),
        (
            "echo.safetensors",
            "image.jpeg",
            "echo.safetensors does not say how to use it: give a global.safetensors",
        ),
        (
            "missing.safetensors",
            "image.jpeg",
            "missing.safetensors is not a usable model file .*does not exist",
        ),
        (str(xray_run.model), "empty", "no image to predict: name JPEG, PNG or DICOM"),
    )
    started = [
        programs.start("fl-edge", "predict", "--model", model, image, "--json") for model, image, _ in cases
    ]
    for program, (_, _, pattern) in zip(started, cases, strict=True):
        assert program.wait() == 2, program.told()
        assert re.fullmatch(rf"fl-edge: .*{pattern}.*\n", program.err) and program.out == "", program.told()


def test_the_model_says_what_it_is(xray_run: XrayRun) -> None:
    metadata = read_header(xray_run.model).metadata
    assert (metadata["round"], metadata["task"], metadata["model"], metadata["image_size"]) == (
        "1",
        "chest-xray",
        "hilum-cnn",
        "32",
    )
    assert json.loads(metadata["classes"]) == ["NORMAL", "PNEUMONIA"]
