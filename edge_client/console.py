"""Progress of an edge client for the person beside it: a live area on a terminal, plain lines elsewhere.

The shell says what happened, in the past tense (notices.py); a view shows it. A view never raises on odd data and
never waits for anything. rich is imported on a terminal only.
"""

from __future__ import annotations

import os
from typing import TextIO

from edge_client import notices as seen
from edge_client.console_lines import fraction_of, line_of
from fl_protocol.console import Lines, Quarters, wants_live


def make_view(stream: TextIO, force: str | None = None) -> seen.View:
    """The view that suits ``stream``; ``force`` is live, plain or None. ConfigError for anything else."""
    if wants_live(stream, force, os.environ.get("TERM", "")):
        from edge_client.console_live import LiveView

        return LiveView(stream)
    return PlainView(stream)


class PlainView:
    """One line an event; fetching, training and uploading speak at each quarter."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._quarters = Quarters()

    def show(self, event: seen.Event) -> None:
        if not isinstance(
            event, seen.FetchAdvanced | seen.TrainingAdvanced | seen.UploadAdvanced
        ) or self._quarters.passed(f"{type(event).__name__}/{event.round_number}", fraction_of(event)):
            self._lines.write(line_of(event))

    def close(self) -> None:
        """Nothing to take away."""
