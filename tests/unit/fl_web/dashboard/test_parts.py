"""Parts and what changed since: whoever asks in whatever rhythm ends up with the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fl_web.dashboard.parts import MAX_GONE, Parts

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(0, 9)),
        st.tuples(st.just("drop"), st.sampled_from("abcd"), st.just(0)),
        st.tuples(st.just("look"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


def apply(shown: dict[str, Any], changed: dict[str, str]) -> None:
    for name, text in changed.items():
        value = json.loads(text)
        if value is None:
            shown.pop(name, None)
        else:
            shown[name] = value


@given(STEPS)
def test_differences_add_up_to_the_whole(steps: list[tuple[str, str, int]]) -> None:
    parts, seen = Parts(), 0
    shown: dict[str, Any] = {}
    truth: dict[str, Any] = {}
    for step, name, value in steps:
        if step == "put":
            parts.put(name, value)
            truth[name] = value
        elif step == "drop":
            parts.drop(name)
            truth.pop(name, None)
        else:
            apply(shown, parts.since(seen))
            seen = parts.version
    apply(shown, parts.since(seen))
    assert shown == truth and len(parts) == len(truth)
    assert {name: json.loads(text) for name, text in parts.since(0).items()} == truth


def test_only_what_changed_is_told_the_newest_last() -> None:
    parts = Parts()
    for name in "abc":
        parts.put(name, 1)
    seen = parts.version
    parts.put("a", 2)
    parts.put("a", 3)
    assert parts.since(seen) == {"a": "3"}
    assert list(parts.since(0)) == ["b", "c", "a"]


def test_what_is_gone_is_not_remembered_for_ever() -> None:
    parts = Parts()
    for number in range(MAX_GONE + 1):
        parts.put(f"x{number}", 1)
        parts.drop(f"x{number}")
    assert parts.epoch == 1 and len(parts._parts) == 0


def test_what_is_forgotten_is_not_told() -> None:
    parts = Parts()
    parts.put("a", 1)
    seen = parts.version
    parts.forget("a")
    parts.forget("never there")
    assert parts.since(seen) == {} and parts.since(0) == {} and len(parts) == 0
