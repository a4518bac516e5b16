"""What a trial means for a join."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_client.doctor import READ, WRITTEN, Trial, judge_trial, needed_bytes
from edge_client.site import Site
from edge_client.store import Store, folder_in_use
from fl_protocol.broker import BrokerOptions
from fl_protocol.messages import AggregatorState, ClientState, Echo, Plan, RoundState
from fl_protocol.topics import Kind
from tests.payloads import digest_of

SITE = Site(BrokerOptions("hub", username="site-a"), "lung", "site-a", Path("w"))
ROUND = RoundState("open", 2, 9, 1, (), digest_of("m"), "chest-xray", "hilum-cnn", Plan(1, 8, 0.1, 0))
ALL = frozenset((kind.name.lower(), via) for kind in WRITTEN for via in READ)
PUB = frozenset({Kind.AGG, Kind.ROUND, Kind.MODEL, Kind.BLOCK})
HEALTHY = Trial(
    "5",
    echoes=ALL,
    published=PUB,
    aggregator=AggregatorState(True, "ab"),
    round=ROUND,
    echo=Echo("cd", "event"),
)
OFFLINE = Trial("5", published=PUB, aggregator=AggregatorState(False, "ab"), round=ROUND)


def judged(trial: Trial) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in judge_trial(SITE, trial) if finding.verdict != "ok"}


def advice(trial: Trial) -> str:
    return " ".join(finding.advice for finding in judge_trial(SITE, trial))


def without(kind: Kind) -> frozenset[tuple[str, Kind]]:
    return frozenset((name, via) for name, via in ALL if name != kind.name.lower() and via is not kind)


def test_a_healthy_place_has_no_remark() -> None:
    assert judged(HEALTHY) == {}
    assert [finding.check for finding in judge_trial(SITE, HEALTHY)] == ["read pub", "write up", "read dn", "aggregator", "client id"]  # fmt: skip


@pytest.mark.parametrize(
    ("trial", "wrong"),
    [
        (
            replace(HEALTHY, refused={Kind.STATE: "Not authorized"}, echoes=without(Kind.STATE)),
            {"write up": "fail"},
        ),
        (replace(HEALTHY, echoes=without(Kind.CHUNK)), {"write up": "fail"}),
        (replace(HEALTHY, echoes=without(Kind.ACK)), {"read dn": "fail"}),
        (replace(HEALTHY, published=PUB - {Kind.BLOCK}), {"read pub": "fail"}),
        (replace(HEALTHY, published=frozenset(), aggregator=None, round=None), {"read pub": "fail"}),
        (replace(HEALTHY, echo=Echo("cd", "event", "training")), {"client id": "fail"}),
    ],
)
def test_what_is_missing_is_named(trial: Trial, wrong: dict[str, str]) -> None:
    assert judged(trial) == wrong


def test_the_advice_names_the_line_of_the_access_list() -> None:
    assert "'write fl/1/+/up/%u/#'" in advice(replace(HEALTHY, refused={Kind.EVENT: "Not authorized"}))
    assert "'read fl/1/+/dn/%u/#'" in advice(replace(HEALTHY, echoes=without(Kind.CONTROL)))
    assert "'read fl/1/+/pub/#'" in advice(replace(HEALTHY, published=PUB - {Kind.AGG}))


@pytest.mark.parametrize(("protocol", "wrong"), [("5", {"write up": "warn", "read dn": "fail", "aggregator": "warn"}),
                                                 ("3.1.1", {"write up": "fail", "read dn": "fail", "aggregator": "warn"})])  # fmt: skip
def test_silence_of_a_living_aggregator_is_a_failure(protocol: str, wrong: dict[str, str]) -> None:
    """Only MQTT 5 says what it throws away; with 3.1.1 either way may be barred."""
    silent = replace(HEALTHY, protocol=protocol, echoes=frozenset(), echo=None)
    assert judged(silent) == wrong


def test_without_an_aggregator_rights_are_untried_unless_we_hear_ourselves() -> None:
    assert judged(OFFLINE) == {"write up": "warn", "read dn": "warn", "aggregator": "warn"}
    heard = replace(OFFLINE, looped=frozenset({*WRITTEN, *READ}))
    assert judged(heard) == {"aggregator": "warn"}


def test_a_refusal_needs_no_aggregator() -> None:
    refused = dict.fromkeys(WRITTEN, "the broker refuses it (Not authorized)")
    assert judged(replace(OFFLINE, refused=refused))["write up"] == "fail"


def test_a_broker_that_hangs_up_on_a_chunk_is_told_from_a_right_that_is_missing() -> None:
    found = judge_trial(
        SITE, replace(HEALTHY, refused={Kind.CHUNK: "the broker hangs up on its 262173 bytes: use"})
    )
    (up,) = [finding for finding in found if finding.check == "write up"]
    assert up.verdict == "fail" and "max_packet_size" in up.advice


def test_an_ended_job_and_an_unknown_one_are_remarks() -> None:
    ended = replace(OFFLINE, round=replace(ROUND, phase="finished"))
    assert "more --rounds" in advice(ended)
    unknown = Trial("5", looped=frozenset({*WRITTEN, *READ}))
    assert judged(unknown) == {"read pub": "warn", "aggregator": "warn"}
    assert "check --job" in advice(unknown)


def test_a_name_that_never_left_is_a_hint_while_nobody_can_be_asked() -> None:
    assert judged(replace(OFFLINE, state=ClientState("ab", "training")))["client id"] == "warn"
    assert "client id" not in judged(replace(OFFLINE, state=ClientState("ab", "left")))


def test_room_is_asked_for_once_the_model_is_known() -> None:
    assert needed_bytes(HEALTHY) == 0


def test_a_work_folder_in_use_is_seen_and_left_alone(tmp_path: Path) -> None:
    assert not folder_in_use(tmp_path / "none")
    store = Store(tmp_path / "w")
    assert folder_in_use(tmp_path / "w")
    store.close()
    assert not folder_in_use(tmp_path / "w")
    assert not (tmp_path / "none").exists()
