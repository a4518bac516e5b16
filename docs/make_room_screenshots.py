"""Pictures of the reading room for the pages: a real server, a real browser, real X-rays.

    fl-sim run --data ../shared/data/chest_xray --clients 4 --rounds 4 --image-size 64 --out /tmp/run
    python -m docs.make_room_screenshots --model /tmp/run/global.safetensors --data ../shared/data

Writes docs/screens/room-*.jpeg. The images are of the Kermany set (CC BY 4.0, docs/data.md), the model is the file's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browsers import QUIET

HERE = Path(__file__).parent
VIEWS = {
    "room-light": (1440, 900, "light", 0), "room-dark": (1440, 900, "dark", 1), "room-phone": (390, 844, "light", 0),
    "room-warning": (1440, 900, "light", 3),
}  # fmt: skip
"""By name: width, height, colours, and which image of the list is looked at."""


def images(data: Path, folder: Path) -> list[Path]:
    """Two of each class, and one that lies on its side."""
    test = data / "chest_xray" / "test"
    found = [
        sorted((test / label).iterdir())[at]
        for label, at in (("PNEUMONIA", 40), ("NORMAL", 3), ("NORMAL", 20))
    ]
    Image.open(found[1]).rotate(90).save(folder / "lying.png")
    return [*found, folder / "lying.png"]


@contextmanager
def room(model: Path, folder: Path) -> Iterator[str]:
    """A reading room; its address once the model is ready."""
    words = [sys.executable, "-m", "edge_client", "serve", "--model", str(model), "--listen", "127.0.0.1:0",
             "--workdir", str(folder / "room")]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = re.findall(r"http://\S+", process.stdout.readline())[0]
        while "is ready" not in process.stdout.readline():
            pass
        yield url
    finally:
        process.terminate()
        process.wait()


def picture(browser: Browser, url: str, files: list[Path], name: str, target: Path) -> None:
    """One view, as a JPEG of at most a few hundred kilobytes."""
    width, height, scheme, at = VIEWS[name]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.set_input_files("#files", files)
    expect(page.locator(".entry .what b")).to_have_count(len(files), timeout=60_000)
    page.locator(".entry").nth(at).click()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=target / f"{name}.jpeg", type="jpeg", quality=82, full_page=width < 500)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "screens")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        room(given.model, Path(name)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        files = images(given.data, Path(name))
        for view in VIEWS:
            picture(browser, url, files, view, given.out)
        browser.close()


if __name__ == "__main__":
    main()
