"""The live area of the aggregator: the round, who trains, who uploads how far, and the metrics so far.

``fold`` turns an event into the next :class:`Scene`; ``draw`` turns a scene into rich text. Both are pure, so the
refresh thread only ever reads one finished value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aggregator import notices as seen
from aggregator.console_lines import Refusals, count, line_of
from fl_protocol.console import LiveArea, bar, clean, metric_words, numbers, part, seconds, share, sparkline

MOST_ROWS = 12
HISTORY = 40
STYLES = {"training": "cyan", "uploading": "blue", "accepted": "green", "rejected": "red", "lost": "yellow",
          "left": "yellow", "declined": "yellow", "late": "yellow", "invited": "dim"}  # fmt: skip
ACTIVE_FIRST = (
    "uploading",
    "training",
    "invited",
    "rejected",
    "late",
    "declined",
    "lost",
    "left",
    "accepted",
)


Course = tuple[float | None, ...]
"""A metric's value per round, None where a round had none."""


@dataclass(frozen=True)
class Doing:
    """What one client of the cohort does, and how far it is (None where there is no telling)."""

    what: str = "invited"
    fraction: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Scene:
    """All that the live area shows."""

    head: str = "starting"
    note: str = ""
    clients: Mapping[str, Doing] = field(default_factory=dict)
    history: Mapping[str, Course] = field(default_factory=dict)

    def client(self, client_id: str, doing: Doing) -> Scene:
        """The scene in which a client of the cohort does something else; others are not shown."""
        if client_id not in self.clients:
            return self
        return replace(self, clients={**self.clients, client_id: doing})


def fold(scene: Scene, event: seen.Event) -> Scene:
    """The scene after ``event``; an event that has no place in it changes nothing."""
    if type(event) in _FOLDS:
        return _FOLDS[type(event)](scene, event)
    if type(event) in _DOINGS:
        return scene.client(getattr(event, "client_id"), _DOINGS[type(event)](event))  # noqa: B009
    return scene


def _opened(scene: Scene, event: seen.RoundOpened) -> Scene:
    again = f", attempt {event.attempt}" if event.attempt > 1 else ""
    return replace(
        scene, head=f"round {event.round_number} of {event.rounds}{again}",
        note=f"quorum {event.quorum} of {len(event.cohort)}", clients={name: Doing() for name in event.cohort},
    )  # fmt: skip


_FOLDS: dict[type[Any], Callable[[Scene, Any], Scene]] = {
    seen.WaitedForClients: lambda s, e: replace(
        s, head=f"waiting for clients: {e.present} of {e.needed}", note="", clients={}
    ),
    seen.WaitedForOperator: lambda s, e: replace(s, head="waiting for an operator", note=e.why, clients={}),
    seen.Resumed: lambda s, e: replace(
        s, head=f"resumed at round {e.round_number}", note=f"{e.held} updates kept"
    ),
    seen.RoundOpened: _opened,
    seen.AggregationStarted: lambda s, e: replace(s, note=f"aggregating {e.accepted} updates"),
    seen.Evaluated: lambda s, e: replace(s, note=metric_words(e.metrics, 3)),
    seen.ConnectionLost: lambda s, _: replace(s, note="no connection to the broker, trying again"),
    seen.ConnectionRestored: lambda s, _: replace(s, note=""),
    seen.RoundEnded: lambda s, e: replace(s, note="ended", history=_longer(s.history, e.record)),
}

_DOINGS: dict[type[Any], Callable[[Any], Doing]] = {
    seen.TrainingAdvanced: lambda e: Doing(
        "training", share(e.fraction), "" if e.loss is None else f"loss {clean(e.loss)}"
    ),
    seen.UploadAdvanced: lambda e: Doing("uploading", part(e.held, e.total), f"{e.held} of {e.total} chunks"),
    seen.UpdateAccepted: lambda e: Doing("accepted", 1.0, f"{e.num_examples:,} examples"),
    seen.UpdateRejected: lambda e: Doing("rejected", None, clean(e.reason, 60)),
    seen.ClientDeclined: lambda e: Doing("declined", None, clean(e.reason, 60)),
    seen.UpdateLate: lambda _: Doing("late"),
    seen.ClientLeft: lambda e: Doing(clean(e.how, 12)),
}


def _longer(history: Mapping[str, Course], record: Mapping[str, Any]) -> dict[str, Course]:
    """Each metric's course with the record's value, or a gap, at its end."""
    central, reported = numbers(record.get("metrics")), numbers(record.get("client_metrics"))
    found: dict[str, float] = {
        name: central[name] for name in ("auroc", "accuracy", "loss") if name in central
    }
    found |= {f"clients' {name}": reported[name] for name in ("val_auroc", "train_loss") if name in reported}
    width = max((len(course) for course in history.values()), default=0)
    every = [*history, *(name for name in found if name not in history)]
    return {name: (*history.get(name, (None,) * width), found.get(name))[-HISTORY:] for name in every}


