"""A real Chromium for tests of pages: the system's own, found where Debian puts it; nothing is downloaded."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run"]  # fmt: skip
WIDE, NARROW = (1440, 900), (390, 844)
SERIOUS = ("serious", "critical")
PATIENCE_MS = 30_000

expect.set_options(timeout=PATIENCE_MS)  # of its own it waits 5 s, which a busy machine takes


HANDED_IN = """([files, how]) => {
  const held = new DataTransfer();
  for (const [name, text] of files)
    held.items.add(new File([Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))], name));
  document.dispatchEvent(how === "paste"
    ? new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
}"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, size: tuple[int, int] = WIDE, scheme: Any = "light") -> Iterator[Page]:
    """A page in a profile of its own. Whatever a script throws, or the policy forbids, fails the test."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    faults: list[str] = []
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None
    )
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert faults == []


def hand_in(page: Page, how: str, *paths: Path) -> None:
    """``drop`` or ``paste`` files on the page, as a person does: no driver of a browser can begin a drag outside it."""
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    page.evaluate(HANDED_IN, [files, how])


def violations(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the first node of each."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in SERIOUS
    ]


def is_wider_than_its_window(page: Page) -> bool:
    """Whether one would have to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
