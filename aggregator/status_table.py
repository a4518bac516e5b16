"""``fl-agg status`` on a terminal: the job, its round, its clients and the round before, as rich tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.status import ClientStatus, JobStatus, aggregator_word, figure_words
from fl_protocol.console import bar, clean, metric_words, part, seconds
from fl_protocol.messages import LEFT, LOST, OPEN

STYLES = {"ready": "green", "training": "cyan", "uploading": "blue", "fetching": "blue", "preparing": "cyan",
          LOST: "yellow", LEFT: "dim"}  # fmt: skip
MOST_CLIENTS = 200


def show_table(status: JobStatus, stream: TextIO, width: int | None = None) -> None:
    """Write ``status`` to a terminal."""
    console = Console(file=stream, force_terminal=True, highlight=False, width=width)
    online = {"online": "green", "away": "yellow"}.get(aggregator_word(status), "dim")
    console.print(Text.assemble(("job ", "dim"), (clean(status.job), "bold"), ("   aggregator ", "dim"),
                                (aggregator_word(status), online), ("   " + _what(status), "dim")))  # fmt: skip
    if status.malformed:
        console.print(Text(f"! {status.malformed} retained frame(s) are no message of ours", "red"))
    if status.phase:
        console.print(_round(status))
    if status.last:
        console.print(_last(status))
    console.print()
    console.print(_clients(status) if status.clients else Text("no client has said anything yet", "dim"))


def _what(status: JobStatus) -> str:
    return " ".join(clean(word) for word in (status.task, status.model) if word)


def _round(status: JobStatus) -> Text:
    text = Text.assemble(
        (f"round {status.round_number} of {status.rounds}", "bold"), f"  {clean(status.phase)}"
    )
    if status.attempt > 1:
        text.append(f", attempt {status.attempt}")
    if status.phase == OPEN:
        gauge = bar(part(status.accepted, len(status.cohort)), 16)
        text.append(
            f"  {gauge} {status.accepted} of {len(status.cohort)} updates, quorum {status.quorum}", "cyan"
        )
    if status.refused:
        text.append(f"  {status.refused} refused", "red")
    if status.aggregator_online is False:
        text.append("  (goes on when the aggregator is back)", "yellow")
    return text.append(f"  {clean(status.reason)}", "dim") if status.reason else text


def _last(status: JobStatus) -> Text:
    last = status.last
    assert last is not None
    style = {"closed": "green", "closed_short": "yellow"}.get(last.outcome, "red")
    metrics = metric_words(last.metrics) or metric_words(last.client_metrics, 3)
    return Text.assemble(
        (f"round {last.round_number} ", "dim"), (clean(last.outcome).replace("_", " "), style),
        f"  {last.accepted} accepted, {last.rejected} rejected, {last.stragglers} late",
        (f"  {seconds(last.duration_s)}  ", "dim"), metrics,
    )  # fmt: skip


def _clients(status: JobStatus) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for name, side in (("client", "left"), ("state", "left"), ("round", "right"), ("examples", "right"),
                       ("images", "right"), ("in cohort", "left"), ("device", "left"), ("model scored there", "left")):  # fmt: skip
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for name, client in list(status.clients.items())[:MOST_CLIENTS]:
        _add(table, name, client, name in status.cohort)
    if len(status.clients) > MOST_CLIENTS:
        table.add_row(Text(f"and {len(status.clients) - MOST_CLIENTS} more", "dim"), _tally(status.clients))
    return table


def _add(table: Table, name: str, client: ClientStatus, asked: bool) -> None:
    table.add_row(
        Text(clean(name, 64)), Text(clean(client.state), STYLES.get(client.state, "")), str(client.round_number or "–"),
        f"{client.num_examples:,}", "–" if client.images is None else f"{client.images:,}",
        Text("yes" if asked else "–", "" if asked else "dim"), Text(clean(client.device, 40), "dim"),
        Text(figure_words(client).removeprefix("scored_")),
    )  # fmt: skip


def _tally(clients: Mapping[str, ClientStatus]) -> str:
    states = [client.state for client in clients.values()]
    return ", ".join(f"{states.count(state)} {clean(state)}" for state in sorted(set(states)))
