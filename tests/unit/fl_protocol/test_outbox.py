"""Which message leaves when, and that none is lost or counted twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fl_protocol.outbox import FIRST_WINDOW, MAX_LOSSES, MAX_WINDOW, STUCK, Outbox, Outgoing

KEEPALIVE_S = 40.0
SLOW_S = 11.0


def message(name: str, *, bulk: bool = True) -> Outgoing:
    return Outgoing(name, b"", retain=False, bulk=bulk)


def filled(count: int, *, bulk: bool = True) -> Outbox:
    outbox = Outbox(KEEPALIVE_S)
    for i in range(count):
        outbox.put(message(str(i), bulk=bulk))
    return outbox


def send_all(outbox: Outbox, now: float = 0.0, size: int = 1, first_mid: int = 0) -> list[int]:
    """Send what the window allows; the message ids."""
    mids: list[int] = []
    while (taken := outbox.take()) is not None:
        mids.append(first_mid + len(mids))
        outbox.sent(mids[-1], taken, size, now)
    return mids


def test_a_quick_answer_opens_the_window_up_to_its_limit() -> None:
    outbox = filled(100)
    mids = send_all(outbox)
    assert len(mids) == FIRST_WINDOW
    for turn in range(40):
        outbox.acked(mids.pop(0), now=0.1)
        mids += send_all(outbox, first_mid=100 * (turn + 1))
    assert len(mids) == outbox.flying == MAX_WINDOW - 1


def test_slow_answers_halve_the_window_once_for_all_that_flew_together() -> None:
    outbox = filled(100)
    mids = send_all(outbox)
    outbox.acked(mids[0], now=SLOW_S)
    outbox.acked(mids[1], now=SLOW_S)
    assert outbox.window == FIRST_WINDOW // 2
    outbox.acked(mids[2], SLOW_S)
    outbox.acked(mids[3], SLOW_S)
    for mid in send_all(outbox, now=SLOW_S, first_mid=50):
        outbox.acked(mid, now=3 * SLOW_S)
    assert outbox.window == 1


def test_the_brokers_receive_maximum_binds() -> None:
    outbox = filled(100)
    outbox.connected(receive_maximum=3, keepalive_s=KEEPALIVE_S, limit_known=True)
    assert len(send_all(outbox)) == 2
    outbox.put(message("urgent", bulk=False))
    outbox.put(message("urgent too", bulk=False))
    assert len(send_all(outbox, first_mid=10)) == 1


def test_a_receive_maximum_of_one_still_serves_both_lanes() -> None:
    outbox = filled(2)
    outbox.connected(receive_maximum=1, keepalive_s=KEEPALIVE_S, limit_known=True)
    outbox.put(message("urgent", bulk=False))
    order = []
    while (taken := outbox.take()) is not None:
        order.append(taken.topic)
        outbox.sent(0, taken, 1, 0.0)
        assert outbox.take() is None
        outbox.acked(0, 0.0)
    assert order == ["urgent", "0", "1"]


def test_urgent_goes_first_and_into_a_full_window() -> None:
    outbox = filled(100)
    send_all(outbox)
    outbox.put(message("urgent", bulk=False))
    taken = outbox.take()
    assert taken is not None and taken.topic == "urgent"


def test_after_a_loss_everything_comes_again_in_order() -> None:
    outbox = filled(10)
    mids = send_all(outbox)
    outbox.acked(mids[0], 0.0)
    outbox.lost(1.0)
    assert outbox.backlog() == 9 and outbox.flying == 0
    again = []
    while (taken := outbox.take()) is not None:
        again.append(taken.topic)
        outbox.sent(99, taken, 1, 2.0)
        outbox.acked(99, 2.0)
    assert again == [str(i) for i in range(1, 10)] and outbox.backlog() == 0


def test_an_answer_to_nothing_changes_nothing() -> None:
    outbox = filled(1)
    send_all(outbox)
    assert outbox.acked(77, 0.0) is None
    assert outbox.acked(0, 0.0) is not None
    assert outbox.acked(0, 0.0) is None
    assert outbox.backlog() == 0


def kill_repeatedly(outbox: Outbox, size: int, lived_s: float) -> list[str]:
    given_up = []
    for turn in range(2 * MAX_LOSSES):
        outbox.connected(MAX_WINDOW, KEEPALIVE_S, limit_known=False)
        send_all(outbox, now=100.0 * turn, size=size, first_mid=100 * turn)
        guilty = outbox.lost(100.0 * turn + lived_s)
        given_up += [guilty.topic] if guilty else []
    return given_up


def test_a_large_message_that_kills_connection_after_connection_is_given_up() -> None:
    outbox = filled(1)
    assert kill_repeatedly(outbox, size=2_000_000, lived_s=0.1) == ["0"]
    assert outbox.backlog() == 0


def test_a_small_message_and_a_slow_death_are_not_to_blame() -> None:
    assert kill_repeatedly(filled(1), size=500, lived_s=0.1) == []
    assert kill_repeatedly(filled(1), size=2_000_000, lived_s=20.0) == []


def test_bulk_is_forgotten_the_rest_is_not() -> None:
    outbox = filled(5)
    outbox.put(message("farewell", bulk=False))
    outbox.forget_bulk()
    assert outbox.backlog() == 1
    taken = outbox.take()
    assert taken is not None and taken.topic == "farewell"


@given(st.lists(st.sampled_from(["put", "urgent", "send", "ack", "slow", "lose"]), max_size=60))
def test_nothing_is_lost_or_counted_twice(steps: list[str]) -> None:
    outbox, done, put, now, mid = Outbox(KEEPALIVE_S), 0, 0, 0.0, 0
    flying: list[int] = []
    for step in steps:
        now += SLOW_S if step == "slow" else 0.1
        if step in {"put", "urgent"}:
            put += 1
            outbox.put(message(str(put), bulk=step == "put"))
        elif step == "send" and (taken := outbox.take()) is not None:
            mid += 1
            outbox.sent(mid, taken, 1, now)
            flying.append(mid)
        elif step in {"ack", "slow"} and flying:
            assert outbox.acked(flying.pop(0), now) is not None
            done += 1
        elif step == "lose":
            outbox.lost(now)
            flying.clear()
        assert outbox.backlog() == put - done
        assert outbox.flying == len(flying) <= MAX_WINDOW
    while (taken := outbox.take()) is not None:
        outbox.sent(-1, taken, 1, now)
        outbox.acked(-1, now)
    for left in flying:
        outbox.acked(left, now)
    while (taken := outbox.take()) is not None:
        outbox.sent(-1, taken, 1, now)
        outbox.acked(-1, now)
    assert outbox.backlog() == 0


def test_a_broker_that_acknowledges_nothing_is_noticed() -> None:
    outbox = filled(2)
    assert not outbox.is_stuck(1e9), "nothing was sent"
    for mid in (1, 2):
        taken = outbox.take()
        assert taken is not None
        outbox.sent(mid, taken, 1, 10.0 * mid)
    assert not outbox.is_stuck(10.0 + STUCK * KEEPALIVE_S)
    assert outbox.is_stuck(10.1 + STUCK * KEEPALIVE_S)
    outbox.acked(1, 11.0)
    assert not outbox.is_stuck(10.1 + STUCK * KEEPALIVE_S)
    outbox.lost(12.0)
    assert not outbox.is_stuck(1e9)
