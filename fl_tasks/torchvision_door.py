"""The only import of torchvision: ``from fl_tasks.torchvision_door import models``, or ``datasets()``.

The wheels on PyPI are built for CUDA. Beside a CPU build of torch their operators do not load, and importing
torchvision fails on declaring them (pytorch/vision issues 8985 and 9085), although the models are plain Python.
Declaring the two missing operators first mends that. Builds that load as they are stay untouched.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_MISSING = ("nms", "qnms")
_declared: list[torch.library.Library] = []
"""Declarations live as long as their library object does."""


def _open() -> ModuleType:
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _MISSING:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("torchvision.models")


models: ModuleType = _open()


def datasets() -> ModuleType:
    """torchvision's data sets, loaded when somebody downloads one."""
    return importlib.import_module("torchvision.datasets")
