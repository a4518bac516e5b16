"""What the dashboard costs and how soon it shows things: ``python -m benchmarks.faces``, one ``RESULT {json}`` line.

A mosquitto, ``fl-agg dashboard`` with and without a browser, and clients that are made up: 50 in a round for memory and
delay, 1,000 of which ten a second change for the frames. The browser is the system's Chromium, without a GPU.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from fl_protocol.codec import encode
from fl_protocol.messages import DataSummary, Message
from fl_protocol.transport import BrokerOptions, MqttTransport
from tests import dashboard_frames as f
from tests.brokers import mosquitto, running
from tests.browsers import QUIET, WIDE

IN_A_ROUND, IN_THE_TABLE, ROUNDS = 50, 1000, 50
FRAMES = """
() => { window.frames_ = []; window.longest_ = []; let last = performance.now();
  new PerformanceObserver((list) => list.getEntries().forEach((each) => window.longest_.push(each.duration))).observe({ entryTypes: ["longtask"] });
  const step = (now) => { window.frames_.push(now - last); last = now; requestAnimationFrame(step); }; requestAnimationFrame(step); }
"""
WATCH = """
() => { window.seen_ = {}; new MutationObserver(() => {
  const text = document.querySelector('[data-client="site-0000"]')?.textContent ?? "";
  const found = text.match(/trained (\\d+) %/); if (found && !(found[1] in window.seen_)) window.seen_[found[1]] = Date.now(); })
  .observe(document.body, { subtree: true, childList: true, characterData: true }); }
