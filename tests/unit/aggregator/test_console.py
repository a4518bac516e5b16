"""The aggregator's progress: a line for every event, few lines for progress, nothing that a peer can abuse."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any, get_args

import pytest
from rich.console import Console

from aggregator import console as c
from aggregator import notices as seen
from aggregator.console_lines import line_of
from aggregator.console_live import LiveView, Scene, draw, fold, lasting
from fl_protocol.errors import ConfigError

RECORD = {
    "round": 3, "outcome": "closed", "cohort": ["a", "b", "c"], "accepted": ["a", "b", "c"], "rejected": [],
    "stragglers": [], "num_examples": 2613, "bytes_down": 10, "bytes_up": 30, "duration_s": 41.2,
    "metrics": {"loss": 0.31, "auroc": 0.9123, "auroc_low": 0.8}, "client_metrics": {"train_loss": 0.25},
}  # fmt: skip
NASTY = 'a\x1b[2J\nb "c" mqtt://bob:hunter2@host'


def sample(event_type: type[Any], text: str) -> Any:
    """An event of ``event_type`` with ``text`` wherever a text goes."""
    kinds = {"int": 2, "float": 0.5, "float | None": 0.25, "str": text, "tuple[str, ...]": (text, "b")}
    values = {f.name: kinds.get(str(f.type), {"auroc": 0.5, text: 1.0}) for f in fields(event_type)}
    return event_type(**values)


def plain(*events: seen.Event) -> list[str]:
    stream = io.StringIO()
    view = c.make_view(stream)
    for event in events:
        view.show(event)
    view.close()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("event_type", get_args(seen.Event))
def test_every_event_has_one_safe_line(event_type: type[Any]) -> None:
    line = line_of(sample(event_type, NASTY))
    assert line and line.isprintable() and "hunter2" not in line


@pytest.mark.parametrize("event_type", get_args(seen.Event))
def test_every_event_is_drawn_safely(event_type: type[Any]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, color_system=None, width=100)
    scene = fold(fold(Scene(), seen.RoundOpened(1, 2, (NASTY, "b"))), sample(event_type, NASTY))
    console.print(draw(scene))
    console.print(lasting(sample(event_type, NASTY)) or "")
    assert "\x1b" not in stream.getvalue() and "hunter2" not in stream.getvalue()


def test_the_line_of_a_round() -> None:
    (line,) = plain(seen.RoundEnded(RECORD))
    assert line == (
        "round=3 outcome=closed cohort=3 accepted=3 rejected=0 stragglers=0 examples=2613 bytes_down=10 bytes_up=30 "
        "took=41s auroc=0.9123 loss=0.31 client_train_loss=0.25"
    )


@pytest.mark.parametrize("record", [{}, {"round": None, "cohort": 3, "metrics": "x", "duration_s": "soon"}])
def test_an_odd_record_is_still_a_line(record: dict[str, Any]) -> None:
    assert len(plain(seen.RoundEnded(record))) == 1
    assert lasting(seen.RoundEnded(record)) is not None
    assert fold(Scene(), seen.RoundEnded(record)).note == "ended"


def test_progress_speaks_once_a_quarter() -> None:
    steps = [seen.TrainingAdvanced("a", 1, i / 100, 0.5) for i in range(101)]
    lines = plain(seen.RoundOpened(1, 2, ("a",)), *steps, *steps)
    assert [line.split("done=")[1].split()[0] for line in lines if "training" in line] == [
        "25%",
        "50%",
        "75%",
        "100%",
    ] * 2


def test_large_cohorts_stay_quiet_about_single_progress() -> None:
    cohort = tuple(f"c{i}" for i in range(40))
    lines = plain(
        seen.RoundOpened(1, 2, cohort), seen.TrainingAdvanced("c1", 1, 1.0), seen.UpdateAccepted("c1", 1, 9)
    )
    assert len(lines) == 2 and lines[0].endswith("c7,+32")


def test_a_flood_of_refusals_is_said_once_a_round() -> None:
    flood = [seen.UpdateRejected("a", 1, "non_finite")] * 100
    varied = [seen.UpdateRejected("a", 1, f"bad {i}") for i in range(1000)]
    assert len(plain(*flood)) == 1
    assert len(plain(*varied)) == 50
    assert len(plain(*flood, seen.RoundOpened(2, 3, ("a",)), *flood)) == 3


def test_waiting_is_said_when_it_changes() -> None:
    assert len(plain(*[seen.WaitedForClients(1, 3)] * 5, seen.WaitedForClients(2, 3))) == 2


def test_a_reader_that_went_away_does_not_stop_the_run() -> None:
    stream = io.StringIO()
    view = c.make_view(stream)
    stream.close()
    view.show(seen.Warned("x"))
    view.show(seen.Warned("y"))


def test_a_stream_without_the_letters_gets_other_letters() -> None:
    raw = io.BytesIO()
    view = c.make_view(io.TextIOWrapper(raw, "ascii", write_through=True))
    view.show(seen.Warned("häng … 1"))
    assert raw.getvalue() == b"warning: h?ng ? 1\n"


def test_the_view_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    view = c.make_view(Terminal())
    view.close()
    assert isinstance(view, LiveView)
    assert isinstance(c.make_view(Terminal(), "plain"), c.PlainView)
    assert isinstance(c.make_view(io.StringIO()), c.PlainView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(c.make_view(Terminal()), c.PlainView)
    with pytest.raises(ConfigError, match="live or plain"):
        c.make_view(io.StringIO(), "loud")


def test_the_scene_follows_the_clients_of_the_round() -> None:
    scene = Scene()
    for event in (seen.RoundOpened(2, 5, ("a", "b"), 2, 1), seen.TrainingAdvanced("a", 2, 7.0, None),
                  seen.UploadAdvanced("b", 2, 1, 4), seen.TrainingAdvanced("stranger", 2, 0.5)):  # fmt: skip
        scene = fold(scene, event)
    assert scene.head == "round 2 of 5, attempt 2"
    assert (scene.clients["a"].what, scene.clients["a"].fraction) == ("training", 1.0)
    assert (scene.clients["b"].what, scene.clients["b"].fraction) == ("uploading", 0.25)
    assert "stranger" not in scene.clients


def test_metrics_keep_their_course_with_gaps() -> None:
    scene = Scene()
    for metrics in ({"auroc": 0.5}, None, {"auroc": 0.7, "loss": 0.2}):
        scene = fold(scene, seen.RoundEnded({**RECORD, "metrics": metrics, "client_metrics": None}))
    assert scene.history == {"auroc": (0.5, None, 0.7), "loss": (None, None, 0.2)}


def test_the_live_area_ends_with_what_was_reached() -> None:
    stream = io.StringIO()
    view = LiveView(stream)
    view.show(seen.RoundOpened(1, 1, ("a",)))
    view.show(seen.RoundEnded(RECORD))
    view.show(seen.Finished(1, report="file:///r/report.html"))
    view.close()
    view.close()
    ending = stream.getvalue().split("round 3")[-1]
    assert "file:///r/report.html" in ending and stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1
