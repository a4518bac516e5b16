"""A model exported to ONNX, without torch: numpy and ONNX Runtime alone, on one core."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fl_protocol.errors import DataError
from fl_tasks.seen import Seen

ERRORS_ALONE = 3


def installed() -> bool:
    """Whether there is something to run an exported model with."""
    return find_spec("onnxruntime") is not None


def session_of(data: bytes) -> Any:
    """Raises DataError for what is no model."""
    ort = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it keeps what the largest image took
    options.log_severity_level = ERRORS_ALONE
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the library's own exceptions share no base
        raise DataError(f"is no ONNX model that can be used ({type(error).__name__})") from None


class OnnxModel:
    """One exported model. ``metadata`` is what its model file said."""

    def __init__(self, path: Path) -> None:
        try:
            self._session = session_of(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.has_maps = len(self._session.get_outputs()) > 1

    def look(self, pixels: np.ndarray) -> Seen:
        """At one image: uint8 (s, s) or (s, s, 3)."""
        found = self._session.run(None, {"pixels": pixels[None]})
        return Seen(found[0][0], found[1][0] if len(found) > 1 else None)