"""


def name(number: int) -> str:
    return f"site-{number:04}"


class Federation:
    """An aggregator and its clients, made up."""

    def __init__(self, broker: BrokerOptions) -> None:
        self._transport = MqttTransport(broker, "made-up", None, lambda _: None)
        self._transport.start()
        self._tell("pub/agg", f.birth())

    def close(self) -> None:
        self._transport.close(timeout_s=2.0)

    def settle(self) -> None:
        """All of it is at the broker, and a dashboard has had time to take it in."""
        while self._transport.backlog():
            time.sleep(0.02)
        time.sleep(0.5)

    def _tell(self, topic: str, message: Message, retain: bool = True) -> None:
        self._transport.publish(f"fl/1/bench/{topic}", encode(message), retain=retain)

    def join(self, count: int) -> None:
        for number in range(count):
            self.state(number, "ready", 0)
        self.settle()

    def state(self, number: int, word: str, round_number: int) -> None:
        classes = {"NORMAL": 400, "PNEUMONIA": 600 + number}
        summary = DataSummary(1000 + number, 600, 800, 200, classes=classes)
        self._tell(
            f"up/{name(number)}/state",
            f.state(word, round_number=round_number, summary=summary, device="cpu"),
        )

    def open(self, round_number: int, count: int) -> None:
        cohort = [name(number) for number in range(count)]
        self._tell(
            "pub/round",
            f.opened(*cohort, number=round_number, rounds=ROUNDS, quorum=count // 2, deadline_s=3600.0),
        )
        for number in range(count):
            self.state(number, "training", round_number)

    def progress(self, number: int, round_number: int, percent: float) -> None:
        self._tell(f"up/{name(number)}/event", f.progress(percent / 100, round_number), retain=False)

    def uploads(self, round_number: int, count: int) -> None:
        transfer, clients = f.transfer(round_number), [name(number) for number in range(count)]
        for client in clients:
            self._tell(f"up/{client}/offer/{transfer}", f.offer(round_number), retain=False)
        for held in range(1, f.MANIFEST.num_chunks, 4):
            for client in clients:
                self._tell(f"dn/{client}/ack/{transfer}", f.held(held), retain=False)
        for client in clients:
            self._tell(f"dn/{client}/ack/{transfer}", f.verdict("accepted"), retain=False)

    def lines(self, rounds: int, count: int) -> None:
        cohort = [name(number) for number in range(count)]
        self._tell("op/run", f.info("bench", accepts=("pause", "stop"), first=1, newest=rounds))
        for number in range(1, rounds + 1):
            self._tell(f"op/round/{number}", f.line(
                number, "bench", cohort=cohort, accepted=cohort, num_examples=800 * count, duration_s=20.0,
                client_examples=dict.fromkeys(cohort, 800), bytes_up=f.SIZE * count, bytes_down=f.SIZE * count,
                metrics={"auroc": 0.9, "auroc_low": 0.85, "auroc_high": 0.95, "accuracy": 0.85, "loss": 0.4},
                client_metrics={"train_loss": 0.3}, sites={each: {"auroc": 0.9, "loss": 0.3} for each in cohort},
            ))  # fmt: skip


@contextmanager
def dashboard(broker: BrokerOptions, folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process id."""
    command = [sys.executable, "-m", "aggregator", "dashboard", "--broker", broker.where, "--listen", "127.0.0.1:0",
               "--runs", str(folder)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            yield found[0], process.pid
        finally:
            process.terminate()


def memory_mb(pid: int) -> dict[str, float]:
    """What the kernel counts for the process: RSS counts shared pages whole, PSS by their sharers."""
    told = dict(
        re.findall(r"^(Rss|Pss):\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    )
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert peak is not None
    return {"rss_mb": _mb(told["Rss"]), "pss_mb": _mb(told["Pss"]), "peak_rss_mb": _mb(peak[1])}


def _mb(kilobytes: str) -> float:
    return round(int(kilobytes) / 1024, 1)


def in_a_round(federation: Federation, pid: int, page: Page, url: str) -> dict[str, Any]:
    """Memory with 50 clients in a round and a browser that looks; how soon the page is there, and an event on it."""
    federation.join(IN_A_ROUND)
    federation.lines(ROUNDS, IN_A_ROUND)
    federation.open(ROUNDS + 1, IN_A_ROUND)
    federation.settle()
    loads = []
    for _ in range(5):
        began = time.monotonic()
        page.goto(url)
        page.wait_for_selector('[data-client="site-0000"]')
        page.wait_for_selector("#curves canvas")
        loads.append(time.monotonic() - began)
    page.evaluate(WATCH)
    sent = {}
    for percent in range(1, 41):
        for number in range(1, IN_A_ROUND):
            federation.progress(number, ROUNDS + 1, percent)
        sent[percent] = time.time()
        federation.progress(0, ROUNDS + 1, percent)
        time.sleep(0.25)
    seen = {int(key): at / 1000 for key, at in page.evaluate("window.seen_").items()}
    delays = sorted(1000 * (at - sent[percent]) for percent, at in seen.items())
    federation.uploads(ROUNDS + 1, IN_A_ROUND)
    federation.settle()
    return {
        "page_usable_s": round(statistics.median(loads), 3), "page_usable_worst_s": round(max(loads), 3),
        "event_ms_median": round(statistics.median(delays)), "event_ms_worst": round(delays[-1]), "events": len(delays),
        **memory_mb(pid),
    }  # fmt: skip


def a_thousand(federation: Federation, pid: int, page: Page, url: str) -> dict[str, Any]:
    """Frames while a thousand clients are in the table and ten of them change a second, for ten seconds; and scrolling."""
    federation.join(IN_THE_TABLE)
    federation.open(ROUNDS + 2, IN_THE_TABLE)
    federation.settle()
    page.goto(url)
    page.wait_for_selector('.v-row[data-client="site-0000"]')
    page.wait_for_timeout(2000)
    page.evaluate(FRAMES)
    for step in range(100):
        federation.progress(step % 15 if step % 2 else step * 10, ROUNDS + 2, step % 100)
        if step % 10 == 0:
            page.evaluate("document.querySelector('.v-scroll').scrollBy(0, 400)")
        time.sleep(0.1)
    frames, tasks = page.evaluate("[window.frames_, window.longest_]")
    ordered = sorted(frames)
    return {
        "longest_frame_ms": round(ordered[-1]), "p99_frame_ms": round(ordered[int(len(ordered) * 0.99)]), "frames": len(frames),
        "frames_over_100_ms": sum(each > 100 for each in frames), "longest_task_ms": round(max(tasks, default=0)), **memory_mb(pid),
    }  # fmt: skip


def main() -> None:
    """Measure, and print."""
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as place,
        running(mosquitto(Path(place) / "broker", "max_queued_messages 100000")) as broker,
        dashboard(broker.options, Path(place)) as (url, pid),
    ):
        time.sleep(2.0)
        found["idle"] = memory_mb(pid)
        federation = Federation(broker.options)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
            page = browser.new_page(viewport={"width": WIDE[0], "height": WIDE[1]})
            found["in_a_round"] = in_a_round(federation, pid, page, url)
            found["a_thousand"] = a_thousand(federation, pid, page, url)
            browser.close()
        federation.close()
    print("RESULT " + json.dumps({"work": "dashboard", **found}))


if __name__ == "__main__":
    main()
