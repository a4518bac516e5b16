"""Commands: what a request may ask, and the wait for an answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fl_protocol.messages import Answer, Command
from fl_web.dashboard import commands as cm
from fl_web.dashboard.commands import Commands, Refused, command_of, field_of
from fl_web.dashboard.watch import Watch


def test_a_launch_carries_its_settings_and_others_do_not() -> None:
    job, command = command_of({"job": "x", "action": "launch", "settings": {"rounds": "3"}})
    assert (job, command.action, command.settings) == ("x", "launch", {"rounds": "3"})
    _, command = command_of({"job": "x", "action": "stop", "settings": {"rounds": "3"}, "client": "a"})
    assert (command.settings, command.client) == (None, "")
    assert command_of({"job": "x", "action": "evict", "client": "a"})[1].client == "a"


@pytest.mark.parametrize("body", [
    None, [], "stop", {}, {"job": "x"}, {"job": "../x", "action": "stop"}, {"job": "x", "action": "rm"},
    {"job": 3, "action": "stop"}, {"job": "x", "action": "evict"}, {"job": "x", "action": "evict", "client": "#"},
    {"job": "x", "action": "launch", "settings": {"rounds": 3}}, {"job": "x", "action": "launch", "settings": [1]},
    {"job": "x", "action": "launch", "settings": {"rounds": "3" * 1001}}, {"job": "x", "action": ["stop"]},
    {"job": "x", "action": "launch", "settings": {str(n): "" for n in range(65)}},
])  # fmt: skip
def test_what_is_no_command_is_refused(body: Any) -> None:
    with pytest.raises(Refused):
        command_of(body)


@pytest.mark.parametrize(("reason", "field"), [
    ("--batch-size 0 is too small: give at least 1", "batch_size"), ("--quorum 3 is above --cohort 2", "quorum"),
    ("a run is under way", ""),
])  # fmt: skip
def test_a_refusal_names_its_field(reason: str, field: str) -> None:
    assert field_of(reason) == field


class Aggregator:
    """A watch whose aggregator answers at once, in the name of ``job``, or never."""

    def __init__(self, job: str | None) -> None:
        self.job, self.asked = job, 0
        self.on_answer: Any = None

    def ask(self, _job: str, command: Command) -> None:
        self.asked += 1
        if self.job is not None:
            self.on_answer(self.job, Answer(command.id, False, "--rounds 0 is too small"))
            self.on_answer(self.job, Answer("ff", True))


def ask(watch: Aggregator) -> dict[str, Any]:
    commands = Commands(cast(Watch, watch))
    return asyncio.run(commands.ask("x", command_of({"job": "x", "action": "stop"})[1]))


def test_the_answer_is_the_aggregators() -> None:
    assert ask(Aggregator("x")) == {"ok": False, "reason": "--rounds 0 is too small", "field": "rounds"}


@pytest.mark.parametrize("job", [None, "other"])
def test_without_an_answer_of_that_job_it_is_said(monkeypatch: pytest.MonkeyPatch, job: str | None) -> None:
    monkeypatch.setattr(cm, "ANSWER_S", 0.05)
    with pytest.raises(Refused, match="did not answer") as refused:
        ask(Aggregator(job))
    assert refused.value.status == 504


def test_not_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cm, "MOST_WAITING", 0)
    watch = Aggregator("x")
    with pytest.raises(Refused, match="too many"):
        ask(watch)
    assert watch.asked == 0
