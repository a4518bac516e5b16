"""The live area of an edge client: what it does now, how far it is, and the course of the loss.

``fold`` turns an event into the next :class:`Scene`; ``draw`` turns a scene into rich text. Both are pure, so the
refresh thread only ever reads one finished value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TextIO

from rich.console import Group, RenderableType
from rich.text import Text

from edge_client import notices as seen
from edge_client.console_lines import fraction_of, line_of, summary_words
from fl_protocol.console import LiveArea, bar, clean, metric_words, sparkline

LOSSES = 40


@dataclass(frozen=True)
class Scene:
    """All that the live area shows. ``fraction`` is None where there is no telling."""

    who: str = ""
    head: str = "starting"
    doing: str = ""
    fraction: float | None = None
    note: str = ""
    losses: tuple[float, ...] = ()


def fold(scene: Scene, event: seen.Event) -> Scene:
    """The scene after ``event``; an event that has no place in it changes nothing."""
    return _FOLDS[type(event)](scene, event) if type(event) in _FOLDS else scene


def _idle(scene: Scene, head: str, note: str = "") -> Scene:
    return replace(scene, head=head, doing="", fraction=None, note=note, losses=())


def _trained(scene: Scene, event: seen.TrainingAdvanced) -> Scene:
    losses = scene.losses if event.loss is None else (*scene.losses, event.loss)[-LOSSES:]
    note = "" if event.loss is None else f"loss {clean(event.loss)}"
    return replace(scene, doing="training", fraction=fraction_of(event), note=note, losses=losses)


_FOLDS: dict[type[Any], Callable[[Scene, Any], Scene]] = {
    seen.ConnectionTried: lambda s, e: _idle(
        s, f"connecting to {e.address}", f"try {e.attempt}" if e.attempt > 1 else ""
    ),
    seen.Connected: lambda s, _: _idle(s, "connected, asking to join"),
    seen.Welcomed: lambda s, e: replace(
        _idle(s, "ready, waiting for a round"), who=f"{e.client_id} in {e.job}"
    ),
    seen.RoundJoined: lambda s, e: _idle(
        s, f"round {e.round_number} of {e.rounds}", f"{e.cohort_size} in the cohort"
    ),
    seen.FetchAdvanced: lambda s, e: replace(
        s, doing="fetching", fraction=fraction_of(e), note=f"{e.held} of {e.total} blocks"
    ),
    seen.TrainingAdvanced: _trained,
    seen.UploadAdvanced: lambda s, e: replace(
        s, doing="uploading", fraction=fraction_of(e), note=f"{e.held} of {e.total} chunks"
    ),
    seen.VerdictReceived: lambda s, e: replace(
        s, doing=e.verdict, fraction=None, note=e.reason or "waiting for the others"
    ),
    seen.RoundDeclined: lambda s, e: _idle(s, "ready, waiting for a round", e.reason),
    seen.WorkCancelled: lambda s, e: _idle(s, "ready, waiting for a round", e.reason),
    seen.RoundEnded: lambda s, _: _idle(s, "ready, waiting for a round"),
    seen.AggregatorLost: lambda s, _: _idle(s, "the aggregator is away", "this client waits for it"),
    seen.Disconnected: lambda s, e: replace(s, head="no connection to the broker", note=e.reason),
    seen.ReconnectPlanned: lambda s, e: replace(
        s, head="no connection to the broker", note=f"try {e.attempt} in {e.delay_s:.0f} s"
    ),
}


def draw(scene: Scene) -> RenderableType:
    """The live area for ``scene``."""
    rows: list[RenderableType] = [Text("")]
    rows.append(
        Text.assemble((clean(scene.head), "bold"), ("  " + clean(scene.who) if scene.who else "", "dim"))
    )
    if scene.doing or scene.note:
        gauge = f"  {bar(scene.fraction)} {100 * scene.fraction:3.0f} %" if scene.fraction is not None else ""
        rows.append(
            Text.assemble(" ", clean(scene.doing), (gauge, "cyan"), ("  " + clean(scene.note), "dim"))
        )
    if len(scene.losses) > 1:
        rows.append(Text.assemble((" loss  ", "dim"), (sparkline(scene.losses), "cyan")))
    return Group(*rows)


def lasting(event: seen.Event) -> Text | None:
    """The line that stays above the live area, for events worth keeping."""
    return _LASTING[type(event)](event) if type(event) in _LASTING else None


def _round_text(event: seen.RoundEnded) -> Text:
    style = {"closed": "green", "closed_short": "yellow"}.get(event.outcome, "red")
    return Text.assemble(
        (f"round {event.round_number:<4}", "bold"), (f" {clean(event.outcome, 20).replace('_', ' '):<13}", style),
        " ", metric_words(event.metrics, 3),
    )  # fmt: skip


def _finished_text(event: seen.Finished) -> Text:
    text = Text.assemble(
        (f"done    {event.rounds} rounds", "bold green"), (f"  {clean(event.reason)}", "dim")
    )
    return Text.assemble(text, ("\nmodel   ", "dim"), clean(event.model, 400)) if event.model else text


def _data_text(event: seen.DataFound) -> Text:
    text = Text.assemble(
        ("data    ", "dim"), clean(event.folder), (f"  {summary_words(event.summary)}", "dim")
    )
    for note in event.notes:
        text = Text.assemble(text, ("\n! ", "yellow"), clean(note, 300))
    return text


_LASTING: dict[type[Any], Callable[[Any], Text]] = {
    seen.Connected: lambda e: Text.assemble(
        ("broker  ", "dim"), clean(e.address), (f"  MQTT {clean(e.protocol)}", "dim")
    ),
    seen.Welcomed: lambda e: Text.assemble(
        ("joined  ", "dim"), (clean(e.job), "bold"), f" as {clean(e.client_id)}"
    ),
    seen.DataFound: _data_text,
    seen.RoundEnded: _round_text,
    seen.Finished: _finished_text,
    **dict.fromkeys(
        (
            seen.Refused,
            seen.Disconnected,
            seen.RoundDeclined,
            seen.WorkCancelled,
            seen.AggregatorLost,
            seen.Warned,
        ),
        lambda e: Text.assemble(("! ", "yellow"), line_of(e)),
    ),
}


class LiveView:
    """The live area and the lines above it."""

    def __init__(self, stream: TextIO) -> None:
        self._scene = Scene()
        self._area = LiveArea(stream, lambda: draw(self._scene))

    def show(self, event: seen.Event) -> None:
        self._scene = fold(self._scene, event)
        line = lasting(event)
        if isinstance(event, seen.Finished):
            self._area.close_with(line)
        elif line is not None:
            self._area.above(line)

    def close(self) -> None:
        self._area.close()
