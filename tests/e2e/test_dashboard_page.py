"""The dashboard in a real Chromium: what a person sees and does, by mouse and by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from aggregator.launching import checked_launch
from fl_protocol.messages import Command
from tests import dashboard_frames as f
from tests.brokers import Broker
from tests.browsers import NARROW, WIDE, is_wider_than_its_window, opened, violations
from tests.e2e.dashboards import Aggregator, Dashboard, federation
from tests.e2e.processes import Programs, until

CONFIG = b'{"synthetic": {"value": true, "source": "the data"}, "strategy": {"value": "fedavg", "source": "default"}}'
LAUNCH, ALL = ("launch", "more"), ("pause", "finish-round", "stop", "evict")


@pytest.fixture
def page_of(programs: Programs) -> Dashboard:
    return Dashboard(programs, "--runs", programs.folder)


@pytest.fixture
def aggregator(broker: Broker, programs: Programs) -> Iterator[Aggregator]:
    """Two sites and a run; a launch is judged by what a command line's would be."""

    def judge(command: Command) -> None:
        if command.action == "launch":
            checked_launch(command.settings or {}, {})

    with federation(broker, programs.job, "site-a", "site-b", judge=judge) as found:
        found.tell("op/run", f.info(config=CONFIG, accepts=LAUNCH))
        yield found


