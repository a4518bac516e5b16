"""MQTT packets cut out of a stream, copied, swapped and replayed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_sim import frames
from fl_sim.frames import Doubling, NotMqtt, Packets, copy_of


def publish(topic: str, payload: bytes, *, qos: int = 1, mid: int = 7, flags: int = 0) -> bytes:
    """A PUBLISH packet of MQTT 3.1.1."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (mid.to_bytes(2, "big") if qos else b"") + payload
    return bytes([0x30 | qos << 1 | flags]) + frames._length(len(body)) + body


PING = b"\xd0\x00"


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_packets_come_out_whole_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    packets = [each for payload in payloads for each in (publish("a/b", payload), PING)]
    stream, at, found = b"".join(packets), 0, []
    cutter, turn = Packets(), 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        found += cutter.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == packets


def test_lengths_of_every_number_of_digits() -> None:
    for size in (0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152):
        packet = bytes([0x30]) + frames._length(size) + bytes(size)
        assert Packets().feed(packet + PING) == [packet, PING]


def test_what_is_no_mqtt_is_said_to_be_none() -> None:
    with pytest.raises(NotMqtt):
        Packets().feed(b"\x30\xff\xff\xff\xff\x01")


@given(topic=st.text(max_size=40), payload=st.binary(max_size=200), mid=st.integers(1, 65535))
def test_a_copy_is_the_same_message_without_an_id(topic: str, payload: bytes, mid: int) -> None:
    copy = publish(topic, payload, qos=0)
    assert copy_of(publish(topic, payload, mid=mid)) == copy
    assert copy_of(publish(topic, payload, mid=mid, flags=0x08)) == copy, "DUP says nothing without an id"
    assert copy_of(copy) == copy


def test_a_copy_keeps_what_was_retained() -> None:
    assert copy_of(publish("a", b"x", flags=0x01)) == publish("a", b"x", qos=0, flags=0x01)


@pytest.mark.parametrize("packet", [PING, b"\x20\x02\x00\x00", b"\x40\x02\x00\x07"])
def test_only_messages_are_copied(packet: bytes) -> None:
    assert copy_of(packet) is None
    assert Doubling(random.Random(0)).deliver(packet) == [packet]


@given(count=st.integers(1, 60), seed=st.integers(0, 99))
def test_every_frame_is_delivered_twice_and_some_are_overtaken(count: int, seed: int) -> None:
    doubling = Doubling(random.Random(seed))
    sent = [publish("a", str(number).encode(), mid=number + 1) for number in range(count)]
    got = [each for packet in sent for each in doubling.deliver(packet)] + doubling.release()
    assert sorted(got) == sorted(each for packet in sent for each in (packet, copy_of(packet)) if each)
    assert not doubling.holding
    assert doubling.copies == count
    order = [packet for packet in got if packet in sent]
    assert all(abs(order.index(packet) - sent.index(packet)) <= 1 for packet in sent)


def test_about_a_quarter_is_overtaken() -> None:
    doubling = Doubling(random.Random(1))
    overtaken = sum(not doubling.deliver(publish("a", b"")) for _ in range(1000))
    assert 150 < overtaken < 250  # of those that could be: never two at a time


def test_a_replay_brings_everything_since_the_last_one_again() -> None:
    doubling = Doubling(random.Random(0))
    for number in range(20):
        doubling.deliver(publish("a", bytes([number])))
    first = doubling.replay()
    assert sorted(first) == [publish("a", bytes([number]), qos=0) for number in range(20)]
    assert first != sorted(first), "in another order"
    assert doubling.replay() == []


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_REMEMBERED", 1000)
    doubling = Doubling(random.Random(0))
    for number in range(100):
        doubling.deliver(publish("a", bytes([number]) * 90))
    again = doubling.replay()
    assert sum(map(len, again)) <= 1000
    assert publish("a", bytes([99]) * 90, qos=0) in again, "the newest are kept"
