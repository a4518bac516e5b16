"""From the launch button to the doctor's page: real X-rays, two edges, two pages in a real browser.

Real images are read from ../shared/data; phantoms stand in for them elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fl_tasks.phantoms import write_phantoms
from tests.browsers import hand_in, opened
from tests.e2e.dashboards import Dashboard
from tests.e2e.processes import Programs

XRAYS = Path(__file__).parents[3] / "shared" / "data" / "chest_xray"
CLASSES = ("NORMAL", "PNEUMONIA")
TRAINING, TESTING = 60, 30
LONG_MS = 120_000


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of both classes in both parts."""
    folder = tmp_path_factory.mktemp("data") / "xrays"
    if not XRAYS.is_dir():
        return write_phantoms(folder, 2 * TRAINING, 2 * TESTING)
    for part, count in (("train", TRAINING), ("test", TESTING)):
        for name in CLASSES:
            target = folder / part / name
            target.mkdir(parents=True)
            for image in sorted((XRAYS / part / name).iterdir())[:count]:
                (target / image.name).symlink_to(image)
    return folder


def launch(page: Page, dashboard: Dashboard, rounds: int) -> None:
    """Log in and launch, as an operator would."""
    page.get_by_role("link", name="Log in", exact=True).click()
    page.get_by_label("Token").fill(dashboard.token)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Launch…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Rounds", exact=True).fill(str(rounds))
    dialog.get_by_label("Local epochs", exact=True).fill("1")
    dialog.get_by_text("More options").click()
    dialog.get_by_label("Image size").fill("48")
    dialog.get_by_role("button", name="Launch").click()
    expect(dialog).to_be_hidden()


@pytest.mark.slow
def test_three_rounds_from_the_button_to_the_doctors_page(
    programs: Programs, browser: Browser, images: Path
) -> None:
    job = ("--broker", programs.broker, "--job", programs.job)
    agg = programs.start("fl-agg", "start", "--wait", *job, "--out", "run", "--eval-data", images)
    edges = [
        programs.start("fl-edge", "join", *job, "--client-id", f"site-{k}", "--workdir", f"edge-{k}", "--data", images,
                       "--shard", f"{k}/2")
        for k in (1, 2)
    ]  # fmt: skip
    dashboard = Dashboard(programs, "--runs", programs.folder)
    with opened(browser, dashboard.url) as page:
        expect(page.locator("[data-client]")).to_have_count(2, timeout=LONG_MS)
        launch(page, dashboard, rounds=3)
        expect(page.locator("#round-number")).to_have_text("3 of 3", timeout=LONG_MS)
        expect(page.locator("#round-told")).to_contain_text("had its 3 rounds", timeout=LONG_MS)
        expect(page.locator("#figures")).to_contain_text("AUROC", timeout=LONG_MS)
        expect(page.locator("#curves canvas").first).to_be_visible()
        page.get_by_role("link", name="Runs", exact=True).click()
        expect(page.locator(".run-list tbody tr")).to_have_count(1)
        assert [edge.running for edge in edges] == [True, True], "they stay for the next launch"
    room = programs.start("fl-edge", "serve", *job, "--listen", "127.0.0.1:0", "--workdir", "room")
    url = room.says(r"(http://\S+)")[1]
    with opened(browser, url) as page:
        expect(page.locator("#model")).to_contain_text("hilum-cnn for chest-xray", timeout=LONG_MS)
        chosen = [min((images / "test" / name).iterdir()) for name in CLASSES]
        hand_in(page, "drop", *chosen)
        expect(page.locator(".entry .what b")).to_have_count(2, timeout=LONG_MS)
        for entry, image in zip(page.locator(".entry").all(), chosen, strict=True):
            entry.click()
            expect(page.locator(".verdict h2")).to_have_text(image.name)
            expect(page.locator(".verdict .class")).to_have_text(re.compile("^(NORMAL|PNEUMONIA)$"))
            expect(page.locator(".verdict .meaning")).to_be_visible()
            expect(page.locator(".verdict")).to_contain_text("model of round 3")
        expect(page.get_by_text("For research, not for diagnosis").first).to_be_visible()
    agg.interrupt()
    assert agg.wait() == 130, agg.told()
