"""From the page alone: a waiting aggregator is told to run, its rounds are watched, one more is asked for, it is stopped."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.browsers import opened
from tests.e2e.processes import Programs


def test_a_run_is_launched_watched_lengthened_and_stopped(programs: Programs, browser: Browser) -> None:
    agg = programs.agg("--min-clients", 2, "--wait", "--dashboard", "127.0.0.1:0")
    url, token = agg.says(r"dashboard: (http://\S+)")[1], agg.says(r"token: (\S+)")[1]
    edges = [programs.edge(name) for name in ("site-1", "site-2")]
    with opened(browser, f"{url}/login") as page:
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        expect(page.locator("#round-told")).to_have_text("The aggregator waits to be told: launch a run.")
        expect(page.locator("#sites-told")).to_contain_text("2 sites here")
        page.get_by_role("button", name="Launch…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Rounds", exact=True).fill("0")
        dialog.get_by_role("button", name="Launch").click()
        expect(dialog.locator("#launch-rounds-error")).to_contain_text("too small")
        dialog.get_by_label("Rounds", exact=True).fill("2")
        dialog.get_by_role("button", name="Launch").click()
        expect(dialog).to_be_hidden()
        closed = page.get_by_text(re.compile("Round 2 closed"))
        expect(closed).to_be_visible(timeout=60_000)
        expect(page.locator("#curves-section")).to_be_visible()
        more = page.get_by_role("button", name="One more round")
        expect(more).to_be_enabled(timeout=30_000)
        more.click()
        expect(page.get_by_text(re.compile("Round 3 closed"))).to_be_visible(timeout=60_000)
        expect(page.locator("#round-number")).to_have_text("3 of 3")
        page.get_by_role("link", name="Runs").click()
        expect(page.get_by_role("link", name="rounds")).to_have_count(1)
    assert all(edge.running for edge in edges)
    agg.interrupt()
    assert agg.wait() == 130, agg.told()
