"""Every button of the page against a real run: what was clicked has happened to the aggregator and to its edges."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.browsers import opened
from tests.e2e.processes import Programs, rounds

SLOW_MS = 60_000


def click(page: Page, name: str) -> None:
    button = page.get_by_role("button", name=name, exact=True)
    expect(button).to_be_enabled(timeout=SLOW_MS)
    button.click()


def confirm(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def stands(page: Page, round_text: str, told: str) -> None:
    expect(page.locator("#round-number")).to_have_text(round_text, timeout=SLOW_MS)
    expect(page.locator("#round-told")).to_contain_text(told, timeout=SLOW_MS)


def test_pause_evict_resume_stop_after_the_round_and_stop_now(programs: Programs, browser: Browser) -> None:
    """Training waits for a file, so a round stays open for as long as the test wants it to."""
    gate = programs.folder / "gate"
    gate.touch()
    agg = programs.agg(
        "--wait", "--min-clients", 2, "--quorum", "1.0", "--grace", 1, "--dashboard", "127.0.0.1:0"
    )
    url, token = agg.says(r"dashboard: (http://\S+)")[1], agg.says(r"token: (\S+)")[1]
    how = {"ECHO_GATE": str(gate), "ECHO_DELAY_S": "0.3"}
    edges = {name: programs.edge(name, env=how) for name in ("one", "two", "three")}
    run = programs.run_dir / "001"
    with opened(browser, f"{url}/login") as page:
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#sites-told")).to_contain_text("3 sites here", timeout=SLOW_MS)
        click(page, "Launch…")
        page.get_by_role("dialog").get_by_label("Rounds", exact=True).fill("1000")
        page.get_by_role("dialog").get_by_role("button", name="Launch").click()
        expect(page.get_by_text(re.compile("Round 1 closed"))).to_be_visible(timeout=SLOW_MS)

        click(page, "Pause")
        expect(page.locator("#round-told")).to_have_text(
            "Paused: no round opens until it is resumed.", timeout=SLOW_MS
        )
        gate.unlink()
        done = len(rounds(run))
        page.get_by_role("button", name="Evict three").click()
        confirm(page, "Evict")
        assert edges["three"].wait() == 3, edges["three"].told()
        assert "sent away by an operator" in edges["three"].err
        expect(page.locator('[data-client="three"]')).to_contain_text("has left")

        click(page, "Resume")
        stands(page, f"{done + 1} of 1,000", "2 more updates until quorum")
        click(page, "Stop after this round")
        expect(page.locator("#job-pills")).to_contain_text("stops after this round")
        gate.touch()
        stands(page, f"{done + 1} of {done + 1}", f"stopped by an operator after round {done + 1}")
        assert rounds(run)[-1]["cohort"] == ["one", "two"], "no round opened while it was paused"

        gate.unlink()
        click(page, "Resume")
        stands(page, f"{done + 2} of 1,000", "2 more updates until quorum")
        page.get_by_role("button", name="Stop now").click()
        confirm(page, "Cancel")
        expect(page.locator("#job-pills")).to_contain_text("round open")
        page.get_by_role("button", name="Stop now").click()
        confirm(page, "Stop now")
        stands(page, f"{done + 1} of {done + 1}", f"stopped by an operator after round {done + 1}")
        assert len(rounds(run)) == done + 1, "the open round was given up"
        gate.touch()
        assert edges["one"].running and edges["two"].running
    agg.interrupt()
    assert agg.wait() == 130, agg.told()
