"""Who looks at an image with a model: ONNX Runtime in this process where that can be, torch in the task process."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_client.desk import Desk
from fl_protocol.errors import DataError, HilumError
from fl_protocol.modelfile import DIGEST_KEY
from fl_tasks import jobs
from fl_tasks.onnx_model import OnnxModel, installed
from fl_tasks.seen import Seen


class Eye(Protocol):
    """Looks with one model. ``name`` is for people."""

    name: str

    def look(self, pixels: np.ndarray) -> Seen:
        """At one image: uint8 (s, s) or (s, s, 3). Raises DataError if it cannot."""
        ...


class OnnxEye:
    """In this process, on one core."""

    name = "ONNX Runtime"

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def look(self, pixels: np.ndarray) -> Seen:
        return self._model.look(pixels)


class TorchEye:
    """In the task process, which stays for as long as this model is in use."""

    name = "PyTorch"

    def __init__(self, model_file: Path, desk: Desk) -> None:
        self._file, self._desk = str(model_file), desk

    def look(self, pixels: np.ndarray) -> Seen:
        reply = self._desk.ask(jobs.Explain(self._file, pixels.tobytes(), pixels.shape))
        if not isinstance(reply, jobs.Explained):
            raise DataError("cannot be read: the task process answers something else")
        logits = np.frombuffer(reply.logits, "<f4")
        return Seen(logits, np.frombuffer(reply.maps, "<f4").reshape(reply.shape) if reply.shape else None)


def eye_for(digest: str, model_file: Path, folder: Path, desk: Desk) -> tuple[Eye, str]:
    """Whoever can look with this model, and why it is not ONNX Runtime, if it is not.

    Exported models lie in ``folder`` under their digest, so that torch is needed once for each.
    """
    if not installed():
        return TorchEye(model_file, desk), "onnxruntime is not installed: pip install 'hilum[onnx]'"
    path = folder / f"{digest}.onnx"
    try:
        model = _kept(path, digest) or _exported(path, model_file, desk)
    except HilumError as error:
        return TorchEye(model_file, desk), str(error)
    if not model.has_maps:
        return TorchEye(model_file, desk), "its heat maps need torch"
    return OnnxEye(model), ""


def _kept(path: Path, digest: str) -> OnnxModel | None:
    with contextlib.suppress(DataError):
        model = OnnxModel(path)
        if model.metadata.get(DIGEST_KEY) in (digest, None):
            return model
    return None


def _exported(path: Path, model_file: Path, desk: Desk) -> OnnxModel:
    path.parent.mkdir(parents=True, exist_ok=True)
    desk.ask(jobs.Export(str(model_file), str(path), "onnx"), last=True)
    return OnnxModel(path)
