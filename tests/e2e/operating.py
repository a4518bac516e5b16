"""An operator: hears what a job tells those who run it, and sends commands, over our own transport."""

from __future__ import annotations

import json
import queue
import uuid
from collections.abc import Callable
from typing import Any

from fl_protocol import messages as msg
from fl_protocol import topics
from fl_protocol.codec import decode, encode
from fl_protocol.errors import DecodeError
from fl_protocol.login import parse_address
from fl_protocol.topics import Kind, Topic
from fl_protocol.transport import BrokerOptions, MqttTransport, Received
from tests.e2e.processes import until


class Operator:
    """Connected to ``job``."""

    def __init__(self, address: str, job: str) -> None:
        self.job = job
        self.run: msg.RunInfo | None = None
        self.state: msg.RoundState | None = None
        self.lines: dict[int, dict[str, Any]] = {}
        self.answers: dict[str, list[msg.Answer]] = {}
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        host, port = parse_address(address)
        self._transport = MqttTransport(
            BrokerOptions(host, port), f"operator-{uuid.uuid4().hex[:8]}", None, self._inbox.put
        )
        self._transport.subscribe(topics.operator_filters(job))
        self._transport.start()

    def close(self) -> None:
        self._transport.close(timeout_s=2.0)

    def _listen(self) -> None:
        while not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, Received):
                self._hear(item)

    def _hear(self, item: Received) -> None:
        topic = topics.parse(item.topic)
        if topic.kind is Kind.LINE and not item.payload:
            self.lines.pop(topic.number, None)
            return
        try:
            message = decode(item.payload, topic.kind)
        except DecodeError:
            return
        if isinstance(message, msg.RunInfo):
            self.run = message
        elif isinstance(message, msg.RoundState):
            self.state = message
        elif isinstance(message, msg.RoundLine):
            self.lines[topic.number] = json.loads(message.line)
        elif isinstance(message, msg.Answer):
            self.answers.setdefault(message.id, []).append(message)

    def sees(self, what: str, wanted: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        """Wait until ``wanted()`` is true of what was heard."""

        def looked() -> Any:
            self._listen()
            return wanted()

        return until(looked, f"the operator sees {what}; run {self.run}, state {self.state}", timeout_s)

    def waits(self, reason: str, timeout_s: float = 60.0) -> None:
        """Wait until the aggregator waits and says why."""
        self.sees(
            f"waiting: {reason}",
            lambda: self.state and self.state.phase == msg.WAITING and reason in self.state.reason, timeout_s,
        )  # fmt: skip

    def ended(self, rounds: int, timeout_s: float = 60.0) -> None:
        """Wait for the line of that round."""
        self.sees(f"the line of round {rounds}", lambda: rounds in self.lines, timeout_s)

    def ask(self, action: str, client: str = "", **settings: str) -> msg.Answer:
        """Send a command; its answer."""
        return self.send(msg.Command(uuid.uuid4().hex, action, settings or None, client))

    def send(self, command: msg.Command) -> msg.Answer:
        known = len(self.answers.get(command.id, []))
        self._transport.publish(str(Topic(self.job, Kind.COMMAND)), encode(command))
        found: list[msg.Answer] = self.sees(
            f"an answer to {command}",
            lambda: len(self.answers.get(command.id, [])) > known and self.answers[command.id],
        )
        return found[-1]