def draw(scene: Scene) -> RenderableType:
    """The live area for ``scene``."""
    head = Text.assemble((clean(scene.head), "bold"), ("  " + clean(scene.note) if scene.note else "", "dim"))
    parts: list[RenderableType] = [Text(""), head]
    if scene.clients:
        parts.append(_client_table(scene.clients))
    if any(value is not None for course in scene.history.values() for value in course):
        parts.append(_metric_table(scene.history))
    return Group(*parts)


def _client_table(clients: Mapping[str, Doing]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=True)
    order = sorted(
        clients,
        key=lambda name: ACTIVE_FIRST.index(clients[name].what) if clients[name].what in ACTIVE_FIRST else 99,
    )
    shown = list(clients) if len(clients) <= MOST_ROWS else order[:MOST_ROWS]
    for name in shown:
        doing = clients[name]
        style = STYLES.get(doing.what, "")
        gauge = f"{bar(doing.fraction)} {100 * doing.fraction:3.0f} %" if doing.fraction is not None else ""
        table.add_row(
            Text(clean(name, 28)), Text(doing.what, style), Text(gauge, style), Text(doing.note, "dim")
        )
    if len(clients) > len(shown):
        done = sum(doing.what == "accepted" for doing in clients.values())
        table.add_row(
            Text(f"and {len(clients) - len(shown)} more", "dim"), Text(f"{done} accepted", "dim"), "", ""
        )
    return table


def _metric_table(history: Mapping[str, Course]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=True)
    for name, course in history.items():
        known = [value for value in course if value is not None]
        if known:
            table.add_row(Text(name), Text(f"{known[-1]:.4g}", "bold"), Text(sparkline(course), "cyan"))
    return table


def lasting(event: seen.Event) -> Text | None:
    """The line that stays above the live area, for events worth keeping."""
    if isinstance(event, _ALARMS):
        return Text.assemble(("! ", "red"), line_of(event))
    if isinstance(
        event,
        seen.Resumed | seen.ConnectionRestored | seen.CommandTaken | seen.WaitedForOperator | seen.Stopped,
    ):
        return Text(line_of(event), "dim")
    return _LASTING[type(event)](event) if type(event) in _LASTING else None


_ALARMS = (seen.ClientRefused, seen.UpdateRejected, seen.Warned, seen.ConnectionLost)


def _joined_text(event: seen.ClientJoined) -> Text:
    more = f"  {event.num_examples:,} examples" * (event.num_examples > 0) + f"  {clean(event.device, 40)}"
    return Text.assemble(("+ ", "green"), clean(event.client_id, 64), (more.rstrip(), "dim"))


def _finished_text(event: seen.Finished) -> Text:
    text = Text(f"done    {event.rounds} rounds", "bold green")
    for word, value in (("model   ", event.model), ("best    ", event.best), ("report  ", event.report)):
        text = Text.assemble(text, (f"\n{word}", "dim"), clean(value, 400)) if value else text
    return text


def _record_text(record: Mapping[str, Any]) -> Text:
    outcome = clean(record.get("outcome", "?"), 20)
    style = {"closed": "green", "closed_short": "yellow"}.get(outcome, "red")
    metrics = metric_words(record.get("metrics"), 2) or metric_words(record.get("client_metrics"), 2)
    who = f"{count(record, 'accepted')} of {count(record, 'cohort')}"
    return Text.assemble(
        (f"round {clean(record.get('round', '?'), 10):<4}", "bold"), (f" {outcome.replace('_', ' '):<13}", style),
        f" {who:<9}", (f" {seconds(record.get('duration_s')):>12}  ", "dim"), metrics,
    )  # fmt: skip


_LASTING: dict[type[Any], Callable[[Any], Text]] = {
    seen.BrokerStarted: lambda e: Text.assemble(
        ("broker  ", "dim"), clean(e.address), (f"  {clean(e.kind)}", "dim")
    ),
    seen.JoinLine: lambda e: Text.assemble(("join    ", "dim"), (clean(e.command, 400), "bold")),
    seen.Noted: lambda e: Text(clean(e.text, 400)),
    seen.ClientJoined: _joined_text,
    seen.ClientLeft: lambda e: Text.assemble(
        ("- ", "yellow"), clean(e.client_id, 64), (f"  {clean(e.how)}", "dim")
    ),
    seen.RoundEnded: lambda e: _record_text(e.record),
    seen.EndedEarly: lambda e: Text(clean(e.reason, 400), "yellow"),
    seen.Finished: _finished_text,
}


class LiveView:
    """The live area and the lines above it."""

    def __init__(self, stream: TextIO) -> None:
        self._scene = Scene()
        self._refusals = Refusals()
        self._area = LiveArea(stream, lambda: draw(self._scene))

    def show(self, event: seen.Event) -> None:
        self._scene = fold(self._scene, event)
        line = None if self._refusals.silences(event) else lasting(event)
        if isinstance(event, seen.Finished | seen.Stopped):
            self._area.close_with(line)
        elif line is not None:
            self._area.above(line)

    def close(self) -> None:
        self._area.close()
