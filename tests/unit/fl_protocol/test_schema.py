"""The checks of message fields, each with what it takes and what it refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from fl_protocol import schema
from fl_protocol.errors import DecodeError

INF, NAN = float("inf"), float("nan")

TAKEN = [
    (schema.whole(0, 5), 0, 0),
    (schema.whole(0, 5), 5, 5),
    (schema.whole(), 2**53, 2**53),
    (schema.number(0.0, 1.0), 1, 1.0),
    (schema.number(), -1e308, -1e308),
    (schema.flag, False, False),
    (schema.text(3), "\u00e4bc", "\u00e4bc"),
    (schema.text(3, re.compile("a+")), "aa", "aa"),
    (schema.blob(2), b"\0\xff", b"\0\xff"),
    (schema.maybe(schema.whole()), None, None),
    (schema.maybe(schema.whole()), 3, 3),
    (schema.many(schema.whole(), 2), [1, 2], (1, 2)),
    (schema.many(schema.whole(), 2), [], ()),
    (schema.table(schema.whole(), 1), {"k": 1}, {"k": 1}),
]

REFUSED: list[tuple[schema.Check, Any]] = [
    (schema.whole(0, 5), 6),
    (schema.whole(0, 5), -1),
    (schema.whole(0, 5), 1.0),
    (schema.whole(0, 5), True),
    (schema.whole(0, 5), "1"),
    (schema.whole(), 2**53 + 1),
    (schema.number(), NAN),
    (schema.number(), INF),
    (schema.number(), -INF),
    (schema.number(0.0, 1.0), 1.5),
    (schema.number(), True),
    (schema.number(), "1"),
    (schema.number(), None),
    (schema.flag, 1),
    (schema.flag, None),
    (schema.text(3), "abcd"),
    (schema.text(3), b"abc"),
    (schema.text(3, re.compile("a+")), "aa\n"),
    (schema.text(3, re.compile("a+")), "ab"),
    (schema.blob(2), b"abc"),
    (schema.blob(2), "ab"),
    (schema.blob(2), bytearray(b"a")),
    (schema.maybe(schema.whole()), "x"),
    (schema.many(schema.whole(), 2), [1, 2, 3]),
    (schema.many(schema.whole(), 2), [1, "x"]),
    (schema.many(schema.whole(), 2), "12"),
    (schema.many(schema.whole(), 2), {1: 2}),
    (schema.table(schema.whole(), 1), {"k": 1, "l": 2}),
    (schema.table(schema.whole(), 1), {"k": "x"}),
    (schema.table(schema.whole(), 1), {b"k": 1}),
    (schema.table(schema.whole(), 1), {"k" * 201: 1}),
    (schema.table(schema.whole(), 1), [("k", 1)]),
]


@pytest.mark.parametrize(("check", "value", "held"), TAKEN)
def test_taken(check: schema.Check, value: object, held: object) -> None:
    found = check(value)
    assert found == held
    assert type(found) is type(held)


@pytest.mark.parametrize(("check", "value"), REFUSED)
def test_refused(check: schema.Check, value: object) -> None:
    with pytest.raises(DecodeError) as caught:
        check(value)
    assert caught.value.reason == "bad_field"


@dataclass(frozen=True)
class Inner:
    count: int = schema.bounded(schema.whole(0, 9))


@dataclass(frozen=True)
class Outer:
    inner: Inner = schema.bounded(schema.record(Inner))
    inners: tuple[Inner, ...] = schema.bounded(schema.many(schema.record(Inner), 2), default=())
    name: str = schema.bounded(schema.text(5), default="none")


def test_build_reads_what_plain_writes() -> None:
    outer = Outer(Inner(1), (Inner(2), Inner(3)), "x")
    assert schema.plain(outer) == {
        "inner": {"count": 1}, "inners": [{"count": 2}, {"count": 3}], "name": "x"
    }  # fmt: skip
    assert schema.build(Outer, schema.plain(outer)) == outer


def test_build_takes_defaults_and_ignores_what_a_later_version_adds() -> None:
    assert schema.build(Outer, {"inner": {"count": 1, "later": 2}, "later": [1]}) == Outer(Inner(1))


@pytest.mark.parametrize(
    ("value", "reason", "where"),
    [
        ({}, "missing_field", "Outer.inner"),
        ({"inner": {}}, "missing_field", "Outer.inner: Inner.count"),
        ({"inner": {"count": 10}}, "bad_field", "Outer.inner: Inner.count"),
        ({"inner": {"count": 1}, "inners": [{"count": "x"}]}, "bad_field", "Outer.inners: Inner.count"),
        ({"inner": 3}, "bad_field", "Inner is not a map"),
        ([], "bad_field", "Outer is not a map"),
    ],
)
def test_build_says_where_it_broke(value: object, reason: str, where: str) -> None:
    with pytest.raises(DecodeError) as caught:
        schema.build(Outer, value)
    assert caught.value.reason == reason
    assert where in caught.value.detail
