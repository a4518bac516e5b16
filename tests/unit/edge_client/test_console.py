"""The edge's progress: a line for every event, few for progress, and no rich unless on a terminal."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import fields
from typing import Any, get_args

import pytest
from rich.console import Console

from edge_client import console as c
from edge_client import notices as seen
from edge_client.console_lines import line_of
from edge_client.console_live import LiveView, Scene, draw, fold, lasting
from fl_protocol.messages import DataSummary

NASTY = "a\x1b[2J\nb mqtt://bob:hunter2@host"
SUMMARY = DataSummary(1000, 900, 850, 150, 2, 0, {"NORMAL": 300, "PNEUMONIA": 700})


def sample(event_type: type[Any], text: str) -> Any:
    """An event of ``event_type`` with ``text`` wherever a text goes."""
    kinds = {"int": 2, "float": 0.5, "float | None": 0.25, "str": text, "tuple[str, ...]": (text,),
             "DataSummary": DataSummary(1, 1, 1, 0, classes={text: 1})}  # fmt: skip
    return event_type(
        **{f.name: kinds.get(str(f.type), {"auroc": 0.5, text: 1.0}) for f in fields(event_type)}
    )


def plain(*events: seen.Event) -> list[str]:
    stream = io.StringIO()
    view = c.make_view(stream)
    for event in events:
        view.show(event)
    view.close()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("event_type", get_args(seen.Event))
def test_every_event_has_safe_lines(event_type: type[Any]) -> None:
    text = line_of(sample(event_type, NASTY))
    assert text and all(line.isprintable() for line in text.split("\n")) and "hunter2" not in text


@pytest.mark.parametrize("event_type", get_args(seen.Event))
def test_every_event_is_drawn_safely(event_type: type[Any]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, color_system=None, width=100)
    console.print(draw(fold(Scene(), sample(event_type, NASTY))))
    console.print(lasting(sample(event_type, NASTY)) or "")
    assert "\x1b" not in stream.getvalue() and "hunter2" not in stream.getvalue()


def test_a_folder_is_counts_and_a_line_for_each_note() -> None:
    assert plain(seen.DataFound("/data/x", SUMMARY, ("a.jpeg: cut short",))) == [
        "data folder=/data/x images=1000 patients=900 train=850 validation=150 unreadable=2 NORMAL=300 PNEUMONIA=700",
        "data note: a.jpeg: cut short",
    ]


def test_a_round_in_lines() -> None:
    events: list[seen.Event] = [seen.RoundJoined(3, 10, 4), *[seen.FetchAdvanced(3, i, 8) for i in range(9)], seen.TrainingAdvanced(3, 0.5, 0.41),
              seen.UploadAdvanced(3, 1, 1), seen.VerdictReceived(3, "accepted"), seen.RoundEnded(3, "closed", {"auroc": 0.9})]  # fmt: skip
    assert plain(*events) == [
        "round=3 joined of=10 cohort=4", "round=3 fetching blocks=2/8", "round=3 fetching blocks=4/8",
        "round=3 fetching blocks=6/8", "round=3 fetching blocks=8/8", "round=3 training done=50% loss=0.41",
        "round=3 uploading chunks=1/1", "round=3 update verdict=accepted", "round=3 over outcome=closed auroc=0.9",
    ]  # fmt: skip


def test_the_scene_follows_the_work() -> None:
    scene = fold(Scene(), seen.Welcomed("st-marys", "lung"))
    for i in range(60):
        scene = fold(scene, seen.TrainingAdvanced(1, i / 60, 1.0 - i / 60))
    assert scene.doing == "training" and len(scene.losses) == 40
    scene = fold(scene, seen.RoundEnded(1, "closed"))
    assert (scene.doing, scene.losses, scene.who) == ("", (), "st-marys in lung")


def test_the_live_area_leaves_a_clean_screen() -> None:
    stream = io.StringIO()
    view = LiveView(stream)
    view.show(seen.Welcomed("st-marys", "lung"))
    view.show(seen.Finished(3, model="m.safetensors"))
    view.close()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1
    assert "m.safetensors" in stream.getvalue() and stream.getvalue().endswith("\n")


def test_plain_lines_import_no_rich() -> None:
    code = (
        "import io, sys; from edge_client import console as c, notices as seen; v = c.make_view(io.StringIO()); "
        "v.show(seen.Warned('x')); sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
