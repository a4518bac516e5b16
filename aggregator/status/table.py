"""``fl-agg status`` on a terminal: the job, its round, its clients and the round before, as rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.status.job import ClientStatus, JobStatus, aggregator_word
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
    console.print(
        _clients(status, console.width) if status.clients else Text("no client has said anything yet", "dim")
    )


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
    metrics = metric_words(last.metrics, 2) or metric_words(last.client_metrics, 2)
    return Text.assemble(
        (f"round {last.round_number} ", "dim"), (clean(last.outcome).replace("_", " "), style),
        f"  {last.accepted} accepted, {last.rejected} rejected, {last.stragglers} late",
        (f"  {seconds(last.duration_s)}  ", "dim"), metrics,
    )  # fmt: skip


Row = dict[str, Text]
COLUMNS = ("client", "state", "round", "examples", "images", "in cohort", "device", "scored there")
DROPPED_FIRST = ("device", "images", "scored there", "round", "in cohort", "examples")
"""What a narrow terminal does without: a name cut short tells less than a column that is not there."""
NUMBERS = frozenset({"round", "examples", "images"})
GAP = 2


def _clients(status: JobStatus, width: int) -> Table:
    shown = list(status.clients.items())[:MOST_CLIENTS]
    rows = [_row(name, client, name in status.cohort) for name, client in shown]
    if len(status.clients) > len(shown):
        rest = Text(f"and {len(status.clients) - len(shown)} more", "dim")
        rows.append({"client": rest, "state": Text(_tally(status.clients), "dim")})
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    kept = _columns(rows, width)
    for column in kept:
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row.get(column, Text()) for column in kept))
    return table


def _columns(rows: Sequence[Row], width: int) -> list[str]:
    """The columns that fit side by side; one that says nothing in any row is left out in any case."""
    widths = {
        column: max(len(column), *(row.get(column, Text()).cell_len for row in rows)) for column in COLUMNS
    }
    kept = [column for column in COLUMNS if any(row.get(column, Text()).plain for row in rows)]
    for column in DROPPED_FIRST:
        if sum(widths[each] + GAP for each in kept) - GAP <= width:
            break
        if column in kept:
            kept.remove(column)
    return kept


def _row(name: str, client: ClientStatus, asked: bool) -> Row:
    figures = metric_words(client.figures, 2)
    return {
        "client": Text(clean(name, 64)),
        "state": Text(clean(client.state), STYLES.get(client.state, "")),
        "round": Text(str(client.round_number or "–")),
        "examples": Text(f"{client.num_examples:,}"),
        "images": Text("–" if client.images is None else f"{client.images:,}"),
        "in cohort": Text("yes" if asked else "–", "" if asked else "dim"),
        "device": Text(clean(client.device, 40), "dim"),
        "scored there": Text(f"round={client.scored_round} {figures}" if figures else ""),
    }


def _tally(clients: Mapping[str, ClientStatus]) -> str:
    states = [client.state for client in clients.values()]
    return ", ".join(f"{states.count(state)} {clean(state)}" for state in sorted(set(states)))
