"""Chest X-rays of our own making: phantoms that stand upright, and DICOM files that say whatever a test wants."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from fl_tasks.phantoms import draw

RAMP = (np.arange(48)[:, None] * 40 + np.arange(40)[None, :]).astype(np.uint16)
SECRET = "Smith^Jane"


def radiograph(
    path: Path, pixels: np.ndarray = RAMP, syntax: Any = ExplicitVRLittleEndian, **elements: Any
) -> Path:
    """A CR of ``pixels``; ``elements`` replace what it says, None takes an element away."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    held = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    said = {
        "SOPClassUID": ComputedRadiographyImageStorage, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CR", "PatientID": "4711", "PatientName": SECRET, "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1, "Rows": pixels.shape[0], "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize, "BitsStored": 8 * pixels.itemsize, "HighBit": 8 * pixels.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelData": pixels.tobytes(),
    } | elements  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in said.items():
            if value is not None:
                setattr(held, name, value)
    if "PixelData" in held:
        held["PixelData"].VR = "OW" if held.BitsAllocated == 16 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these are wrong on purpose
        held.save_as(path, enforce_file_format=True)
    return path


def chest(seed: int) -> np.ndarray:
    """A phantom with a bright belly, which the drawn ones lack."""
    belly = 80 * np.clip((np.linspace(0, 1, 128)[:, None] - 0.7) / 0.3, 0, None)
    return np.clip(draw(seed % 2, np.random.default_rng(seed)) + belly, 0, 255).astype(np.uint8)
