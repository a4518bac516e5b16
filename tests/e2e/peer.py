"""A raw MQTT client that speaks, and misuses, Hilum's wire: bytes of the test's choosing on topics of its choosing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fl_protocol import messages as msg
from fl_protocol import topics
from fl_protocol.codec import decode, encode
from fl_protocol.errors import DecodeError
from fl_protocol.topics import Kind, Topic
from tests.e2e.processes import until

INSTANCE = "e" * 16


class Peer:
    """Connected as ``client`` of ``job``; hears what is sent down to it and what is for all."""

    def __init__(self, address: str, job: str, client: str) -> None:
        self.job, self.client = job, client
        self.heard: list[tuple[Topic, Any]] = []
        self._subscribed = threading.Event()
        self._mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._mqtt.max_inflight_messages_set(200)
        self._mqtt.on_message = self._on_message
        self._mqtt.on_connect = self._on_connect
        self._mqtt.on_subscribe = lambda *_: self._subscribed.set()
        host, _, port = address.partition(":")
        self._mqtt.connect(host, int(port))
        self._mqtt.loop_start()
        assert self._subscribed.wait(10)

    def _on_connect(self, *_: object) -> None:
        self._mqtt.subscribe([(name, 1) for name in topics.client_filters(self.job, self.client)])

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        try:
            topic = topics.parse(message.topic)
            self.heard.append((topic, decode(bytes(message.payload), topic.kind)))
        except DecodeError:
            pass  # somebody else's abuse

    def hears(self, what: str, wanted: Callable[[Topic, Any], bool]) -> Any:
        """The newest message that is ``wanted``; waits for one."""
        return until(
            lambda: next(
                (message for topic, message in reversed(self.heard) if wanted(topic, message)), None
            ),
            f"{self.client} hears {what}; it heard {[message for _, message in self.heard]}",
        )

    def open_round(self, number: int) -> msg.RoundState:
        """The announcement of an open round."""
        found: msg.RoundState = self.hears(
            f"round {number}",
            lambda _, message: (
                isinstance(message, msg.RoundState)
                and (message.phase, message.round_number) == (msg.OPEN, number)
            ),
        )
        return found

    def put(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish anything anywhere."""
        self._mqtt.publish(topic, payload, qos=1, retain=retain)

    def say(self, kind: Kind, message: msg.Message, client: str | None = None, transfer: str = "") -> None:
        """Publish a well-formed message as this client, or in another's name."""
        topic = Topic(self.job, kind, client=client or self.client, transfer=transfer)
        self.put(str(topic), encode(message), retain=kind is Kind.STATE)

    def ask_in(self) -> None:
        """Hello, and wait for a Welcome: also a way to know that all that was said before has been read."""
        self.heard = [entry for entry in self.heard if not isinstance(entry[1], msg.Welcome)]
        self.say(Kind.EVENT, msg.Hello(INSTANCE))
        self.hears("Welcome", lambda _, message: isinstance(message, msg.Welcome))

    def join(self, num_examples: int) -> None:
        """Become a client that could be invited."""
        self.ask_in()
        self.say(Kind.STATE, msg.ClientState(INSTANCE, msg.READY, num_examples=num_examples))
        self.ask_in()

    def leave(self) -> None:
        self.say(Kind.STATE, msg.ClientState(INSTANCE, msg.LEFT))

    def offer(
        self, offer: msg.Offer, payload: bytes = b"", *, transfer: str = "", client: str | None = None
    ) -> str:
        """Offer an update, send its one chunk if there is a ``payload``; the verdict, or its reason."""
        name = transfer or msg.transfer_id(offer.round_number, offer.manifest.digest)
        self.say(Kind.OFFER, offer, client, name)
        if payload:
            self.say(Kind.CHUNK, msg.Chunk(0, payload), client, name)
        if client not in {None, self.client}:
            return ""  # the answer is not for us to hear
        ack = self.hears(
            f"a verdict on {name}",
            lambda topic, message: (
                isinstance(message, msg.Ack) and topic.transfer == name and message.verdict is not None
            ),
        )
        return str(ack.reason or ack.verdict)

    def close(self) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()
