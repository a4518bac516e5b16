"""When an edge says what of itself."""

from __future__ import annotations

from dataclasses import replace

from edge_client.events import Effect, Send
from edge_client.telling import SETTLED_S, Telling
from fl_protocol.messages import READY, TRAINING, UPLOADING, ClientState, state_seq

QUIET = ClientState("aa" * 8, READY, num_examples=5)
BUSY = replace(QUIET, state=TRAINING, round_number=1)


def said(effects: list[Effect]) -> list[ClientState]:
    assert all(isinstance(effect, Send) and effect.retain for effect in effects)
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, ClientState)
    ]


def test_what_passes_quickly_is_not_told() -> None:
    telling = Telling("job", "site-a")
    assert [state.state for state in said(telling.tell(QUIET, 0.0, heard=True))] == [READY]
    assert telling.tell(BUSY, 1.0, heard=True) == []
    assert telling.deadline == 1.0 + SETTLED_S
    assert telling.tell(QUIET, 1.1, heard=True) == []
    assert telling.deadline == float("inf"), "it is as it was told"


def test_what_lasts_is_told_as_it_is_then() -> None:
    telling = Telling("job", "site-a")
    telling.tell(QUIET, 0.0, heard=True)
    telling.tell(BUSY, 1.0, heard=True)
    later = replace(BUSY, state=UPLOADING)
    assert [state.state for state in said(telling.tell(later, 1.0 + SETTLED_S, heard=True))] == [UPLOADING]


def test_news_of_its_data_is_told_at_once_and_to_nobody_nothing() -> None:
    telling = Telling("job", "site-a")
    assert telling.tell(QUIET, 0.0, heard=False) == []
    telling.tell(QUIET, 0.0, heard=True)
    assert said(telling.tell(replace(QUIET, num_examples=6), 0.0, heard=True))
    telling.forget()
    assert said(telling.tell(replace(QUIET, num_examples=6), 0.0, heard=True)), (
        "a new aggregator has not heard it"
    )


def test_every_word_counts_on_and_every_connection_above_the_last() -> None:
    telling = Telling("job", "site-a")
    telling.connected(1)
    first = [telling.counted(QUIET).seq for _ in range(3)]
    telling.connected(2)
    assert first == [state_seq(1, 0), state_seq(1, 1), state_seq(1, 2)]
    assert telling.counted(QUIET).seq == state_seq(2, 0) > state_seq(1), "behind the last will of the first"
