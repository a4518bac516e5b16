"""Every test here speaks to a real broker; the conformance tests to both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, Peer, mosquitto, nats, running, shipped_mosquitto


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder carry the marker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(params=["mosquitto", "nats-server"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A broker of either kind; mosquitto from the file we ship."""
    with running((shipped_mosquitto if request.param == "mosquitto" else nats)(tmp_path)) as started:
        yield started


@pytest.fixture
def plain_mosquitto(tmp_path: Path) -> Iterator[Broker]:
    """A mosquitto with defaults, for what only one kind need show."""
    with running(mosquitto(tmp_path)) as started:
        yield started


@pytest.fixture
def sender(broker: Broker) -> Iterator[Peer]:
    """Somebody connected."""
    with Peer(broker.options, "sender") as peer:
        peer.connected()
        yield peer
