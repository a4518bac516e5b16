"""What operators ask of an aggregator: each command is answered, and done once, however often it comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.federation import Federation
from fl_protocol import messages as msg
from fl_protocol.bounds import MOST
from fl_protocol.codec import encode
from fl_protocol.errors import ConfigError
from fl_protocol.topics import Kind, Topic

REMEMBERED = 1000
"""Commands whose answer is known by heart, the oldest forgotten."""
RETAINED = "a command must not be retained: it would be heard again by every aggregator to come"


class Publish(Protocol):
    def __call__(self, topic: str, payload: bytes) -> None: ...


class Desk:
    """Where commands are handed in."""

    def __init__(self, job: str, publish: Publish, view: seen.View) -> None:
        self._topic = str(Topic(job, Kind.ANSWER))
        self._publish, self._view = publish, view
        self._answers: OrderedDict[str, msg.Answer] = OrderedDict()

    def take(self, command: msg.Command, perform: Callable[[msg.Command], None], *, retained: bool) -> None:
        """Let ``perform`` do it, unless it is done already, and answer. What cannot be it tells with a ConfigError."""
        answer = self._answers.get(command.id)
        if answer is None:
            answer = self._answer(command, perform, RETAINED if retained else "")
            self._answers[command.id] = answer
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        self._publish(self._topic, encode(answer))

    def _answer(
        self, command: msg.Command, perform: Callable[[msg.Command], None], objection: str
    ) -> msg.Answer:
        try:
            if objection:
                raise ConfigError(objection)
            perform(command)
        except ConfigError as error:
            self._view.show(seen.CommandTaken(command.action, command.client, str(error)))
            return msg.Answer(command.id, False, str(error)[:1000])
        self._view.show(seen.CommandTaken(command.action, command.client))
        return msg.Answer(command.id, True)


ASKED: dict[str, Callable[[msg.Command], ev.Asked]] = {
    msg.PAUSE: lambda _: ev.Paused(),
    msg.RESUME: lambda _: ev.Resumed(),
    msg.FINISH_ROUND: lambda _: ev.LastRoundSet(),
    msg.MORE: lambda command: ev.RoundsAdded(rounds_of(command.settings)),
}
"""What a command means to a federation."""
_EXAMPLE = msg.Command("0", msg.MORE, {"rounds": "1"})


def acceptable(federation: Federation) -> tuple[str, ...]:
    """The actions that a run would accept now, in the order of messages.ACTIONS."""
    fits = {action for action, asked in ASKED.items() if not federation.objection(asked(_EXAMPLE))}
    return tuple(
        action for action in msg.ACTIONS if action in fits | {msg.STOP, msg.EVICT} and not federation.over
    )


def rounds_of(settings: Mapping[str, str] | None) -> int:
    """How many rounds MORE adds. Raises ConfigError if it does not say so."""
    text = (settings or {}).get("rounds", "").strip()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= MOST:
        raise ConfigError(f"more rounds: {text[:20]!r} is no number of them: give 1 or more")
    return int(text)
