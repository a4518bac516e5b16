"""What a trial means for a start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.doctor import DN, UP, Place, Trial, judge_trial, needed_bytes
from fl_protocol.messages import AggregatorState
from fl_protocol.topics import Kind

PLACE = Place(None, "lung", Path("runs/lung"), "chest-xray", "hilum-cnn", 96, min_clients=8)
HEALTHY = Trial("'aggregator'", looped=frozenset({*UP, *DN, Kind.BLOCK}), retained=True)


def judged(trial: Trial) -> dict[str, str]:
    return {
        finding.check: finding.verdict for finding in judge_trial(PLACE, trial) if finding.verdict != "ok"
    }


@pytest.mark.parametrize(
    ("trial", "wrong"),
    [
        (HEALTHY, {}),
        (replace(HEALTHY, dropped=0), {}),
        (replace(HEALTHY, dropped=3), {"queue": "warn"}),
        (replace(HEALTHY, retained=False), {"pub": "fail"}),
        (replace(HEALTHY, retained=False, looped=HEALTHY.looped - {Kind.BLOCK}), {"pub": "fail"}),
        (replace(HEALTHY, looped=HEALTHY.looped - {Kind.ACK}), {"dn": "fail"}),
        (replace(HEALTHY, looped=HEALTHY.looped - {Kind.OFFER}), {"up": "fail"}),
        (replace(HEALTHY, looped=HEALTHY.looped - {*UP}, refused=frozenset(UP)), {"up": "warn"}),
        (replace(HEALTHY, other=AggregatorState(True, "cd")), {}),
        (replace(HEALTHY, other=AggregatorState(True, "cd"), other_answers=True), {"job": "fail"}),
        (Trial(), {"pub": "fail", "up": "fail", "dn": "fail"}),
    ],
)
def test_what_is_missing_is_named(trial: Trial, wrong: dict[str, str]) -> None:
    assert judged(trial) == wrong


def test_the_advice_names_the_login_and_the_line_of_the_access_list() -> None:
    (finding,) = [f for f in judge_trial(PLACE, replace(HEALTHY, looped=frozenset(UP))) if f.check == "dn"]
    assert finding.advice == "grant 'aggregator' 'topic readwrite fl/#' (broker/acl)"


def test_room_grows_with_the_updates_of_a_round() -> None:
    assert needed_bytes(PLACE, 10**6) - needed_bytes(replace(PLACE, min_clients=2), 10**6) == 6 * 10**6
