"""Draw the state machines of docs/design.md from the tables in the code: ``python docs/draw_states.py [--check]``."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from aggregator import federation
from aggregator.phase import Phase
from edge_client import link, session
from edge_client.work import Work

DESIGN = Path(__file__).parent / "design.md"


def federation_states() -> str:
    """The phases of a run and the events that may lead from one to another."""
    ways: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (begin, event), move in federation.TRANSITIONS.items():
        for end in move.to - {begin}:
            ways[begin.value, end.value].append(event.__name__)
    order = [phase.value for phase in Phase]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> waiting"]
    for first, then in sorted(ways, key=lambda way: (order.index(way[0]), order.index(way[1]))):
        lines.append(f"    {first} --> {then}: {', '.join(sorted(ways[first, then]))}")
    return "\n".join([*lines, "```"])


def heard(table: dict[tuple[object, type], object], states: type) -> str:
    """Which events mean something in which state; the session's own code says where each leads."""
    events: dict[str, list[str]] = defaultdict(list)
    for state, event in table:
        events[state.value].append(event.__name__)  # type: ignore[attr-defined]
    lines = ["| state | hears |", "| --- | --- |"]
    lines += [f"| {state.value} | {', '.join(sorted(events[state.value]))} |" for state in states]  # type: ignore[attr-defined]
    return "\n".join(lines)


PICTURES: dict[str, Callable[[], str]] = {
    "aggregator.federation": federation_states,
    "edge_client.session": lambda: heard(session.TRANSITIONS, Work),  # type: ignore[arg-type]
    "edge_client.link": lambda: heard(link.TRANSITIONS, link.Place),  # type: ignore[arg-type]
}


def drawn(text: str) -> str:
    """``text`` with every picture made anew."""
    for name, draw in PICTURES.items():
        pattern = re.compile(rf"(<!-- states: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        picture = draw()
        text, count = pattern.subn(lambda found, made=picture: f"{found[1]}{made}\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"{DESIGN} has no place for the states of {name}")
    return text


def main() -> int:
    """0 if design.md is up to date, or was brought up to date; 1 if ``--check`` finds it stale."""
    before = DESIGN.read_text("utf-8")
    after = drawn(before)
    if "--check" not in sys.argv[1:]:
        DESIGN.write_text(after, "utf-8")
        return 0
    if before != after:
        print("docs/design.md is stale: run python docs/draw_states.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
