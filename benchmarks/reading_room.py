"""The reading room's figures, as JSON: how long one large X-ray takes, in how much memory, and how often a warning is wrong.

    taskset -c 0 .venv/bin/python benchmarks/reading_room.py --data ../shared/data

One JPEG of 2,000 x 1,800 pixels, hilum-cnn, answer with heat maps and the picture for the page; the first one, when
everything is cold, counts as well. Memory is the server's alone, after them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fl_tasks.base import Place
from fl_tasks.cautions import cautions
from fl_tasks.params import write_params
from fl_tasks.phantoms import draw
from fl_tasks.pictures import read_picture
from fl_tasks.registry import get_task

TIMES = 10
STARTED_S = 120.0


def large_xray() -> bytes:
    """A drawn chest as a detector would give it: 2,000 x 1,800, with noise that JPEG cannot pack away."""
    rng = np.random.default_rng(0)
    drawn = np.asarray(
        Image.fromarray(draw(1, rng)).resize((2000, 1800), Image.Resampling.BICUBIC), np.float32
    )
    noisy = np.clip(drawn + rng.normal(0, 6, drawn.shape), 0, 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(noisy).save(written, "JPEG", quality=92)
    return written.getvalue()


def model_in(folder: Path) -> Path:
    """A hilum-cnn of the default size: how long it takes does not depend on what it learned."""
    task = get_task("chest-xray", Place("cpu", 1))
    model = task.initialise("hilum-cnn", 96, 0, None)
    write_params(folder / "model.safetensors", model.params, {**model.metadata, "round": "1"})
    return folder / "model.safetensors"


def posted(url: str, data: bytes) -> bytes:
    """The answer to one image."""
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="x.jpeg"\r\n\r\n'.encode()
    body = head + data + f"\r\n--{edge}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    with urllib.request.urlopen(urllib.request.Request(url, body, kind)) as answer:  # noqa: S310 - our own address
        found: bytes = answer.read()
    return found


def memory_mb(pid: int) -> dict[str, float]:
    """Resident, and the most that ever was."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: round(int(re.findall(rf"{key}:\s+(\d+)", text)[0]) / 1024, 1)
        for name, key in (("resident_mb", "VmRSS"), ("peak_mb", "VmHWM"))
    }


def served() -> dict[str, Any]:
    """Times and memory of a server of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [sys.executable, "-m", "edge_client", "serve", "--model", str(model_in(folder)), "--listen", "127.0.0.1:0",
                 "--workdir", str(folder / "room")]  # fmt: skip
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        try:
            assert process.stdout is not None
            url = re.findall(r"http://\S+", process.stdout.readline())[0]
            began = time.monotonic()
            while (
                "is ready" not in (line := process.stdout.readline()) and time.monotonic() < began + STARTED_S
            ):
                pass
            data, took = large_xray(), []
            for _ in range(TIMES):
                start = time.perf_counter()
                row = json.loads(posted(f"{url}/predict?shown=1", data))[0]
                took.append(round(time.perf_counter() - start, 3))
                assert row["heats"], row
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            return {
                "image_bytes": len(data), "runs_on": line.partition("(")[2].strip(")\n"), "first_s": took[0],
                "median_s": sorted(took)[TIMES // 2], "worst_s": max(took), **memory_mb(process.pid),
                "holds_torch": "libtorch" in maps, "cores": len(os.sched_getaffinity(process.pid)),
            }  # fmt: skip
        finally:
            process.terminate()
            process.wait()


def rates(files: Iterable[bytes]) -> dict[str, float]:
    """How often each warning stands, by kind, and of how many images."""
    counts: dict[str, float] = {}
    total = 0
    for data in files:
        total += 1
        for each in cautions(read_picture(data, "x", 96, 1)):
            counts[each.kind] = counts.get(each.kind, 0) + 1
    return {kind: round(count / total, 4) for kind, count in sorted(counts.items())} | {"images": total}


def encoded(images: Iterable[np.ndarray]) -> Iterable[bytes]:
    """Small arrays as files of 192 pixels."""
    for image in images:
        written = io.BytesIO()
        Image.fromarray(image).resize((192, 192), Image.Resampling.BICUBIC).save(written, "PNG")
        yield written.getvalue()


def sky(count: int = 200) -> Iterable[np.ndarray]:
    """Pictures in colour: two colours that run into one another, and discs."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        share = np.linspace(0, 1, 96)[:, None, None]
        picture = np.broadcast_to(
            rng.integers(0, 256, 3) * (1 - share) + rng.integers(0, 256, 3) * share, (96, 96, 3)
        ).copy()
        rows, columns = np.ogrid[:96, :96]
        for _disc in range(4):
            (y, x), radius = rng.integers(0, 96, 2), rng.integers(5, 30)
            picture[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.integers(0, 256, 3)
        yield picture.astype(np.uint8)


def pages(count: int = 200) -> Iterable[np.ndarray]:
    """Pages of text."""
    rng = np.random.default_rng(2)
    for _ in range(count):
        page = np.full((192, 192), 250, np.uint8)
        for top in range(12, 180, 9):
            for left in range(12, int(rng.integers(90, 180)), 6):
                page[top : top + 5, left : left + int(rng.integers(2, 6))] = 30
        yield page


def warned(data: Path) -> dict[str, Any]:
    """Rates on what is an X-ray, where a warning is wrong, and on what is none, where its absence is."""
    cifar, mnist = (np.load(data / name)["x_test"] for name in ("cifar10_small.npz", "mnist_small.npz"))
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in cifar]
    test = sorted((data / "chest_xray" / "test").glob("*/*.jpeg"))
    turned = (np.rot90(np.asarray(Image.open(file).convert("L")), 1 + at % 3) for at, file in enumerate(test))
    return {
        "chest_xray test": rates(file.read_bytes() for file in test),
        "chest_xray originals": rates(file.read_bytes() for file in (data / "chest_xray_originals").glob("*/*.*")),
        "nih (another hospital, adults)": rates(file.read_bytes() for file in (data / "nih_chestxray14").rglob("*.jp*g")),
        "chest_xray test, turned": rates(encoded(np.ascontiguousarray(each) for each in turned)),
        "cifar10 in colour": rates(encoded(cifar)), "cifar10 in grey": rates(encoded(grey)),
        "mnist": rates(encoded(mnist)), "colours, drawn": rates(encoded(sky())), "pages, drawn": rates(encoded(pages())),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder of real images, for the rates of warnings")
    given = parser.parse_args()
    print(json.dumps({"served": served(), "warnings": warned(given.data) if given.data else None}, indent=1))


if __name__ == "__main__":
    main()
