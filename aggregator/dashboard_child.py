"""``fl-agg start --dashboard``: the page as a process of its own beside the run, which ends with it and never the other way."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aggregator import notices as seen
from aggregator.children import end_child, program, start_child
from fl_protocol.broker import BrokerOptions
from fl_protocol.errors import ConfigError
from fl_protocol.login import PASSWORD_VARIABLE

STARTED_S = 30.0
FLAG, LAST_WORD = "--dashboard", "token:"
MOST_LINES = 20


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """``--dashboard`` alone is ``--dashboard ""``, the usual place: typer knows no option whose value may be left out."""
    found: list[str] = []
    for at, word in enumerate(arguments):
        found.append(word)
        after = arguments[at + 1] if at + 1 < len(arguments) else "-"
        if word == FLAG and after.startswith("-"):
            found.append("")
    return found


class SharedView:
    """A view that two threads may tell things."""

    def __init__(self, view: seen.View) -> None:
        self._view, self._lock = view, threading.Lock()

    def show(self, event: seen.Event) -> None:
        with self._lock:
            self._view.show(event)

    def close(self) -> None:
        with self._lock:
            self._view.close()


@contextmanager
def dashboard_beside(
    page: Sequence[str], broker: BrokerOptions, job: str, runs: Path, view: seen.View
) -> Iterator[seen.View]:
    """Serve the page that ``page`` tells of (:func:`page_words`; nothing: no page) for as long as the context lasts.

    Yields the view to use in it.

    Raises ConfigError if it cannot be served there. If it ends later, that is a warning, and no more.
    """
    if not page:
        yield view
        return
    shared = SharedView(view)
    lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
    process = _start(_command(page, broker, job, runs), broker.password, lines)
    ending = threading.Event()
    try:
        for line in _first_words(process, lines):
            shared.show(seen.Noted(line))
        watcher = threading.Thread(
            target=_miss, args=(process, ending, shared), name="dashboard", daemon=True
        )
        watcher.start()
        yield shared
    finally:
        ending.set()
        end_child(process)


def _command(page: Sequence[str], broker: BrokerOptions, job: str, runs: Path) -> list[str]:
    """No settings file: ``page`` has what it says, and a login of its own would be mixed with the run's."""
    words = [
        program("fl-agg"), "--config", os.devnull, "dashboard", "--broker", broker.where, "--job", job,
        "--runs", str(runs), *page,
    ]  # fmt: skip
    for name, value in (
        ("--username", broker.username),
        ("--ca", broker.ca),
        ("--cert", broker.cert),
        ("--key", broker.key),
    ):
        words += [name, value] if value else []
    return [*words, "--tls"] if broker.tls else words


def _start(
    command: list[str], password: str | None, lines: queue.Queue[str | None]
) -> subprocess.Popen[bytes]:
    """What it says goes into ``lines``; what is too much is dropped. None: it says no more."""
    from_child, to_us = os.pipe()
    with os.fdopen(to_us, "wb") as log:
        process = start_child(command, log, {PASSWORD_VARIABLE: password} if password else None, apart=True)

    def read() -> None:
        with os.fdopen(from_child, "r", encoding="utf-8", errors="replace") as said:
            for line in said:
                with contextlib.suppress(queue.Full):
                    lines.put_nowait(line.rstrip())
        with contextlib.suppress(queue.Full):
            lines.put_nowait(None)

    threading.Thread(target=read, name="dashboard-words", daemon=True).start()
    return process


def _first_words(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> Iterator[str]:
    """Where it is, and the token. Raises ConfigError if it ends instead, in its own words."""
    last = "it says nothing"
    while not last.startswith(LAST_WORD):
        try:
            line = lines.get(timeout=STARTED_S)
        except queue.Empty:
            raise ConfigError(f"the dashboard does not start ({last}): start without {FLAG}") from None
        if line is None:
            process.wait(STARTED_S)
            told = last.removeprefix("fl-agg: ").replace("another --listen", f"another {FLAG}")
            raise ConfigError(f"{told} (of {FLAG})")
        last = line
        if not line.startswith("fl-agg: "):
            yield line


def _miss(process: subprocess.Popen[bytes], ending: threading.Event, view: seen.View) -> None:
    """Say once that it is gone, if it goes before the run does."""
    code = process.wait()
    if not ending.is_set():
        view.show(seen.Warned(
            f"the dashboard has ended (code {code}); the run goes on without it: fl-agg dashboard starts another"
        ))  # fmt: skip
