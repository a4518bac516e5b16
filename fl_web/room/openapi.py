"""What programs may ask of the reading room, in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_NUMBER = {"type": "number", "minimum": 0, "maximum": 1}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_REFUSED = _object(["error"], error=_TEXT)
_WARNING = _object(
    ["kind", "text", "serious"],
    kind={"enum": ["not-an-x-ray", "orientation", "far-from-training", "low-resolution"]},
    text=_TEXT,
    serious={"type": "boolean", "description": "The model's answer means nothing."},
)
_READ = _object(
    ["file", "class", "probability", "probabilities", "model", "band", "advice", "meaning", "warnings"],
    **{"class": _TEXT},
    file=_TEXT,
    probability={**_NUMBER, "description": "Of that class, at the temperature that travels with the model."},
    probabilities={"type": "object", "additionalProperties": _NUMBER},
    model={**_TEXT, "description": "SHA-256 of the model's tensors."},
    round={"type": ["integer", "null"]},
    band={"enum": ["refer", "clear"], "description": "refer: have a radiologist look at it."},
    advice=_TEXT,
    meaning=_TEXT,
    warnings={"type": "array", "items": _WARNING},
)
_ROWS = {"type": "array", "items": {"anyOf": [_READ, _object(["file", "error"], file=_TEXT, error=_TEXT)]}}
_FILES = _object(["file"], file={"type": "array", "items": {"type": "string", "format": "binary"}})
_MODEL = _object(["digest"], digest={"type": ["string", "null"], "description": "null: the newest, always."})


def document() -> dict[str, Any]:
    """The whole description."""
    refused = {code: _answer(words, _REFUSED) for code, words in {
        "400": "No image in it", "403": "Sent by a page of another site", "413": "More than 50 MB", "415": "No multipart/form-data",
    }.items()}  # fmt: skip
    predict = {
        "summary": "Read images", "description": "JPEG, PNG or DICOM, one row for each, in order. Nothing is kept.",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FILES}}},
        "responses": {"200": _answer("A row for every image", _ROWS), **refused},
    }  # fmt: skip
    choose = {
        "summary": "Stay with a model, or use the newest",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _MODEL}}},
        "responses": {"200": _answer("The room's state", {"type": "object"}), "409": _answer("No such model", _REFUSED)},
    }  # fmt: skip
    state = {
        "summary": "The models here, and which is in use",
        "responses": {"200": _answer("The room's state", {"type": "object"})},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hilum reading room",
            "version": "1",
            "description": "For research, not for diagnosis.",
        },
        "paths": {"/predict": {"post": predict}, "/state": {"get": state}, "/model": {"post": choose}},
    }
