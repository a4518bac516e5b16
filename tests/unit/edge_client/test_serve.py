"""What reads for the pages: models made ready, images read, by ONNX Runtime or by torch."""

from __future__ import annotations

import base64
import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_client import eyes
from edge_client.serve import ClinicRoom, Settings, settings_of, wait
from fl_protocol.broker import BrokerOptions
from fl_protocol.errors import ConfigError
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_tasks.base import Place
from fl_tasks.params import write_params
from fl_tasks.predict import predict
from fl_tasks.registry import get_task
from fl_web.room.protocol import Upload
from tests.radiographs import chest

GIVEN: dict[str, Any] = {
    "model": None, "listen": ":0", "workdir": None, "job": "default", "refer_below": 0.8, "device": "cpu", "plugin": None,
    "web_cert": None, "web_key": None,
}  # fmt: skip


def model_file(path: Path, name: str = "tiny-cnn", number: int = 1) -> str:
    """Write a model; returns its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = get_task("chest-xray", Place("cpu", 1)).initialise(name, 48, number, None)
    write_params(path, model.params, model.metadata)
    digest = read_header(path).manifest("model", MAX_CHUNK_BYTES).digest
    write_params(
        path, model.params, {**model.metadata, DIGEST_KEY: digest, "round": str(number), "temperature": "1.5"}
    )
    return digest


@pytest.fixture
def room(tmp_path: Path) -> Iterator[ClinicRoom]:
    said: list[str] = []
    found = ClinicRoom(Settings(":0", tmp_path / "room"), said.append)
    yield found
    found.close()


def ready(room: ClinicRoom, models: int = 1) -> dict[str, Any]:
    until = time.monotonic() + 120
    while len((state := room.state())["models"]) + len(state["refused"]) < models:
        assert time.monotonic() < until, state
        time.sleep(0.02)
    return state


def upload(pixels: np.ndarray, name: str = "x.png") -> Upload:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return Upload(name, written.getvalue())


@pytest.mark.parametrize(
    ("name", "runs_on"), [("tiny-cnn", "ONNX Runtime"), ("mobilenet_v3_small", "PyTorch")]
)
def test_an_image_is_read_as_predict_reads_it(
    room: ClinicRoom, tmp_path: Path, name: str, runs_on: str
) -> None:
    path = tmp_path / "m.safetensors"
    digest = model_file(path, name)
    room.take(digest, path)
    assert ready(room)["models"][0]["runs_on"] == runs_on
    row = room.read(upload(chest(0)), shown=True)
    Image.fromarray(chest(0)).save(tmp_path / "x.png")
    wanted = predict(path, [tmp_path / "x.png"], "cpu")[0]
    assert row["class"] == wanted["class"] and row["model"] == digest and row["round"] == 1
    assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-4)
    heats = {name: np.frombuffer(base64.b64decode(text), np.uint8) for name, text in row["heats"].items()}
    assert {len(heat) for heat in heats.values()} == {row["heat_side"] ** 2}
    assert max(int(heat.max()) for heat in heats.values()) > 200
    assert (
        Image.open(io.BytesIO(base64.b64decode(row["shown"]))).size
        == (row["width"], row["height"])
        == (128, 128)
    )
    json.dumps(row)
    assert "shown" not in room.read(upload(chest(0)), shown=False)


def test_without_onnxruntime_torch_reads(
    room: ClinicRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eyes, "installed", lambda: False)
    path = tmp_path / "m.safetensors"
    room.take(model_file(path), path)
    assert ready(room)["models"][0]["runs_on"] == "PyTorch"
    assert room.read(upload(chest(0)), shown=False)["band"] in ("refer", "clear")


def test_a_model_is_exported_once_and_an_export_of_another_is_not_trusted(
    room: ClinicRoom, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    digest = model_file(path)
    room.take(digest, path)
    ready(room)
    kept = tmp_path / "room" / "onnx" / f"{digest}.onnx"
    stamp = kept.stat().st_mtime_ns
    eyes.eye_for(digest, path, kept.parent, room._desk)
    assert kept.stat().st_mtime_ns == stamp
    other = model_file(tmp_path / "n.safetensors", number=2)
    kept.rename(kept.with_name(f"{other}.onnx"))
    eyes.eye_for(other, tmp_path / "n.safetensors", kept.parent, room._desk)
    assert kept.with_name(f"{other}.onnx").stat().st_mtime_ns != stamp


def test_models_of_an_earlier_start_are_here_again_newest_first(tmp_path: Path) -> None:
    room = ClinicRoom(Settings(":0", tmp_path / "room", BrokerOptions("nowhere")), lambda _: None)
    try:
        digests = []
        for number in (1, 2):
            path = tmp_path / "m.safetensors"
            digests.append(model_file(path, number=number))
            path.rename(room.store.model_path(digests[-1]))
            time.sleep(0.02)
        broken = room.store.model_path("0" * 64)
        broken.write_bytes(room.store.model_path(digests[0]).read_bytes())
        room.begin()
        state = ready(room, 3)
        assert [each["digest"] for each in state["models"]] == digests[::-1]
        assert [each["digest"] for each in state["refused"]] == ["0" * 64] and not broken.exists()
    finally:
        room.close()


def test_what_cannot_be_read_is_a_row(room: ClinicRoom, tmp_path: Path) -> None:
    assert "no model is here" in room.read(upload(chest(0)), shown=False)["error"]
    path = tmp_path / "m.safetensors"
    room.take(model_file(path), path)
    ready(room)
    assert room.read(Upload("a.png", b"GIF89a"), shown=True) == {
        "file": "a.png",
        "error": "is no JPEG, PNG or DICOM image",
    }


def test_a_model_that_was_altered_is_refused(room: ClinicRoom, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    digest = model_file(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    room.take(digest, path)
    assert "was altered" in ready(room)["refused"][0]["reason"]
    assert room.state()["in_use"] is None


def test_a_warning_that_is_serious_voids_the_answer(room: ClinicRoom, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    room.take(model_file(path), path)
    ready(room)
    row = room.read(upload(np.ascontiguousarray(np.rot90(chest(0), 2))), shown=False)
    assert (
        row["band"] == "refer"
        and row["warnings"][0]["kind"] == "orientation"
        and row["warnings"][0]["serious"]
    )
    assert "means nothing" in row["meaning"]


@pytest.mark.parametrize(
    ("more", "broker", "reason"),
    [
        ({}, None, "give --broker HOST"),
        ({"model": "m.safetensors"}, BrokerOptions("h"), "not both"),
        ({"refer_below": 0.3}, BrokerOptions("h"), "use 0.5 to 1"),
        ({"model": "m.onnx"}, None, "give the .safetensors file"),
    ],
)
def test_options_that_cannot_be(more: dict[str, Any], broker: BrokerOptions | None, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        settings_of(GIVEN | more, broker)


def test_a_signal_that_does_not_cut_the_wait_short_ends_it_all_the_same() -> None:
    """As one that comes just before the wait begins: here another thread takes it."""
    taken = threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
    taken.start()
    wait(threading.Event())
    taken.join()
