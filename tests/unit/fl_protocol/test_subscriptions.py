"""Filters: told once, in order, and all of them again to a connection that begins."""

from __future__ import annotations

from fl_protocol.subscriptions import FILTERS_A_PACKET, Subscriptions


class Client:
    """Notes what it is told, as paho would be."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        assert len(filters) <= FILTERS_A_PACKET and {qos for _, qos in filters} == {1}
        self.said.append("+" + " ".join(name for name, _ in filters))

    def unsubscribe(self, filters: list[str]) -> None:
        self.said.append("-" + " ".join(filters))


def test_changes_are_told_in_order_and_once() -> None:
    wanted, client = Subscriptions(), Client()
    wanted.change(["a", "b"], wanted=True)
    wanted.change(["a"], wanted=False)
    wanted.change([], wanted=False)
    assert wanted.changed
    wanted.apply(client)
    wanted.apply(client)
    assert (client.said, wanted.changed) == (["+a b", "-a"], False)


def test_a_connection_that_begins_is_told_what_is_wanted_then_and_no_more() -> None:
    wanted = Subscriptions()
    wanted.change(["a", "b", "b"], wanted=True)
    wanted.apply(Client())
    wanted.change(["a"], wanted=False)
    wanted.change(["c"], wanted=True)
    client = Client()
    wanted.renew(client)
    wanted.apply(client)
    assert client.said == ["+b c"]


def test_many_filters_go_in_packets_that_every_broker_takes() -> None:
    wanted, client = Subscriptions(), Client()
    wanted.change([str(number) for number in range(2 * FILTERS_A_PACKET + 1)], wanted=True)
    wanted.apply(client)
    assert [len(said.split()) for said in client.said] == [FILTERS_A_PACKET, FILTERS_A_PACKET, 1]
