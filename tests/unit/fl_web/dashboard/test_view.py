"""The view: frames in, parts out, whatever comes and in whatever order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_protocol.codec import encode
from fl_protocol.messages import Decline
from fl_web.dashboard import view as vw
from fl_web.dashboard.view import View
from tests import dashboard_frames as f


def round_of_two() -> View:
    view = View("hub:1883")
    view.connected(0.0)
    f.told(view, "pub/agg", f.birth())
    for name in ("a", "b"):
        f.told(view, f"up/{name}/state", f.state())
    f.told(view, "pub/round", f.opened("a", "b", quorum=2), 5.0)
    return view


def test_a_round_from_its_opening_to_its_line() -> None:
    view = round_of_two()
    f.told(view, "up/a/event", f.progress(0.5), 6.0)
    f.told(view, f"up/a/offer/{f.TRANSFER}", f.OFFER, 7.0)
    f.told(view, f"dn/a/ack/{f.TRANSFER}", f.verdict("accepted"), 8.0)
    f.told(view, f"dn/b/ack/{f.TRANSFER}", f.verdict("rejected", "bad_norm"), 9.0)
    f.told(view, "op/run", f.info())
    f.told(view, "op/round/1", f.line(1), 10.0)
    found = f.parts(view)
    head = found["job/default"]
    assert (head["phase"], head["round"], head["accepted"], head["quorum"], head["opened_at"]) == (
        "open",
        1,
        1,
        2,
        5.0,
    )
    assert head["run"] == {"name": "runs", "accepts": ["pause"], "paused": False, "stopping": False}
    assert (
        found["client/default/a"]["verdict"] == "accepted"
        and found["client/default/b"]["reason"] == "bad_norm"
    )
    assert found["round/default/1"]["accepted"] == 2
    assert f.events(view) == [
        "The aggregator is here", "a joined", "b joined", "Round 1 opened for 2 sites", "a: update of round 1 accepted",
        "b: update of round 1 rejected (bad_norm)",
    ]  # fmt: skip


def test_the_grace_runs_from_quorum_on_by_our_own_count() -> None:
    view = round_of_two()
    for second, name in ((8.0, "a"), (9.0, "b")):
        f.told(view, f"up/{name}/offer/{f.TRANSFER}", f.OFFER, second)
        f.told(view, f"dn/{name}/ack/{f.TRANSFER}", f.verdict("accepted"), second)
    assert f.parts(view)["job/default"]["quorum_at"] == 9.0
    f.told(view, "pub/round", f.opened("a", "b", number=2, quorum=2), 20.0)
    head = f.parts(view)["job/default"]
    assert (head["quorum_at"], head["opened_at"], head["accepted"]) == (None, 20.0, 0)


def test_of_a_round_that_was_open_before_nobody_knows_since_when() -> None:
    view = View()
    f.told(view, "pub/round", f.opened("a"), retained=True)
    assert f.parts(view)["job/default"]["opened_at"] is None and f.events(view) == []


def test_late_words_of_the_aggregator_and_wills_of_an_earlier_one_are_not_believed() -> None:
    view = View()
    f.told(view, "pub/agg", f.birth(seq=4))
    f.told(view, "pub/agg", f.birth(online=False, seq=3))
    f.told(view, "pub/agg", f.birth(online=False, instance="0d"))
    assert f.parts(view)["job/default"]["online"] is True
    f.told(view, "pub/agg", f.birth(online=False, seq=5))
    assert f.parts(view)["job/default"]["online"] is False
    f.told(view, "pub/round", f.opened("a", number=2, seq=9))
    f.told(view, "pub/round", f.opened("a", number=1, seq=8))
    assert f.parts(view)["job/default"]["round"] == 2


def test_another_run_drops_the_rounds_of_the_one_before() -> None:
    view = View()
    f.told(view, "op/run", f.info("one"))
    f.told(view, "op/round/1", f.line(1, "one"))
    f.told(view, "op/run", f.info("two"))
    f.told(view, "op/round/7", f.line(7, "one"))
    assert not any(name.startswith("round/") for name in f.parts(view))
    view.connected(0.0)
    f.told(view, "op/round/1", f.line(1, "three"), retained=True)
    f.told(view, "op/run", f.info("three"), retained=True)
    assert "round/default/1" in f.parts(view)


def test_a_line_on_the_topic_of_another_round_is_none() -> None:
    view = View()
    f.told(view, "op/round/2", f.line(1))
    assert "round/default/2" not in f.parts(view)


def test_cleared_topics_take_their_part_away() -> None:
    view = round_of_two()
    f.told(view, "op/round/1", f.line(1))
    f.told(view, "up/a/state", None)
    f.told(view, "op/round/1", None)
    assert not {"client/default/a", "round/default/1"} & set(f.parts(view))


def test_what_the_broker_forgot_while_we_were_away_is_dropped_after_a_while() -> None:
    view = round_of_two()
    view.disconnected("gone")
    assert f.parts(view)["link"]["reason"] == "gone"
    view.connected(100.0)
    f.told(view, "up/a/state", f.state(), 100.1, retained=True)
    assert "client/default/b" in f.parts(view)
    f.told(view, "up/a/event", f.progress(0.1), 100.0 + vw.FORGOTTEN_AFTER_S)
    assert "client/default/b" not in f.parts(view) and "client/default/a" in f.parts(view)


def test_joining_leaving_losing_and_coming_back_are_events() -> None:
    view = View()
    f.told(view, "up/a/state", f.state(seq=1))
    f.told(view, "up/a/state", f.state("lost", seq=2))
    f.told(view, "up/a/state", f.state("ready", instance="c2"))
    f.told(view, "up/a/state", f.state("left", seq=1, instance="c2"))
    f.told(view, "up/z/state", f.state(), retained=True)
    assert f.events(view) == ["a joined", "a was lost", "a is back (it was lost)", "a left"]


def test_a_client_that_declines_says_why() -> None:
    view = round_of_two()
    f.told(view, "up/a/event", Decline(1, "disk full"))
    assert f.parts(view)["client/default/a"]["verdict"] == "declined"
    assert f.events(view)[-1] == "a declined round 1: disk full"


def test_synthetic_runs_are_known_from_their_config() -> None:
    view = View()
    f.told(view, "op/run", f.info(config=json.dumps({"synthetic": {"value": True}}).encode()))
    assert f.parts(view)["job/default"]["synthetic"] is True
    f.told(view, "op/run", f.info("two", config=b"[[[no json"))
    assert f.parts(view)["job/default"]["synthetic"] is False


def test_only_the_job_asked_for_is_shown() -> None:
    view = View(only="mine")
    f.told(view, "pub/agg", f.birth(), job="theirs")
    f.told(view, "pub/agg", f.birth(), job="mine")
    assert [name for name in f.parts(view) if name.startswith("job/")] == ["job/mine"]


def test_strangers_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MAX_JOBS", 3), ("MAX_CLIENTS", 4), ("MAX_ROUNDS", 5), ("MAX_EVENTS", 6)):
        monkeypatch.setattr(vw, name, most)
    view = View()
    for job in range(9):
        for number in range(1, 20):
            f.told(view, f"up/c{number}/state", f.state(), job=f"j{job}")
            f.told(view, f"op/round/{number}", f.line(number), job=f"j{job}")
    found = f.parts(view)
    kinds = [name.split("/")[0] for name in found]
    assert len(view.jobs) == 3 and kinds.count("client") == 12 and kinds.count("round") == 15
    assert kinds.count("event") <= 18 and found["link"]["hidden"] == 3 * 15
    assert min(int(name.split("/")[2]) for name in found if name.startswith("round/j0/")) == 15


def test_bytes_that_are_no_message_are_counted() -> None:
    view = View()
    for topic, frame in (
        ("fl/1/default/pub/round", b"\xc1"),
        ("nonsense", b"x"),
        ("fl/1/default/pub/agg", encode(f.state())),
    ):
        assert view.take(topic, frame, False, 0.0) is None
    assert f.parts(view)["link"]["malformed"] == 3 and view.jobs == {}


TOPICS = ("pub/agg", "pub/round", "up/a/state", "up/a/event", "up/b/state", "op/run", "op/round/1", f"dn/a/ack/{f.TRANSFER}",
          f"up/a/offer/{f.TRANSFER}")  # fmt: skip
MESSAGES = (
    f.birth(), f.birth(online=False), f.opened("a", "b"), f.opened(), f.opened("b", number=2), f.state(), f.state("lost"),
    f.state("training"), f.progress(0.5), f.OFFER, f.held(2), f.verdict("accepted"), f.verdict("late"), f.info(),
    f.info("two", paused=True), f.line(1), f.line(1, "two"), Decline(1, "no"),
)  # fmt: skip
STEP = st.tuples(
    st.sampled_from(TOPICS), st.sampled_from([b"", b"\xc1", *(encode(each) for each in MESSAGES)]), st.booleans(),
    st.sampled_from(["", "connected", "disconnected"]),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(STEP, max_size=40))
def test_no_order_of_frames_breaks_it_and_differences_add_up(
    steps: list[tuple[str, bytes, bool, str]],
) -> None:
    view, seen = View(), 0
    shown: dict[str, Any] = {}
    for now, (topic, frame, retained, link) in enumerate(steps):
        if link == "connected":
            view.connected(now * 6.0)
        elif link:
            view.disconnected("x")
        view.take(f"fl/1/default/{topic}", frame, retained, now * 6.0)
        if now % 3 == 0:
            seen = _apply(view, shown, seen)
    _apply(view, shown, seen)
    assert shown == f.parts(view)


def _apply(view: View, shown: dict[str, Any], seen: int) -> int:
    for name, text in view.parts.since(seen).items():
        value = json.loads(text)
        shown.pop(name, None)
        if value is not None:
            shown[name] = value
    return view.parts.version
