"""When an edge leaves a job that has ended."""

from __future__ import annotations

from edge_client.departure import LAST_MODEL_S, OLD_NEWS_S, Departure
from edge_client.events import Leave, ModelFound
from edge_client.library import Library
from fl_protocol.errors import BrokerUnavailable
from tests.payloads import digest_of

FINAL = digest_of("final")


def library_with(digest: str) -> Library:
    library = Library("job", [digest])
    library.want(digest, 0.0)
    library.handle(ModelFound(digest), 0.0)
    return library


def test_with_the_final_model_it_leaves() -> None:
    departure = Departure(library_with(FINAL))
    assert departure.pursue(FINAL, list, 0.0, welcomed=True) == [Leave(model=FINAL)]


def test_an_ended_run_may_be_old_news() -> None:
    departure = Departure(library_with(FINAL))
    departure.connected(5.0)
    assert departure.pursue(FINAL, list, 6.0, welcomed=False) == []
    assert departure.deadline(finished=True, welcomed=False) == 5.0 + OLD_NEWS_S
    assert departure.deadline(finished=False, welcomed=False) == float("inf")
    assert departure.pursue(FINAL, list, 5.0 + OLD_NEWS_S, welcomed=False) == [Leave(model=FINAL)]


def test_a_final_model_that_does_not_come_is_given_up() -> None:
    departure = Departure(Library("job", []))
    assert departure.pursue(FINAL, list, 1.0, welcomed=True), "it is asked for"
    assert departure.deadline(finished=True, welcomed=True) == 1.0 + LAST_MODEL_S
    (left,) = departure.pursue(FINAL, list, 1.0 + LAST_MODEL_S, welcomed=True)
    assert isinstance(left, Leave)
    assert isinstance(left.error, BrokerUnavailable)


def test_a_run_that_goes_on_is_stayed_in() -> None:
    departure = Departure(Library("job", []))
    departure.pursue(FINAL, list, 1.0, welcomed=True)
    departure.stay()
    assert departure.deadline(finished=False, welcomed=True) == float("inf")
