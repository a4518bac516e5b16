"""Tokens, attempts, sessions and requests from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_web import security as sec


def test_only_the_token_fits_its_hash_and_the_hash_survives_a_file() -> None:
    token, kept = sec.new_token()
    assert kept.fits(token) and not kept.fits(token + "x") and not kept.fits("")
    assert sec.token_hash_of(kept.text() + "\n") == kept
    assert token not in kept.text() and token not in repr(kept)


@pytest.mark.parametrize("text", ["", "scrypt:00:11", "token", "scrypt:" + "z" * 32 + ":" + "0" * 64])
def test_other_lines_are_no_hash(text: str) -> None:
    assert sec.token_hash_of(text) is None


def test_a_token_as_long_as_a_book_is_not_even_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, kept = sec.new_token()
    monkeypatch.setattr(sec, "_scrypt", lambda *_: pytest.fail("hashed"))
    assert not kept.fits("x" * (sec.MAX_TOKEN + 1))


def test_an_address_that_guesses_has_to_wait_and_others_need_not() -> None:
    attempts = sec.Attempts(each=(3, 10.0), all_together=(100, 1.0))
    for _ in range(3):
        assert attempts.wait_s("a", 0.0) == 0.0
        attempts.failed("a", 0.0)
    assert attempts.wait_s("a", 0.0) == pytest.approx(10.0)
    assert attempts.wait_s("b", 0.0) == 0.0
    assert attempts.wait_s("a", 10.0) == 0.0


def test_guessing_from_everywhere_is_bounded_as_well() -> None:
    attempts = sec.Attempts(each=(3, 10.0), all_together=(20, 1.0), most_addresses=50)
    tried = 0
    for number in range(1000):
        if attempts.wait_s(f"10.0.0.{number}", 0.0) == 0.0:
            tried += 1
            attempts.failed(f"10.0.0.{number}", 0.0)
    assert tried == 20
    assert len(attempts._by_address) <= 50


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=60))
def test_no_order_of_guesses_beats_the_bound(steps: list[tuple[str, float]]) -> None:
    attempts = sec.Attempts(each=(3, 10.0), all_together=(5, 4.0))
    now, tried = 0.0, 0
    for address, wait_s in steps:
        now += wait_s
        if attempts.wait_s(address, now) == 0.0:
            tried += 1
            attempts.failed(address, now)
    assert tried <= 5 + now / 4.0 + 1e-6


def test_sessions_end_by_age_by_rest_by_number_and_by_will() -> None:
    sessions = sec.Sessions(most=2, longest_s=100, idle_s=50)
    one = sessions.open(0.0)
    assert sessions.is_open(one, 40.0) and sessions.is_open(one, 80.0) and not sessions.is_open(one, 101.0)
    resting = sessions.open(200.0)
    assert not sessions.is_open(resting, 251.0)
    first, second, third = (sessions.open(300.0) for _ in range(3))
    assert [sessions.is_open(name, 300.0) for name in (first, second, third)] == [False, True, True]
    sessions.close(third)
    assert not sessions.is_open(third, 300.0) and not sessions.is_open("", 300.0)


def test_a_form_of_one_visitor_is_none_of_anothers() -> None:
    sessions = sec.Sessions()
    one, other = sec.new_visitor(), sec.new_visitor()
    assert sessions.is_form_token(one, sessions.form_token(one))
    assert not sessions.is_form_token(other, sessions.form_token(one))
    assert not sessions.is_form_token("", sessions.form_token(""))
    assert not sessions.is_form_token(one, "\udcff")


OURS = {"host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("method", "headers", "local", "refused"),
    [
        ("GET", OURS, True, False),
        ("GET", {"host": "localhost:8080"}, True, False),
        ("GET", {"host": "[::1]:8080"}, True, False),
        ("GET", {"host": "evil.example:8080"}, True, True),
        ("GET", {"host": "127.0.0.1.evil.example"}, True, True),
        ("GET", {}, True, True),
        ("GET", {"host": "hub.hospital.example"}, False, False),
        ("POST", OURS, True, False),
        ("POST", OURS | {"origin": "http://127.0.0.1:8080"}, True, False),
        ("POST", OURS | {"origin": "http://127.0.0.1:9999"}, True, True),
        ("POST", OURS | {"origin": "null"}, True, True),
        ("POST", OURS | {"sec-fetch-site": "cross-site"}, True, True),
        ("POST", OURS | {"sec-fetch-site": "same-site"}, True, True),
        ("POST", OURS | {"sec-fetch-site": "same-origin"}, True, False),
        ("DELETE", OURS | {"origin": "http://evil.example"}, True, True),
    ],
)
def test_requests_from_elsewhere_are_refused(
    method: str, headers: dict[str, str], local: bool, refused: bool
) -> None:
    assert (sec.refusal_of(method, headers, local=local) is not None) is refused


@pytest.mark.parametrize(("host", "expected"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
    ("0.0.0.0", False), ("192.168.1.2", False), ("hub.example", False), ("", False),
])  # fmt: skip
def test_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert sec.is_loopback(host) is expected
