"""Lines of an aggregator, as the console writes them, become a story."""

from __future__ import annotations

from aggregator import console_lines
from aggregator import notices as seen
from edge_client.console_lines import line_of
from edge_client.notices import WorkCancelled
from fl_sim.chaos import CANCELLED
from fl_sim.story import Story


def record(number: int, outcome: str = "closed") -> dict[str, object]:
    return {"round": number, "outcome": outcome, "cohort": ["a"], "accepted": ["a"], "duration_s": 1.0}


def tell(story: Story, now: float, *events: seen.Event) -> None:
    for event in events:
        story.hear(console_lines.line_of(event), now)


def test_rounds_and_updates() -> None:
    story = Story()
    tell(story, 1.0, seen.RoundOpened(1, 2, ("a", "b"), 1, 2))
    assert (story.round_number, story.since) == (1, 1.0)
    tell(story, 2.0, seen.UpdateAccepted("a", 1, 10))
    tell(story, 3.0, seen.RoundEnded(record(1)))
    assert (story.round_number, story.since) == (2, 3.0)
    tell(story, 3.5, seen.RoundOpened(2, 2, ("a", "b"), 1, 2))
    tell(story, 9.0, seen.RoundEnded(record(2, "closed_short")))
    assert story.accepted == {("a", 1): 2.0}
    assert story.outcomes == {1: "closed", 2: "closed_short"}
    assert story.seconds() == 8.0


def test_what_is_said_again_changes_no_instant() -> None:
    """A restarted aggregator resumes its round, and an answer may be given twice."""
    story = Story()
    tell(story, 1.0, seen.RoundOpened(1, 2, ("a",), 1, 1), seen.UpdateAccepted("a", 1, 10))
    tell(story, 5.0, seen.Resumed(1, 2, 1), seen.UpdateAccepted("a", 1, 10))
    assert (story.since, story.accepted, story.opened) == (1.0, {("a", 1): 1.0}, {1: 1.0})
    assert story.moved_at == 5.0


def test_an_end_that_nobody_lived_to_tell_is_known_by_what_follows() -> None:
    story = Story()
    tell(story, 1.0, seen.RoundOpened(1, 2, ("a",), 1, 1))
    tell(story, 2.0, seen.Resumed(2, 2, 0))
    assert story.ended == {1: 2.0}
    story.hear("warning: this run has had its 2 rounds: give more --rounds to go on, or --fresh", 3.0)
    assert story.ended == {1: 2.0, 2: 3.0}


def test_other_lines_tell_nothing() -> None:
    story = Story()
    for line in ("", "client joined client=a", "Traceback", "round=x opened", "round=1 rejected client=a"):
        story.hear(line, 1.0)
    assert story == Story()


def test_work_that_was_given_up_is_known_by_what_an_edge_says() -> None:
    assert CANCELLED in line_of(WorkCancelled(3, "the round moved on"))
