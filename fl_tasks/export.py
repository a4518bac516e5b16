"""A model file as others read it: ONNX, TorchScript, or safetensors without what only training needs.

ONNX and TorchScript take pixels as images.py leaves them, uint8 (n, s, s) or (n, s, s, 3), and bring them to what the
model sees by the task's own code, so that nobody has to repeat it. They give logits (n, classes) and, where Grad-CAM
has a closed form, maps (n, classes, h, w). What one must know besides (classes, image size, temperature) travels as
metadata, under the names that the model file has.

What was written is read again and held against torch before it gets its name.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.modelfile import DIGEST_KEY, ModelFile, read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES, MODEL
from fl_tasks.base import Model
from fl_tasks.gradcam import closed_form
from fl_tasks.jobs import Exported
from fl_tasks.models.parts import Parts, parts_of
from fl_tasks.params import file_params, write_params
from fl_tasks.phantoms import draw
from fl_tasks.predict import Described, checked_file, describe, task_of

ONNX, TORCHSCRIPT, SAFETENSORS = "onnx", "torchscript", "safetensors"
FORMATS = (ONNX, TORCHSCRIPT, SAFETENSORS)
PIXELS, LOGITS, MAPS = "pixels", "logits", "maps"
OPSET = 17
TOLERANCE = 1e-4
"""Largest difference from torch: of a logit, and of a map in parts of its maximum."""
METADATA_FILE = "hilum.json"
"""What a TorchScript file calls its metadata."""

Answers = tuple[np.ndarray, ...]


class Deployed(nn.Module):
    """Pixels to logits and maps: preprocessing, model and Grad-CAM as one module."""

    def __init__(self, module: nn.Module, inputs: Callable[[Tensor, None], Tensor]) -> None:
        super().__init__()
        self.module = module
        self._inputs = inputs
        parts = parts_of(module)
        self.parts: Parts | None = parts if parts is not None and parts.weights is not None else None

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self._inputs(pixels, None)
        if self.parts is None:
            return (self.module(x),)
        features = self.parts.features(x)
        return self.parts.head(features), closed_form(self.parts, features)


def export(model_file: Path, out: Path, how: str) -> Exported:
    """Write ``model_file`` to ``out``. Raises ConfigError if it cannot be, or if what came out is not the model."""
    file = checked_file(model_file)
    described = describe(file)
    if how == SAFETENSORS:
        return _safetensors(file, out)
    task = task_of(file, described, "cpu")
    deployed = Deployed(task.module(Model(file_params(file), file.metadata)), task.inputs).eval()
    data = _onnx(deployed, file, described) if how == ONNX else _torchscript(deployed, file, described)
    wanted = _answers(deployed, described)
    given = _from_onnx(data, described) if how == ONNX else _from_torchscript(data, described)
    difference = _difference(wanted, given, out)
    write_bytes(out, data)
    return Exported(str(out), deployed.parts is not None, difference)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _safetensors(file: ModelFile, out: Path) -> Exported:
    """The model's tensors alone, with the digest they have."""
    known = {key: value for key, value in file.metadata.items() if key != DIGEST_KEY}
    write_params(out, file_params(file), known)
    digest = read_header(out).manifest(MODEL, MAX_CHUNK_BYTES).digest
    write_params(out, file_params(file), known | {DIGEST_KEY: digest})
    return Exported(str(out), has_maps=False, difference=0.0)


def samples(described: Described) -> np.ndarray:
    """What an export is tried on: noise, and drawn phantoms."""
    shape = (described.image_size, described.image_size)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    zoomed = [_zoomed(draw(label, rng), shape) for label in (0, 1)]
    grey = np.concatenate([noise, np.stack(zoomed)])
    return np.repeat(grey[..., None], 3, axis=3) if described.channels == 3 else grey


def _zoomed(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(n) * side // n for n, side in zip(shape, image.shape, strict=True))
    found: np.ndarray = image[np.ix_(rows, columns)]
    return found


def _answers(deployed: Deployed, described: Described) -> Answers:
    with torch.no_grad():
        return tuple(each.numpy() for each in deployed(torch.from_numpy(samples(described))))


def _difference(wanted: Answers, given: Answers, out: Path) -> float:
    """The largest difference. Raises DataError if it is more than TOLERANCE."""
    if [each.shape for each in wanted] != [each.shape for each in given]:
        raise DataError(f"{out} was not written: what came out has other outputs than the model in torch")
    scales = (1.0, *(max(float(each.max(initial=0.0)), 1e-12) for each in wanted[1:]))
    worst = max(
        float(np.abs(mine - theirs).max()) / scale
        for mine, theirs, scale in zip(wanted, given, scales, strict=True)
    )
    if not worst <= TOLERANCE:
        raise DataError(
            f"{out} was not written: what came out differs from torch by {worst:.1e}, more than {TOLERANCE:g}: "
            "use --format torchscript, or another image size"
        )
    return worst


# --- formats ---------------------------------------------------------------------------------------------------


@contextmanager
def _without_known_warnings() -> Any:
    """That both exporters are the older ones, and that shapes are taken for constants, which here they are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", "(?s).*might cause the trace to be incorrect", Warning)
        yield


def _example(described: Described) -> Tensor:
    return torch.from_numpy(samples(described)[:2])


def _onnx(deployed: Deployed, file: ModelFile, described: Described) -> bytes:
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise ConfigError("this needs onnx and onnxruntime: pip install 'hilum[onnx]'")
    names = [LOGITS, MAPS][: 1 + (deployed.parts is not None)]
    drawn: Any = io.BytesIO()  # taken, whatever its annotation says
    with _without_known_warnings(), torch.no_grad():
        torch.onnx.export(
            deployed, (_example(described),), drawn, dynamo=False, opset_version=OPSET, input_names=[PIXELS],
            output_names=names, dynamic_axes={name: {0: "n"} for name in (PIXELS, *names)},
        )  # fmt: skip
    onnx = import_module("onnx")
    graph = onnx.load_model_from_string(drawn.getvalue())
    for name, value in sorted(file.metadata.items()):
        entry = graph.metadata_props.add()
        entry.key, entry.value = name, value
    return bytes(graph.SerializeToString())


def _torchscript(deployed: Deployed, file: ModelFile, described: Described) -> bytes:
    written = io.BytesIO()
    with _without_known_warnings(), torch.no_grad():
        traced = torch.jit.trace(deployed, (_example(described),))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, written, _extra_files=_extra(file.metadata))
    return written.getvalue()


def _extra(metadata: Mapping[str, str]) -> dict[str, str]:
    return {METADATA_FILE: json.dumps(dict(metadata), sort_keys=True)}


def _from_onnx(data: bytes, described: Described) -> Answers:
    from fl_tasks.onnx_model import session_of

    return tuple(session_of(data).run(None, {PIXELS: samples(described)}))


def _from_torchscript(data: bytes, described: Described) -> Answers:
    with _without_known_warnings(), torch.no_grad():
        module = torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]
        return tuple(each.numpy() for each in module(torch.from_numpy(samples(described))))
