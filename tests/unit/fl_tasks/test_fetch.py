"""Downloads, from a server on this machine, in the form in which the world serves them."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fl_protocol.errors import DataError
from fl_tasks import fetch, sources
from fl_tasks.base import Place, Watch
from fl_tasks.jobs import EVAL, DataOptions
from fl_tasks.registry import get_task
from fl_tasks.torchvision_door import datasets

RNG = np.random.default_rng(0)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes())


def options(task: str, data: Path, **more: str) -> DataOptions:
    return DataOptions(task, f"download:{data}", 0, str(data / "cache"), **more)  # type: ignore[arg-type]


def test_mnist_is_fetched_once(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder, address = served
    files = {}
    for part, count in (("train", 40), ("t10k", 10)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(RNG.integers(0, 255, (count, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx((np.arange(count) % 10).astype(np.uint8))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    mnist = datasets().MNIST
    monkeypatch.setattr(mnist, "mirrors", [address])
    monkeypatch.setattr(mnist, "resources", [(n, hashlib.md5(d).hexdigest()) for n, d in files.items()])
    task, there = get_task("mnist", Place("cpu", 1)), tmp_path / "there"
    assert task.prepare(options("mnist", there), Watch()).summary.images == 40
    assert [path.name for path in there.iterdir()] == ["mnist.npz"]
    monkeypatch.setattr(mnist, "mirrors", [])
    assert task.prepare(options("mnist", there, role=EVAL), Watch()).summary.images == 10
    assert sources.quick_check(str(there / "mnist.npz")) == 40


def test_cifar10_comes_without_pickles(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder, address = served
    monkeypatch.setattr(fetch, "CIFAR10_RECORDS", 10)
    images = RNG.integers(0, 255, (60, 3, 32, 32), np.uint8)
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        for number in range(6):
            name = "test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin"
            rows = images[10 * number : 10 * number + 10].reshape(10, -1)
            data = np.hstack([np.arange(10, dtype=np.uint8)[:, None], rows]).tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(fetch, "CIFAR10_URL", address + "cifar.tar.gz")
    monkeypatch.setattr(fetch, "CIFAR10_MD5", hashlib.md5((folder / "cifar.tar.gz").read_bytes()).hexdigest())
    task = get_task("cifar10", Place("cpu", 1))
    test = task.prepare(options("cifar10", tmp_path / "there", role=EVAL), Watch()).content.train
    assert np.array_equal(test.images[np.arange(10)], images[50:].transpose(0, 2, 3, 1))
    assert test.labels.tolist() == list(range(10))


def test_where_nothing_can_be_reached_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets().MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(fetch, "CIFAR10_URL", "http://127.0.0.1:9/x")
    for task in ("mnist", "cifar10"):
        with pytest.raises(
            DataError,
            match=rf"^{task} cannot be downloaded \(.*Connection refused.*\): give a copy with --data FILE.npz$",
        ):
            get_task(task, Place("cpu", 1)).prepare(options(task, tmp_path), Watch())
    assert list(tmp_path.glob("*.npz")) == list(tmp_path.glob(".*")) == []


def test_a_file_with_another_digest_is_not_kept(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folder, address = served
    (folder / "cifar.tar.gz").write_bytes(b"something else")
    monkeypatch.setattr(fetch, "CIFAR10_URL", address + "cifar.tar.gz")
    with pytest.raises(DataError, match="cifar10 cannot be downloaded"):
        fetch.fetched(f"download:{tmp_path}", "cifar10")
    assert not (tmp_path / "cifar10.npz").exists()


def test_medmnist_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"get pneumoniamnist\.npz from medmnist\.com, give --data FILE\.npz"):
        fetch.fetched(f"download:{tmp_path}", "medmnist:pneumoniamnist")


def test_an_edge_joins_before_anything_is_downloaded(tmp_path: Path) -> None:
    assert sources.quick_check(f"download:{tmp_path}") == 0
    assert sources.has_test_part(f"download:{tmp_path}")
