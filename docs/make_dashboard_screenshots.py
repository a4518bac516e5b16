"""Pictures of the dashboard for the pages: a real broker, aggregator, dashboard and edges, real X-rays, a real browser.

    python -m docs.make_dashboard_screenshots --data ../shared/data/chest_xray

Writes docs/screens/dashboard-*.png. The images are of the Kermany set (CC BY 4.0, docs/data.md); none is on a picture.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from aggregator.children import end_child, start_child
from aggregator.local_broker import start
from tests.browsers import QUIET

HERE = Path(__file__).parent
EDGES, ROUNDS = ("city-hospital", "children-clinic", "harbour-clinic", "north-practice"), 6
WIDE, NARROW = (1440, 900), (390, 844)


class Federation:
    """Everything in ``folder``, ended with ``stack``."""

    def __init__(self, data: Path, folder: Path, stack: ExitStack) -> None:
        self._stack, self._folder, self._logs = stack, folder, 0
        self._broker = start(folder / "broker")
        stack.callback(self._broker.stop)
        for name, strategy in (("plain", "fedavg"), ("now", "fedavg")):
            self.aggregator = self._begin(data, folder / "runs" / name, strategy)
            self._edges(data)
            if name == "plain":
                self.aggregator.wait()

    def _program(self, name: str, *words: object) -> subprocess.Popen[bytes]:
        package = {"fl-agg": "aggregator", "fl-edge": "edge_client"}[name]
        self._logs += 1
        log = self._stack.enter_context((self._folder / f"{self._logs}.log").open("wb"))
        process = start_child([sys.executable, "-m", package, *map(str, words)], log)
        self._stack.callback(end_child, process)
        return process

    def _begin(self, data: Path, out: Path, strategy: str) -> subprocess.Popen[bytes]:
        where = self._broker.options.where
        rounds = 3 if out.name == "plain" else ROUNDS
        return self._program(
            "fl-agg", "start", "--broker", where, "--out", out, "--rounds", rounds, "--min-clients", len(EDGES), "--image-size", 48,
            "--eval-data", data, "--strategy", strategy, "--grace", 20, *(("--batch-size", 16) if out.name == "plain" else ()),
        )  # fmt: skip

    def _edges(self, data: Path) -> None:
        for number, name in enumerate(EDGES, 1):
            self._program(
                "fl-edge", "join", "--broker", self._broker.options.where, "--data", data, "--shard", f"{number}/{len(EDGES)}",
                "--client-id", name, "--workdir", self._folder / name, "--threads", 1,
            )  # fmt: skip

    def dashboard(self) -> tuple[str, str]:
        """Its address, and the token."""
        words = [sys.executable, "-m", "aggregator", "dashboard", "--broker", self._broker.options.where, "--listen",
                 "127.0.0.1:0", "--runs", str(self._folder / "runs")]  # fmt: skip
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        assert process.stdout is not None
        url = re.findall(r"http://\S+", process.stdout.readline())[0]
        return url, process.stdout.readline().split()[1]


UNDER_WAY = """
() => document.querySelectorAll("#curves canvas").length > 3 && /^[456] of/.test(document.querySelector("#round-number").textContent)
  && [...document.querySelectorAll(".tile-told")].filter((each) => /trained ([3-8]\\d) %/.test(each.textContent)).length > 1
"""


def now(page: Page) -> None:
    """A round under way: at least two sites are well on their way. (The page's policy forbids what waits by itself.)"""
    until = time.monotonic() + 300
    while not page.evaluate(UNDER_WAY) and time.monotonic() < until:
        page.wait_for_timeout(100)


def curves(page: Page) -> None:
    expect(page.locator("canvas").first).to_be_visible()


@dataclass(frozen=True)
class View:
    """What is to be seen on a picture."""

    name: str
    path: str
    ready: Callable[[Page], None]
    size: tuple[int, int] = WIDE
    scheme: Literal["light", "dark"] = "light"


def picture(browser: Browser, url: str, token: str, view: View, target: Path) -> None:
    """One view."""
    context = browser.new_context(
        viewport={"width": view.size[0], "height": view.size[1]}, color_scheme=view.scheme
    )
    page = context.new_page()
    page.goto(f"{url}/login")
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    page.goto(url + view.path)
    view.ready(page)
    page.wait_for_timeout(500)
    shot = page.screenshot(full_page=view.name.endswith("whole"))
    drawn = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    drawn.save(target / f"{view.name}.png", optimize=True)
    context.close()


DURING = (
    View("dashboard-light", "/", now), View("dashboard-dark", "/", now, WIDE, "dark"), View("dashboard-phone", "/", now, NARROW),
    View("dashboard-whole", "/", now),
)  # fmt: skip
AFTER = (
    View("dashboard-compare", "/runs/compare?run=now&run=plain", curves),
    View("dashboard-runs", "/runs", lambda page: expect(page.locator("table")).to_be_visible()),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "screens")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack, sync_playwright() as playwright:
        federation = Federation(given.data.resolve(), Path(name), stack)
        url, token = federation.dashboard()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for view in DURING:
            picture(browser, url, token, view, given.out)
        federation.aggregator.wait()
        for view in AFTER:
            picture(browser, url, token, view, given.out)
        browser.close()


if __name__ == "__main__":
    main()
