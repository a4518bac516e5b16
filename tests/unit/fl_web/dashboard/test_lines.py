"""Lines and settings from strangers: bounded, and odd ones missing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregator.bulletin import line_of
from fl_web.dashboard import lines
from tests.federations import record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ("round", "outcome", "cohort", "accepted", "rejected", "stragglers", "stale", "duration_s", "metrics", "sites",
          "phases", "best", "client_metrics", "bytes_up", "started_at", "ended_early", "attempts")  # fmt: skip


def test_a_round_keeps_its_figures() -> None:
    told = lines.round_of(record(
        3, metrics={"auroc": 0.91, "auroc_low": 0.88}, rejected=[{"client_id": "a", "reason": "bad_norm", "count": 2}],
        stragglers=["b"], sites={"a": {"auroc": 0.9, "loss": 0.3, "sensitivity": 1.0}}, phases={"train": 3.0, "nap": 1.0},
    ))  # fmt: skip
    assert told is not None
    assert (told["round"], told["cohort"], told["accepted"], told["stragglers"]) == (3, 2, 2, 1)
    assert told["metrics"] == {"auroc": 0.91, "auroc_low": 0.88}
    assert told["rejected"] == [{"client": "a", "reason": "bad_norm", "count": 2}]
    assert told["sites"] == {"a": {"auroc": 0.9, "loss": 0.3}} and told["phases"] == {"train": 3.0}


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_line_is_an_error_and_every_result_is_json(body: dict[str, Any]) -> None:
    told = lines.round_of({"round": 1} | body)
    if told is not None:
        json.dumps(told, allow_nan=False)


@given(JSON)
def test_no_config_is_an_error(body: Any) -> None:
    told = lines.settings_of(body)
    assert all(len(entry["value"]) <= 200 for entry in told.values())
    lines.is_synthetic(told)


def test_a_large_line_becomes_a_small_one() -> None:
    big = record(1, sites={f"s{n}": {"auroc": 0.5} for n in range(5000)}, metrics={f"m{n}": 1.0 for n in range(5000)},
                 rejected=[{"client_id": "x" * 500, "reason": "y" * 500}] * 5000)  # fmt: skip
    assert len(json.dumps(lines.round_of(big))) < 20_000


def test_settings_are_said_in_words_and_secrets_are_not() -> None:
    told = lines.settings_of({
        "synthetic": {"value": True, "source": "the data"}, "strategy_option": {"value": ["mu=0.1"]}, "plain": 3,
        "token": {"value": "secret"},
    })  # fmt: skip
    assert lines.is_synthetic(told) and "token" not in told
    assert told["strategy_option"]["value"] == '["mu=0.1"]' and told["plain"] == {"value": "3", "source": ""}


def test_runs_differ_in_what_differs() -> None:
    one, other = ({"rounds": {"value": rounds}, "task": {"value": "x"}} for rounds in ("5", "10"))
    assert lines.differing([one, other, {"task": {"value": "x"}}]) == [("rounds", ["5", "10", ""])]


def test_many_rounds_are_thinned_to_few_with_both_ends() -> None:
    rounds = [{"round": number} for number in range(1, 5001)]
    few = lines.thinned(rounds, 100)
    assert len(few) == 100 and few[0]["round"] == 1 and few[-1]["round"] == 5000
    assert lines.thinned(rounds[:50], 100) == rounds[:50]


def test_a_line_that_was_cut_still_says_how_many_there_were() -> None:
    names = [f"s{number}" for number in range(1500)]
    told = lines.round_of(
        json.loads(line_of(record(1, cohort=names, accepted=names[:1200], stragglers=["s1300"])))
    )
    assert told is not None
    assert (told["cohort"], told["accepted"], told["stragglers"], told["missing"]) == (1500, 1200, 1, 299)


def test_everybody_who_was_asked_is_counted_once() -> None:
    """Refused and then accepted is accepted; refused or evicted is not missing; more than 20 refusals are all counted."""
    refused = [{"client_id": name, "reason": "bad_norm", "count": 2} for name in ("a", "c")]
    told = lines.round_of(record(1, cohort=["a", "b", "c", "d"], accepted=["a", "b"], rejected=refused))
    assert told is not None and (told["missing"], told["refusals"]) == (1, {"bad_norm": 4})
    many = [{"client_id": f"s{number}", "reason": "evicted", "count": 1} for number in range(30)]
    told = lines.round_of(record(1, cohort=[each["client_id"] for each in many], accepted=[], rejected=many))
    assert told is not None and (told["missing"], told["refusals"], len(told["rejected"])) == (
        0,
        {"evicted": 30},
        20,
    )
