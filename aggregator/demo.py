"""``fl-agg demo``: a broker, an aggregator and edges on this machine, as the processes they would be elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aggregator.children import PATIENCE_S, end_child, program, start_child
from aggregator.dashboard_options import page_variables
from aggregator.local_broker import LocalBroker, start
from fl_protocol.errors import HilumError
from fl_tasks.phantoms import write_phantoms


@dataclass(frozen=True)
class DemoSettings:
    data: Path | None
    clients: int
    rounds: int
    out: Path
    fresh: bool
    more: tuple[str, ...] = ()
    """Further options for ``fl-agg start``."""


def demo(settings: DemoSettings, say: Callable[[str], None]) -> int:
    """Run the demonstration to its end and return the aggregator's exit code. Leaves no process behind."""
    settings.out.mkdir(parents=True, exist_ok=True)
    data = settings.data
    if data is None:
        data = settings.out / "phantoms"
        if not data.is_dir():
            say("no --data: drawing synthetic phantoms; their figures say nothing of real X-rays")
            draft = settings.out / f".phantoms.{os.getpid()}.tmp"
            with _removed(draft):
                write_phantoms(draft)
                draft.replace(data)
    with ExitStack() as stack:
        shutil.rmtree(
            settings.out / "broker", ignore_errors=True
        )  # an ended run must not be news to the edges
        broker = start(settings.out / "broker")
        stack.callback(broker.stop)
        say(f"broker: {broker.kind} on {broker.options.where}")
        aggregator = start_child(_aggregator_command(settings, data, broker), more=page_variables())
        stack.callback(end_child, aggregator)
        edges = [_start_edge(settings, data, broker, k, stack) for k in range(1, settings.clients + 1)]
        say(f"edges: {settings.clients} processes; what they say is in {settings.out / 'edges'}")
        code = _watch(aggregator, edges)
        if code == 0:
            _let_leave(edges)
        return code


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _aggregator_command(settings: DemoSettings, data: Path, broker: LocalBroker) -> list[str]:
    command = [
        program("fl-agg"), "start", "--broker", broker.options.where, "--rounds", str(settings.rounds),
        "--min-clients", str(settings.clients), "--job", "demo", "--out", str(settings.out), *settings.more,
    ]  # fmt: skip
    if (data / "test").is_dir():
        command += ["--eval-data", str(data)]
    return command + (["--fresh"] if settings.fresh or _is_over(settings, data) else [])


def _is_over(settings: DemoSettings, data: Path) -> bool:
    """Whether the run directory holds a run that ended, or one on other data: the demonstration begins anew then."""
    try:
        before = json.loads((settings.out / "config.json").read_text("utf-8"))
        lines = (settings.out / "rounds.jsonl").read_text("utf-8").count("\n")
    except (OSError, ValueError):
        return False
    known = before.get("eval_data", {}).get("value")
    return lines >= settings.rounds or known not in (None, str(data))


def _start_edge(
    settings: DemoSettings, data: Path, broker: LocalBroker, k: int, stack: ExitStack
) -> subprocess.Popen[bytes]:
    folder = settings.out / "edges"
    folder.mkdir(exist_ok=True)
    log = stack.enter_context((folder / f"site-{k}.log").open("wb"))
    threads = max(1, (os.cpu_count() or 1) // settings.clients)
    command = [
        program("fl-edge"), "join", "--broker", broker.options.where, "--job", "demo", "--data", str(data),
        "--shard", f"{k}/{settings.clients}", "--client-id", f"site-{k}", "--workdir", str(folder / f"site-{k}"),
        "--threads", str(threads),
    ]  # fmt: skip
    edge = start_child(command, log)
    stack.callback(end_child, edge)
    return edge


def _watch(aggregator: subprocess.Popen[bytes], edges: list[subprocess.Popen[bytes]]) -> int:
    """Wait for the aggregator; an edge that ends much before it ends the demonstration with its reason."""
    first_left: float | None = None
    while (code := aggregator.poll()) is None:
        for number, edge in enumerate(edges, 1):
            if edge.poll() is None:
                continue
            first_left = first_left or time.monotonic()
            if edge.returncode != 0 or time.monotonic() > first_left + 2 * PATIENCE_S:
                raise HilumError(
                    f"edge site-{number} ended with code {edge.returncode}: see edges/site-{number}.log"
                )
        time.sleep(0.1)
    return code


def _let_leave(edges: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + PATIENCE_S
    for edge in edges:
        with contextlib.suppress(subprocess.TimeoutExpired):
            edge.wait(max(0.0, until - time.monotonic()))
