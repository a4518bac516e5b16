"""Small models, updates and manifests for tests: real files, seeded values."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fl_protocol.messages import Offer, transfer_id
from fl_protocol.modelfile import ModelFile, read_header, write
from fl_protocol.tensors import (
    FLOAT32,
    LEAF_BYTES,
    MAX_CHUNK_BYTES,
    Group,
    Manifest,
    TensorSpec,
    leaf_digests,
    payload_order,
)

Floats = npt.NDArray[np.float32]


def digest_of(text: str) -> str:
    """A well-formed digest that stands for ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def leaves_of(payload: bytes) -> list[bytes]:
    return [payload[at : at + LEAF_BYTES] for at in range(0, len(payload), LEAF_BYTES)]


def manifest_of(
    payload: bytes, chunk_bytes: int = MAX_CHUNK_BYTES, group: str = "delta", tensors: tuple[TensorSpec, ...] = ()
) -> Manifest:  # fmt: skip
    """The manifest of raw float32 bytes, by default one flat tensor."""
    layout = tensors or (TensorSpec("w", (len(payload) // 4,)),)
    return Manifest(
        (Group(group, FLOAT32, layout),), len(payload), chunk_bytes, leaf_digests(leaves_of(payload))
    )


def chunks_of(payload: bytes, manifest: Manifest) -> list[bytes]:
    spans = (manifest.chunk_span(index) for index in range(manifest.num_chunks))
    return [payload[offset : offset + length] for offset, length in spans]


def random_payload(num_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(num_bytes)


def floats(num: int, seed: int, scale: float = 1.0) -> Floats:
    return (np.random.default_rng(seed).standard_normal(num) * scale).astype("<f4")


def model_file(
    path: Path, tensors: Mapping[str, Floats], metadata: Mapping[str, str] | None = None
) -> ModelFile:
    """A real model file of these tensors."""
    ordered = {name: tensors[name] for name in sorted(tensors, key=payload_order)}
    specs = [TensorSpec(name, tuple(values.shape)) for name, values in ordered.items()]
    write(path, specs, metadata or {}, [values.astype("<f4").tobytes() for values in ordered.values()])
    return read_header(path)


def offer_of(
    payload: bytes, *, round_number: int = 1, base: str | None = None, num_examples: int = 10,
    chunk_bytes: int = MAX_CHUNK_BYTES, tensors: tuple[TensorSpec, ...] = (),
) -> tuple[str, Offer]:  # fmt: skip
    """A transfer id and the offer of an update."""
    manifest = replace(manifest_of(payload, chunk_bytes, tensors=tensors), round_number=round_number)
    base = digest_of("base") if base is None else base
    return transfer_id(round_number, manifest.digest), Offer(round_number, base, num_examples, manifest)
