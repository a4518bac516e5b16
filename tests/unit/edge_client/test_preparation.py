"""When a site's data are read, and read again."""

from __future__ import annotations

from edge_client.events import DataPrepared
from edge_client.preparation import PREPARE_AGAIN_S, Preparation
from tests.unit.edge_client.sessions import SUMMARY

XRAYS = ("chest-xray", 32)


def test_data_are_read_once_for_a_task_and_a_size() -> None:
    reading = Preparation()
    assert reading.due(XRAYS, 0.0)
    reading.begin(XRAYS)
    reading.data = DataPrepared(SUMMARY, 8, "cpu")
    assert not reading.due(XRAYS, 1e9) and reading.deadline == float("inf")
    assert reading.due(("chest-xray", 64), 0.0)
    reading.begin(("chest-xray", 64))
    assert reading.data is None, "what was read was for another size"


def test_what_failed_is_due_again_after_a_while() -> None:
    reading = Preparation()
    reading.begin(XRAYS)
    reading.failed(5.0)
    assert reading.deadline == 5.0 + PREPARE_AGAIN_S
    assert not reading.due(XRAYS, 5.0) and reading.due(XRAYS, reading.deadline)
    reading.begin(XRAYS)
    assert reading.deadline == float("inf")
