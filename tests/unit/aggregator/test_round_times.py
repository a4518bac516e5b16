"""Where the time of a round went: medians of what is told, and nothing where nothing is."""

from __future__ import annotations

import pytest

from aggregator.round_times import UPLOAD_TIME, phases_of
from fl_protocol.messages import FETCH_TIME, TRAIN_TIME


def told(fetch: float, train: float, upload: float) -> dict[str, float]:
    return {FETCH_TIME: fetch, TRAIN_TIME: train, UPLOAD_TIME: upload, "train_loss": 0.1}


def test_medians_over_the_clients_and_what_is_left_is_waiting() -> None:
    clients = [told(1.0, 10.0, 2.0), told(0.0, 20.0, 1.0), told(3.0, 30.0, 7.0)]
    assert phases_of(clients, 50.0) == {"download": 1.0, "train": 20.0, "upload": 2.0, "wait": 29.0}


def test_nobody_waits_less_than_not_at_all() -> None:
    """A restart begins the round's duration anew, the training was before it."""
    assert phases_of([told(1.0, 90.0, 1.0)], 5.0)["wait"] == 0.0


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_client_that_tells_no_time_is_left_out(strange: float) -> None:
    assert phases_of([told(1.0, strange, 1.0)], 5.0) == {}
    assert phases_of([told(1.0, strange, 1.0), told(1.0, 2.0, 1.0)], 5.0)["train"] == 2.0


def test_where_nobody_tells_there_is_nothing_to_say() -> None:
    assert phases_of([], 5.0) == {}
    assert phases_of([{FETCH_TIME: 1.0, TRAIN_TIME: 1.0}], 5.0) == {}
