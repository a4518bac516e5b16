"""What the messages promise beyond their fields."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from fl_protocol import messages as msg
from fl_protocol.errors import DecodeError
from fl_protocol.schema import build, plain
from fl_protocol.tensors import Group, TensorSpec
from fl_protocol.topics import NAME, Kind, Topic, parse
from tests.payloads import digest_of

KINDS: tuple[type[Any], ...] = get_args(msg.Message)


@pytest.mark.parametrize("cls", [*KINDS, msg.Plan, msg.LastRound, msg.DataSummary, Group, TensorSpec])
def test_every_field_is_bounded_and_every_message_frozen(cls: type[Any]) -> None:
    assert all("check" in item.metadata for item in dataclasses.fields(cls))
    assert cls.__dataclass_params__.frozen
    assert not {item.name for item in dataclasses.fields(cls)} & {"v", "t"}, "v and t belong to the frame"


def test_transfer_id_stands_in_a_topic_and_names_round_and_update() -> None:
    transfer = msg.transfer_id(10**9, digest_of("update"))
    assert NAME.fullmatch(transfer)
    topic = Topic("job", Kind.OFFER, client="c" * 64, transfer=transfer)
    assert parse(str(topic)) == topic
    assert transfer == msg.transfer_id(10**9, digest_of("update"))
    assert msg.transfer_id(1, digest_of("update")) != msg.transfer_id(2, digest_of("update"))
    assert msg.transfer_id(1, digest_of("update")) != msg.transfer_id(1, digest_of("another"))


@pytest.mark.parametrize("state", msg.CLIENT_STATES)
def test_every_client_state_is_allowed(state: str) -> None:
    message = msg.ClientState("ab", state)
    assert build(msg.ClientState, plain(message)) == message


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (msg.ClientState, {"instance": "ab", "state": "asleep"}),
        (msg.ClientState, {"instance": "AB", "state": "ready"}),
        (msg.ClientState, {"instance": "a" * 33, "state": "ready"}),
        (msg.ClientState, {"instance": "ab", "state": "ready", "num_examples": -1}),
        (msg.Progress, {"round_number": 1, "fraction": 1.01}),
        (msg.Progress, {"round_number": 1, "fraction": 0.5, "loss": float("nan")}),
        (msg.Chunk, {"index": -1, "data": b""}),
        (msg.Chunk, {"index": 0, "data": bytes(256 * 1024 + 1)}),
        (msg.Ack, {"held": b"", "window": -1}),
        (msg.Plan, {"local_epochs": 1, "batch_size": 0, "learning_rate": 0.1, "seed": 0}),
        (msg.Plan, {"local_epochs": 1, "batch_size": 1, "learning_rate": float("inf"), "seed": 0}),
        (msg.Decline, {"round_number": 1, "reason": "x" * 301}),
    ],
)
def test_out_of_bounds(cls: type[Any], fields: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        build(cls, fields)


def test_the_largest_cohort_fits() -> None:
    names = tuple(f"client-{number}" for number in range(msg.MAX_COHORT))
    state = msg.RoundState("open", 1, 1, 1, names, None, "t", "m", None)
    assert build(msg.RoundState, plain(state)) == state