def log_in(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.url}/login")
    page.get_by_label("Token").fill(dashboard.token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{dashboard.url}/")


def open_form(page: Page) -> None:
    page.get_by_role("button", name="Launch…").click()
    expect(page.get_by_label("Quorum")).to_be_visible()


def run_rounds(aggregator: Aggregator, rounds: int) -> None:
    for number in range(1, rounds + 1):
        refused = [{"client_id": "site-b", "reason": "bad_norm", "count": 1}] if number == 2 else []
        aggregator.tell(f"op/round/{number}", f.line(
            number, metrics={"auroc": 0.8 + number / 50, "auroc_low": 0.75, "auroc_high": 0.95, "accuracy": 0.8, "loss": 0.5},
            sites={"a": {"auroc": 0.8}}, rejected=refused, phases={"train": 3.0, "upload": 1.0},
        ))  # fmt: skip


def test_a_round_is_watched_as_it_happens(
    page_of: Dashboard, aggregator: Aggregator, browser: Browser
) -> None:
    with opened(browser, page_of.url) as page:
        expect(page.locator("#job-name")).to_have_text(aggregator.job)
        expect(page.locator("#synthetic")).to_be_visible()
        aggregator.tell("pub/round", f.opened("site-a", "site-b", quorum=2))
        expect(page.locator("#round-number")).to_have_text("1 of 3")
        tile = page.locator('[data-client="site-a"]')
        aggregator.tell("up/site-a/state", f.state("training", seq=1))
        aggregator.tell("up/site-a/event", f.progress(0.4), retain=False)
        expect(tile).to_contain_text("trained 40 %")
        aggregator.tell("up/site-a/state", f.state("uploading", seq=2))
        aggregator.tell(f"up/site-a/offer/{f.TRANSFER}", f.OFFER, retain=False)
        aggregator.tell(f"dn/site-a/ack/{f.TRANSFER}", f.held(10), retain=False)
        expect(tile).to_contain_text("uploaded")
        aggregator.tell(f"dn/site-a/ack/{f.TRANSFER}", f.verdict("accepted"), retain=False)
        expect(tile).to_contain_text("update accepted")
        expect(page.locator("#quorum-told")).to_contain_text("1 of 2 updates are in")
        run_rounds(aggregator, 3)
        expect(page.locator("#curves canvas").first).to_be_visible()
        expect(page.locator("#figures")).to_contain_text("0.860")
        page.get_by_role("button", name="Round 2: show what happened").click()
        expect(page.locator(".event.pointed")).to_contain_text("site-b: bad_norm")
        assert page.locator("#operate button").count() == 0


def test_the_keyboard_alone_is_enough(page_of: Dashboard, aggregator: Aggregator, browser: Browser) -> None:
    with opened(browser, f"{page_of.url}/login") as page:
        page.keyboard.type(page_of.token)  # the field has the focus
        page.keyboard.press("Enter")
        page.wait_for_url(f"{page_of.url}/")
        expect(page.get_by_role("button", name="One more round")).to_be_enabled()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.dataset.action") == "more":
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Enter")
        expect(page.get_by_text("It goes on.")).to_be_visible()
        assert [(each.action, each.settings) for each in aggregator.asked] == [("more", {"rounds": "1"})]


def test_a_launch_is_judged_by_the_aggregator_and_errors_stand_at_their_field(
    page_of: Dashboard, aggregator: Aggregator, browser: Browser
) -> None:
    with opened(browser, page_of.url) as page:
        log_in(page, page_of)
        page.get_by_role("button", name="Launch…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Rounds", exact=True).fill("3")
        dialog.get_by_label("Batch size").fill("0")
        dialog.get_by_role("button", name="Launch").click()
        field = dialog.get_by_label("Batch size")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        expect(dialog.locator("#launch-batch_size-error")).to_contain_text("too small")
        field.fill("16")
        dialog.get_by_role("button", name="Launch").click()
        expect(dialog).to_be_hidden()
        expect(page.get_by_text("The run is launched.")).to_be_visible()
        assert aggregator.asked[-1].settings == {"rounds": "3", "batch_size": "16"}


def test_what_cannot_be_taken_back_is_asked_first(
    page_of: Dashboard, aggregator: Aggregator, browser: Browser
) -> None:
    aggregator.tell("op/run", f.info(config=CONFIG, accepts=ALL))
    with opened(browser, page_of.url) as page:
        log_in(page, page_of)
        expect(page.get_by_role("button", name="Launch…")).to_be_disabled()
        page.get_by_role("button", name="Stop now").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Evict site-b").click()
        dialog.get_by_role("button", name="Evict").click()
        expect(page.get_by_text("The site is sent away.")).to_be_visible()
        assert [(each.action, each.client) for each in aggregator.asked] == [("evict", "site-b")]


def test_a_thousand_sites_are_a_table_of_which_few_rows_exist(
    page_of: Dashboard, aggregator: Aggregator, browser: Browser
) -> None:
    names = [f"site-{number:04}" for number in range(1000)]
    try:
        for name in names:
            aggregator.tell(f"up/{name}/state", f.state())
        with opened(browser, page_of.url) as page:
            expect(page.locator("#sites-told")).to_contain_text("1,002 sites here")
            rows = page.locator(".v-rows .v-row:not([hidden])")
            assert rows.count() < 60
            assert page.get_by_role("table", name="Sites").get_attribute("aria-rowcount") == "1003"
            page.locator(".v-scroll").evaluate("node => node.scrollTo(0, node.scrollHeight)")
            expect(page.locator('[data-client="site-0999"]')).to_be_visible()
            aggregator.tell("up/site-0999/state", f.state("training", seq=1))
            expect(page.locator('[data-client="site-0999"]')).to_contain_text("training")
            page.get_by_label("Show sites whose name has").fill("site-0500")
            expect(rows).to_have_count(1)
    finally:
        for name in names:
            aggregator.tell(f"up/{name}/state", None)


def test_the_page_goes_on_by_itself_after_the_dashboard_was_away(
    programs: Programs, aggregator: Aggregator, browser: Browser
) -> None:
    first = Dashboard(programs)
    port = first.url.rsplit(":", 1)[1]
    with opened(browser, first.url) as page:
        expect(page.locator("#link")).to_have_text("live")
        first.program.interrupt()
        first.program.wait()
        expect(page.locator("#link")).to_have_text("not live")
        Dashboard(programs, "--listen", f"127.0.0.1:{port}")
        aggregator.tell("pub/round", f.opened("site-a", number=2))
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#round-number")).to_have_text("2 of 3")


def test_an_empty_broker_says_what_to_do_next(programs: Programs, browser: Browser) -> None:
    with opened(browser, Dashboard(programs, "--job", "nothing-runs-here").url) as page:
        expect(page.locator("#empty")).to_contain_text("fl-edge join --broker")
        assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_no_serious_fault_for_those_who_cannot_see_or_point(
    programs: Programs, aggregator: Aggregator, browser: Browser, size: tuple[int, int], scheme: str
) -> None:
    for name in ("one", "two"):
        folder = programs.folder / name
        folder.mkdir()
        (folder / "config.json").write_bytes(CONFIG.replace(b"fedavg", name.encode()))
        (folder / "rounds.jsonl").write_bytes(
            b"".join(f.line(number, metrics={"auroc": 0.9}).line + b"\n" for number in (1, 2))
        )
    dashboard = Dashboard(programs, "--job", programs.job, "--runs", programs.folder)
    run_rounds(aggregator, 3)
    aggregator.tell("pub/round", f.opened("site-a", "site-b", quorum=2))
    visits: list[tuple[str, Callable[[Page], object]]] = [
        ("/login", lambda page: page.get_by_label("Token")),
        ("/", lambda page: expect(page.locator("#curves canvas").first).to_be_visible()),
        ("/", lambda page: page.get_by_role("button", name="Table").click()),
        ("/", open_form),
        ("/runs", lambda page: expect(page.get_by_role("link", name="one")).to_be_visible()),
        ("/runs/compare?run=one&run=two", lambda page: expect(page.locator("canvas").first).to_be_visible()),
        ("/runs/compare?run=one", lambda page: expect(page.locator("canvas").first).to_be_visible()),
        ("/runs/compare?run=none", lambda page: expect(page.get_by_text("There is no such run.")).to_be_visible()),
    ]  # fmt: skip
    with opened(browser, f"{dashboard.url}/login", size, scheme) as page:
        assert violations(page) == []
        log_in(page, dashboard)
        for path, see in visits[1:]:
            page.goto(dashboard.url + path)
            see(page)
            assert violations(page) == [], path
            assert not is_wider_than_its_window(page), path


def test_light_and_dark_are_kept(page_of: Dashboard, aggregator: Aggregator, browser: Browser) -> None:
    with opened(browser, page_of.url) as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        button = page.get_by_role("button", name="Colours")
        button.click()
        button.click()
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        assert page.evaluate(ground) == dark
        until(lambda: page.evaluate("document.documentElement.dataset.theme") == "dark", "it is dark")
