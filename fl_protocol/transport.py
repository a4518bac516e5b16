"""The only door to the network: MQTT through paho, told in four events. The only module that imports paho.

One thread owns the connection: it alone calls paho (through paho's external-loop calls), so that no lock of ours
is ever held around ``publish`` and no callback can meet one. The owner's calls only append to queues and wake it.

What the owner may rely on:

* MQTT 5 where the broker speaks it, else 3.1.1. Every connection starts clean: after Connected the transport has
  subscribed again to everything it was asked for, and what was unacknowledged is sent again, in order, per lane.
* A message is sent at least once or reported as Undelivered. ``bulk`` messages never delay the others; order is
  kept among the bulk ones and among the others, not between the two. PUBACK is not delivery.
* ``deliver`` is called in the connection's thread. It may block, which is back-pressure down to the sender's
  broker; better, it raises ``queue.Full`` after a while (``partial(inbox.put, timeout=0.2)``) and is called again
  with the same event: then ``close`` need not wait for a reader. Nothing is delivered once ``close`` was called.
* After a Disconnected with ``fatal`` the transport has stopped. Without, it tries again for ever (0.5 to 30 s).
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fl_protocol.broker import BrokerOptions, connect_failure, tls_context
from fl_protocol.errors import BrokerUnavailable, ConfigError, DecodeError, HilumError
from fl_protocol.link import GOODBYE_S, REFUSED, Link, say_goodbye
from fl_protocol.network import (
    Connected,
    Disconnected,
    Event,
    Limits,
    Payload,
    Received,
    Transport,
    Undelivered,
    Will,
)
from fl_protocol.outbox import MAX_WINDOW, Outbox, Outgoing
from fl_protocol.subscriptions import Subscriptions
from fl_protocol.topics import parse
from fl_protocol.waiting import Waiting

__all__ = ["BrokerOptions", "Connected", "Disconnected", "Event", "MqttTransport", "Received", "Transport",
           "Undelivered", "Will", "probe"]  # fmt: skip

log = logging.getLogger(__name__)

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
CONNECT_TIMEOUT_S = 5.0
CONNACK_TIMEOUT_S = 10.0
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 30.0
STABLE_S = 10.0
TICK_S = 1.0


class MqttTransport:
    """A :class:`Transport` over one MQTT broker."""

    def __init__(
        self, options: BrokerOptions, client_id: str, will: Will | None, deliver: Callable[[Event], None]
    ) -> None:
        self._options = options
        self._client_id = client_id
        self._will = will
        self._deliver = deliver
        self._tls = tls_context(options)
        self._outbox = Outbox(options.keepalive_s)
        self._subscriptions = Subscriptions()
        self._protocol = V5
        self._ever_connected = False
        self._number = 0
        self._max_packet: int | None = None
        self._reported: set[str] = set()
        self._farewell: Sequence[tuple[str, bytes, bool]] = ()
        self._close_by: float | None = None
        self._said_goodbye = False
        self._waiting = Waiting()
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True)

    # The owner's side: any thread, never blocks (but for close).

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def publish(self, topic: str, payload: Payload, *, retain: bool = False, bulk: bool = False) -> None:
        """Send at QoS 1, now or when connected. A callable is called when its turn has come, in our thread.

        Raises ConfigError for bytes above what the broker announced as its largest packet.
        """
        if isinstance(payload, bytes) and (problem := self._too_large(topic, len(payload))):
            raise ConfigError(problem)
        self._outbox.put(Outgoing(topic, payload, retain, bulk))
        self._waiting.ring()

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe at QoS 1, now and after every reconnect."""
        self._subscriptions.change(filters, wanted=True)
        self._waiting.ring()

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Undo ``subscribe``. Messages already on their way may still be delivered."""
        self._subscriptions.change(filters, wanted=False)
        self._waiting.ring()

    def backlog(self) -> int:
        """Messages queued or unacknowledged."""
        return self._outbox.backlog()

    def close(self, farewell: Sequence[tuple[str, bytes, bool]] = (), timeout_s: float = 5.0) -> bool:
        """Send what waits (bulk is dropped), then ``farewell`` (topic, payload, retained), and leave without a will.

        Returns whether all of it was acknowledged and the connection ended in good order within ``timeout_s``.
        """
        self._farewell = tuple(farewell)
        self._close_by = time.monotonic() + timeout_s
        if self._thread.ident is None:
            self._waiting.close()
            return False
        self._waiting.ring()
        self._thread.join(timeout_s + GOODBYE_S + 1.0)
        return self._said_goodbye

    # The connection's thread.

    def _run(self) -> None:
        try:
            self._connect_for_ever()
        except Exception as error:  # the thread's border: a bug, or the owner's deliver failed
            log.exception("the connection's thread died")
            bug = HilumError(f"internal error in the MQTT connection: {type(error).__name__}: {error}")
            self._deliver(Disconnected("internal error", bug))
        finally:
            self._waiting.close()

    def _connect_for_ever(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._closing():
            lived_s, reason, fatal = self._one_connection()
            if self._closing():
                return
            log.debug("disconnected: %s", reason)
            self._emit(Disconnected(reason, fatal))
            if fatal is not None:
                return
            delay_s = FIRST_DELAY_S if lived_s >= STABLE_S else delay_s
            self._waiting.sleep(delay_s * random.uniform(0.5, 1.0), self._closing)
            delay_s = min(LAST_DELAY_S, delay_s * 2)

    def _one_connection(self) -> tuple[float, str, HilumError | None]:
        """Connect, serve until it ends, and say how long it lived, why it ended, and whether that is final."""
        protocol = self._protocol
        try:
            link = self._attempt(protocol)
            if protocol is V5 and link.try_older() and not self._closing():
                link = self._attempt(V311)
        except OSError as error:
            return 0.0, *connect_failure(error, self._options, first=not self._ever_connected)
        now = time.monotonic()
        lived_s = now - link.connected_at if link.connected_at is not None else 0.0
        guilty = self._outbox.lost(now)
        if guilty is not None:
            self._emit(
                Undelivered(
                    guilty.topic, f"the broker hangs up on its {guilty.size} bytes: use smaller chunks"
                )
            )
        return lived_s, *link.explain()

    def _attempt(self, protocol: MQTTProtocolVersion) -> Link:
        """One connection from its TCP connect to its end. Raises OSError if it did not come to be."""
        client = Client(
            CallbackAPIVersion.VERSION2, self._client_id, protocol=protocol, reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = 0  # none of paho's: our outbox keeps the window
        client.on_message, client.on_publish = self._on_message, self._on_publish
        client.on_subscribe = self._on_subscribe
        link = Link(client, self._options)
        if self._options.username is not None:
            client.username_pw_set(self._options.username, self._options.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
            client.on_log = link.on_log
        self._number += 1
        if self._will is not None:
            said = self._will.payload
            last = said if isinstance(said, bytes) else said(self._number)
            client.will_set(self._will.topic, last, qos=1, retain=True)
        try:
            client.connect(self._options.host, self._options.port, self._options.keepalive_s)
            self._serve(link)
        finally:
            self._waiting.forget()
            link.drop()
        return link

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        self._emit(Received(topic, bytes(message.payload), message.retain))

    def _on_publish(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        done = self._outbox.acked(mid, time.monotonic())
        if done is not None and reason.value >= REFUSED:
            self._report(done.topic, f"the broker refuses it ({reason})")

    def _on_subscribe(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        for reason in reasons:
            if reason.value >= REFUSED:
                self._report("subscribe", f"the broker refuses a subscription ({reason})")

    def _serve(self, link: Link) -> None:
        client, started, ready = link.client, time.monotonic(), False
        next_misc = started + TICK_S
        sock: Any = client.socket()
        if sock is None:
            return
        self._waiting.watch(sock)
        pending = sock.pending if self._tls is not None else lambda: 0
        while client.socket() is not None:
            if link.connected_at is not None:
                ready = ready or self._begin(link)
                self._subscriptions.apply(client)
                self._pump(client)
            if self._closing() and self._leave(link):
                return
            now = time.monotonic()
            if not ready and now - started > CONNACK_TIMEOUT_S:
                return
            if now >= next_misc:
                client.loop_misc()
                next_misc = now + TICK_S
                if self._outbox.is_stuck(now):
                    link.lost = "the broker acknowledges nothing any more"
                    return
            if client.socket() is not None:
                self._read_and_write(client, next_misc - now, pending)

    def _read_and_write(self, client: Client, timeout_s: float, pending: Callable[[], int]) -> None:
        """Sleep until there is something to do, and let paho do it. ``pending``: bytes that TLS holds back."""
        held = pending() > 0
        readable, writable = self._waiting.wait(
            0.0 if held else timeout_s,
            lambda: self._subscriptions.changed or self._outbox.waiting(),
            client.want_write(),
        )
        if writable:
            client.loop_write()
        if readable or held:
            client.loop_read()

    def _begin(self, link: Link) -> bool:
        """CONNACK came: learn the broker's limits, subscribe, tell the owner."""
        announced = link.connack
        receive_maximum = int(getattr(announced, "ReceiveMaximum", MAX_WINDOW))
        keepalive_s = int(getattr(announced, "ServerKeepAlive", self._options.keepalive_s))
        self._max_packet = getattr(announced, "MaximumPacketSize", None)
        self._protocol = link.client.protocol
        self._ever_connected = True
        self._reported.clear()
        self._outbox.connected(receive_maximum, keepalive_s, self._max_packet is not None)
        self._subscriptions.renew(link.client)
        version = "5" if self._protocol is V5 else "3.1.1"
        self._emit(Connected(version, self._max_packet, _limits(announced), self._number))
        return True

    def _pump(self, client: Client) -> None:
        """Hand paho what the window allows; it writes to the socket at once, in this thread."""
        while client.socket() is not None and (message := self._outbox.take()) is not None:
            self._subscriptions.apply(client)  # the owner may have subscribed just before it published
            payload = self._payload(message)
            if payload is None:
                self._outbox.dropped()
                continue
            now = time.monotonic()
            sent = client.publish(message.topic, payload, qos=1, retain=message.retain)
            self._outbox.sent(sent.mid, message, len(payload), now)

    def _payload(self, message: Outgoing) -> bytes | None:
        try:
            payload = message.payload if isinstance(message.payload, bytes) else message.payload()
        except (OSError, HilumError) as error:
            self._emit(Undelivered(message.topic, f"its payload cannot be read ({error})"))
            return None
        if problem := self._too_large(message.topic, len(payload)):
            self._report(message.topic, problem)
            return None
        return payload

    def _too_large(self, topic: str, payload_bytes: int) -> str | None:
        limit = self._max_packet
        if limit is None or payload_bytes + len(topic) + 16 <= limit:
            return None
        return (
            f"{payload_bytes} bytes for {topic} exceed the broker's largest packet ({limit}): raise its "
            "max_packet_size, or use smaller chunks"
        )

    def _leave(self, link: Link) -> bool:
        """Part of the loop while closing; True when it is over."""
        self._outbox.forget_bulk()
        for topic, payload, retain in self._farewell:
            self._outbox.put(Outgoing(topic, payload, retain, bulk=False))
        self._farewell = ()
        if link.connected_at is None:
            return True
        self._pump(link.client)
        if self._outbox.backlog() == 0:
            self._said_goodbye = say_goodbye(link.client)
            return True
        if self._close_by is None or time.monotonic() <= self._close_by:
            return False
        # What is acknowledged late (a slow line brings a model before it) was said all the same: no last will, then.
        say_goodbye(link.client)
        return True

    def _closing(self) -> bool:
        return self._close_by is not None

    def _emit(self, event: Event) -> None:
        while not self._closing():
            try:
                self._deliver(event)
            except queue.Full:  # noqa: PERF203 (the loop is the point)
                time.sleep(0.001)
            else:
                return

    def _report(self, topic: str, reason: str) -> None:
        """Tell the owner once per connection and kind of topic: a refused model has hundreds of chunks."""
        try:
            kind = parse(topic).kind.value
        except DecodeError:
            kind = topic
        if kind not in self._reported:
            self._reported.add(kind)
            log.warning("not delivered: %s: %s", topic, reason)
            self._emit(Undelivered(topic, reason))


def _limits(announced: Any) -> Limits:
    """What stands in a CONNACK's properties (None under 3.1.1)."""
    return Limits(
        getattr(announced, "ReceiveMaximum", None), bool(getattr(announced, "RetainAvailable", 1)),
        int(getattr(announced, "MaximumQoS", 2)), bool(getattr(announced, "WildcardSubscriptionAvailable", 1)),
    )  # fmt: skip


def probe(options: BrokerOptions, timeout_s: float = 5.0) -> Connected:
    """Connect once and leave. Raises AccessRefused or BrokerUnavailable, which say how to mend it."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    transport = MqttTransport(options, f"hilum-probe-{os.urandom(6).hex()}", None, events.put)
    transport.start()
    try:
        event = events.get(timeout=timeout_s)
    except queue.Empty:
        raise BrokerUnavailable(f"no MQTT broker answers at {options.where} within {timeout_s:g} s") from None
    finally:
        transport.close(timeout_s=1.0)
    if isinstance(event, Connected):
        return event
    assert isinstance(event, Disconnected)
    if event.fatal is not None:
        raise event.fatal
    raise BrokerUnavailable(
        f"no MQTT broker at {options.where} ({event.reason}): start one, or check --broker"
    )
