"""What is written of a run for people and programs: rounds.jsonl, evaluation.json, report.html."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aggregator import notices as seen
from aggregator.best import Best
from aggregator.events import Aggregate
from aggregator.report.page import write_report
from aggregator.report.parts import FILE_NAME as PARTS_FILE
from aggregator.report.parts import parts_json
from aggregator.rundir import RunDirectory
from aggregator.spool import Upload
from aggregator.tensorboard import EventFiles
from fl_protocol.messages import FIGURE
from fl_tasks.jobs import Evaluated

REPORT_EVERY_S = 2.0
SHARE_OF_TIME = 20
"""The report of a long run takes a while to draw: no more than one second in so many goes into it."""


class Recording:
    """Writes down rounds as they end; what nobody waits for is done by :meth:`tidy`, at leisure."""

    def __init__(
        self, run: RunDirectory, view: seen.View, best_by: str | None = None, counted: tuple[int, int] = (0, 0)
    ) -> None:  # fmt: skip
        """``counted`` are the bytes that the process sent and received before this run."""
        self._run, self._view = run, view
        self._missed = best_by
        """The metric that decides, until it is known whether rounds have it."""
        self.tensorboard: EventFiles | None = None
        self._drawn: list[dict[str, Any]] = []
        self._counted = counted
        self._folding: list[Upload] = []
        self._folded: list[Upload] = []
        self._report_next_at = 0.0
        self.untidy = False
        self.holdings: Mapping[str, Mapping[str, int]] = {}
        """Images of each class by client, as the clients count them."""

    def scores(self, round_number: int, reply: Evaluated) -> dict[str, float]:
        """The metrics for the record, with the interval; the curves behind them go to evaluation.json."""
        detail = reply.detail or {}
        if detail:
            self._run.write_json("evaluation.json", detail | {"round": round_number})
        low, high = detail.get("auroc_interval") or (None, None)
        band = {} if low is None or high is None else {"auroc_low": low, "auroc_high": high}
        return reply.metrics | band

    def folding(self, effect: Aggregate) -> None:
        """Note which files of the spool are of the past once the round's model is adopted."""
        number = effect.round_number
        self._folding = [(number - each.staleness, each.client_id, each.transfer) for each in effect.updates]

    def keep(self, record: dict[str, Any], sent: int, received: int) -> None:
        """A round ended. ``sent`` and ``received`` are bytes since the process began."""
        self._folded, self._folding = self._folded + self._folding, []
        number = record["round"]
        whole = record | {
            "bytes_down": sent - self._counted[0],
            "bytes_up": received - self._counted[1],
            "started_at": self._run.journal.started_at(number),
        }
        self._counted = sent, received
        self._run.journal.keep_record(number, whole)
        self._run.append_round(whole)
        self._view.show(seen.RoundEnded(whole))
        self._look_for_measure(record)
        if self.tensorboard is not None:
            self._drawn.append(whole)
        self.untidy = True

    def _look_for_measure(self, record: Mapping[str, Any]) -> None:
        """Say once if what is to decide which model is the best is not among what the first round measured."""
        name, self._missed = self._missed, None
        if name is not None and "best" not in record:
            at_sites = (f"client_{each}" for each in record["client_metrics"] if each.startswith(FIGURE))
            there = ", ".join(sorted([*(record["metrics"] or {}), *at_sites])) or "nothing"
            self._view.show(
                seen.Warned(f"--best-by {name} was not measured in round {record['round']}: there is {there}")
            )

    def keep_best(self, best: Best) -> None:
        """Let best.safetensors be the best model. It is one of the two newest when it becomes the best, so it is gone
        only where another metric decides than when it was made, or where files were lost.
        """
        if not self._run.publish_best(best.digest):
            self._view.show(
                seen.Warned(
                    f"the best model so far ({best}) was not kept: best.safetensors is written when a better one comes"
                )
            )

    def tidy(self, settled: int) -> None:
        """Delete what was folded, and all that rounds up to ``settled`` left in the spool, since it can never count;
        bring the report up to date now and then.
        """
        self.untidy = False
        self._run.spool.discard(self._folded)
        self._folded = []
        self._run.spool.discard_up_to(settled)
        self._draw()
        if time.monotonic() >= self._report_next_at:
            self.report()

    def _draw(self) -> None:
        """Bring the event files up to date; a disk that refuses them does not end the run."""
        drawn, self._drawn = self._drawn, []
        try:
            for record in drawn:
                if self.tensorboard is not None:
                    self.tensorboard.add(record)
        except OSError as error:
            self.tensorboard = None
            self._view.show(
                seen.Warned(f"the files for TensorBoard cannot be written any more ({error.strerror})")
            )

    def close(self) -> None:
        """Nothing more will be written."""
        if self.tensorboard is not None:
            self.tensorboard.close()
            self.tensorboard = None

    def report(self) -> None:
        """Write report.html; a disk that refuses it does not end the run."""
        began = time.monotonic()
        try:
            if self.holdings:
                self._run.write_json(PARTS_FILE, parts_json(sorted(self.holdings.items())))
            write_report(self._run.path)
        except OSError as error:
            self._view.show(seen.Warned(f"report.html cannot be written ({error.strerror})"))
        ended = time.monotonic()
        self._report_next_at = ended + max(REPORT_EVERY_S, SHARE_OF_TIME * (ended - began))
