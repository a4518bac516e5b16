"""The claim on a job, and the connection on which it is held until the farewell."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from aggregator.station import Station
from fl_protocol import messages as msg
from fl_protocol import topics
from fl_protocol.codec import decode, encode
from fl_protocol.errors import AccessRefused, BrokerUnavailable, DecodeError
from fl_protocol.topics import AGGREGATOR, Kind, Topic
from fl_protocol.transport import BrokerOptions, Connected, Disconnected, MqttTransport, Received, Will

CLAIM_S = 3.0


@contextmanager
def on_duty(station: Station, broker: BrokerOptions, connect_timeout_s: float) -> Iterator[Connected]:
    """Claim the job, and be connected until the block ends; then its business says farewell in place of a last will.

    Raises AccessRefused if a living aggregator has the job, BrokerUnavailable, or what a signal means.
    """
    deliver = partial(station.inbox.put, timeout=0.2)
    client_id = f"{AGGREGATOR}-{station.job[:32]}-{station.instance[:8]}"
    with stopped_by_signals(station) as caught:
        transport = MqttTransport(broker, client_id, None, deliver)
        _claim(transport, station, broker, connect_timeout_s)
        transport.close()
        will = Will(station.presence.topic, station.presence.last_words)
        station.transport = transport = MqttTransport(broker, client_id, will, deliver)
        transport.start()
        try:
            connected = _await(station, Connected, time.monotonic() + connect_timeout_s, broker)
            station.connection = connected
            yield connected
        finally:
            silent = isinstance(station.ended, AccessRefused)
            transport.close(() if silent else station.business.farewell())
        if caught:
            raise KeyboardInterrupt if caught[0] == signal.SIGINT else SystemExit(0)


@contextmanager
def stopped_by_signals(station: Station) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the loop after the step it is in; a second one ends the process as usual."""
    caught: list[int] = []

    def handler(number: int, _frame: object) -> None:
        caught.append(number)
        station.stop_requested = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _claim(
    transport: MqttTransport, station: Station, broker: BrokerOptions, connect_timeout_s: float
) -> None:  # fmt: skip
    """Ask on the broker whether somebody serves this job. Raises AccessRefused if a living aggregator answers.

    Our own question comes back to us behind whatever is retained, so nobody has to guess how long to wait; only
    if somebody is said to be online (who may have died unnoticed) is an answer waited for, CLAIM_S at most.
    """
    transport.start()
    until = time.monotonic() + connect_timeout_s
    _await(station, Connected, until, broker)
    mine = Topic(station.job, Kind.CONTROL, client=AGGREGATOR)
    transport.subscribe([str(Topic(station.job, Kind.AGG)), str(mine)])
    transport.publish(str(mine), encode(msg.Probe(station.instance)))
    try:
        _await_silence(station, broker)
    finally:
        if station.stop_requested:
            transport.close()
            raise KeyboardInterrupt


def _await_silence(station: Station, broker: BrokerOptions) -> None:
    until, online = time.monotonic() + 2 * CLAIM_S, False
    try:
        while time.monotonic() < until and not station.stop_requested:
            message = _decoded(_await(station, Received, until, broker))
            if isinstance(message, msg.AggregatorState):
                if message.echo == station.instance:
                    raise AccessRefused(
                        f"another aggregator is serving job {station.job!r} on {broker.where}: stop it, or use --job"
                    )
                online = message.online
            elif isinstance(message, msg.Probe) and message.instance == station.instance:
                if not online:
                    return
                until = time.monotonic() + CLAIM_S
    except BrokerUnavailable as silence:
        if not online or isinstance(silence, AccessRefused):
            raise


def _decoded(frame: Received) -> msg.Message | None:
    try:
        return decode(frame.payload, topics.parse(frame.topic).kind)
    except DecodeError:
        return None


def _await(
    station: Station, wanted: type[Any], until: float, broker: BrokerOptions
) -> Any:  # fmt: skip
    """The next item of a kind. Raises what a fatal Disconnected carries, or BrokerUnavailable after ``until``."""
    reason = "no answer"
    while (left := until - time.monotonic()) > 0 and not station.stop_requested:
        try:
            item = station.inbox.get(timeout=min(left, 0.5))
        except queue.Empty:
            continue
        if isinstance(item, wanted):
            return item
        if isinstance(item, Disconnected):
            if item.fatal is not None:
                raise item.fatal
            reason = item.reason
    if station.stop_requested:
        raise KeyboardInterrupt
    raise BrokerUnavailable(f"no MQTT broker at {broker.where} ({reason}): start one, or check --broker")
