"""Progress of the aggregator for the person who started it: a live area on a terminal, plain lines elsewhere.

The shell says what happened, in the past tense (notices.py); a view shows it. A view never raises on odd data and
never waits for anything. rich is imported on a terminal only.
"""

from __future__ import annotations

import os
from typing import TextIO

from aggregator import notices as seen
from aggregator.console_lines import Refusals, line_of
from fl_protocol.console import Lines, Quarters, part, wants_live


def make_view(stream: TextIO, force: str | None = None) -> seen.View:
    """The view that suits ``stream``; ``force`` is live, plain or None. ConfigError for anything else."""
    if wants_live(stream, force, os.environ.get("TERM", "")):
        from aggregator.console_live import LiveView

        return LiveView(stream)
    return PlainView(stream)


class PlainView:
    """One line an event. Training and uploads speak at each quarter, and not at all in large cohorts."""

    SPEAKS_UP_TO = 16
    """Clients in a cohort beyond which single clients' progress stays unsaid."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._quarters = Quarters()
        self._refusals = Refusals()
        self._cohort = 0
        self._waited: seen.Event | None = None

    def show(self, event: seen.Event) -> None:
        if isinstance(event, seen.RoundOpened):
            self._cohort = len(event.cohort)
        if not self._refusals.silences(event) and not self._unsaid(event):
            self._lines.write(line_of(event))

    def close(self) -> None:
        """Nothing to take away."""

    def _unsaid(self, event: seen.Event) -> bool:
        if isinstance(event, seen.WaitedForClients):
            before, self._waited = self._waited, event
            return event == before
        if isinstance(event, seen.TrainingAdvanced):
            key, fraction = f"train/{event.round_number}/{event.client_id}", event.fraction
        elif isinstance(event, seen.UploadAdvanced):
            key, fraction = f"upload/{event.round_number}/{event.client_id}", part(event.held, event.total)
        else:
            return False
        return self._cohort > self.SPEAKS_UP_TO or not self._quarters.passed(key, fraction)
