"""Downloading MNIST and CIFAR-10, for who asks for it with ``--data download:DIR`` and never otherwise.

torchvision fetches and checks the digests it knows; what comes is kept as DIR/TASK.npz and read from there ever
after. CIFAR-10 comes in its binary form: the one that torchvision reads by itself is made of pickles.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fl_protocol.errors import DataError
from fl_tasks.array_files import DOWNLOAD

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_RECORDS, CIFAR10_SHAPE = 10_000, (3, 32, 32)

Arrays = dict[str, np.ndarray]


def fetched(data: str, task: str) -> Path:
    """The .npz of ``task`` in the folder that ``data`` names, downloaded if it is not there yet.

    Raises DataError in one line where there is no way to it.
    """
    folder = Path(data.removeprefix(DOWNLOAD)).expanduser()
    target = folder / f"{task.replace(':', '-')}.npz"
    if target.exists():
        return target
    fetch = _FETCH.get(task)
    if fetch is None:
        name = task.partition(":")[2]
        raise DataError(
            f"{task} is not downloaded here: get {name}.npz from medmnist.com, give --data FILE.npz"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as draft:
            _keep(fetch(Path(draft)), target)
    except (OSError, RuntimeError, tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{task} cannot be downloaded ({_reason(error)}): give a copy with --data FILE.npz"
        ) from None
    return target


def _reason(error: Exception) -> str:
    """Of what torchvision tells of all its mirrors the last line: earlier ones name files, and end in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:120]


def _mnist(draft: Path) -> Arrays:
    from fl_tasks.torchvision_door import datasets

    parts = {
        name: datasets().MNIST(str(draft), train=name == "train", download=True) for name in ("train", "test")
    }
    found: Arrays = {}
    for name, part in parts.items():
        found |= {f"x_{name}": part.data.numpy(), f"y_{name}": part.targets.numpy().astype(np.uint8)}
    return found


def _cifar10(draft: Path) -> Arrays:
    from fl_tasks.torchvision_door import datasets

    datasets().utils.download_url(CIFAR10_URL, str(draft), "cifar10.tar.gz", CIFAR10_MD5)
    batches: dict[str, bytes] = {}
    with tarfile.open(
        draft / "cifar10.tar.gz", "r:gz"
    ) as archive:  # read in place: nothing is unpacked to disk
        for member in archive:
            name = Path(member.name).name
            if name.endswith(".bin") and member.isfile():
                batches[name] = _batch(archive, member)
    train = [batches.get(f"data_batch_{number}.bin", b"") for number in range(1, 6)]
    return _cifar10_part("train", train) | _cifar10_part("test", [batches.get("test_batch.bin", b"")])


def _batch(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    size = CIFAR10_RECORDS * (1 + int(np.prod(CIFAR10_SHAPE)))
    stream = archive.extractfile(member)
    data = stream.read(size) if stream is not None and member.size == size else b""
    if len(data) != size:
        raise DataError(f"the archive of CIFAR-10 is not what it should be ({member.name[:40]})")
    return data


def _cifar10_part(name: str, batches: list[bytes]) -> Arrays:
    """Records of a label and three planes, as images (n, 32, 32, 3)."""
    if not all(batches):
        raise DataError(f"the archive of CIFAR-10 lacks a part for {name}")
    records = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, 1 + int(np.prod(CIFAR10_SHAPE)))
    images = records[:, 1:].reshape(-1, *CIFAR10_SHAPE).transpose(0, 2, 3, 1)
    return {f"x_{name}": np.ascontiguousarray(images), f"y_{name}": records[:, 0].copy()}


def _keep(arrays: Arrays, target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


_FETCH: dict[str, Callable[[Path], Arrays]] = {"mnist": _mnist, "cifar10": _cifar10}
