"""The edge's task process: what it is asked, and what its replies mean. It is let go when there is nothing to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from edge_client import events as ev
from edge_client.kept import Kept, pending_of
from edge_client.site import Site
from edge_client.store import Store, raise_unless_full
from fl_protocol.messages import FETCH_TIME, TRAIN_TIME
from fl_tasks import jobs
from fl_tasks.process import TaskProcess

log = logging.getLogger("hilum.edge")

LET_GO_S = 3.0


class Trainer:
    """Prepares data, trains and scores for one site; ``deliver`` takes the replies, from another thread."""

    def __init__(
        self, site: Site, store: Store, kept: Kept, deliver: Callable[[Any], None], idle_s: float
    ) -> None:  # fmt: skip
        self.site, self.store, self.kept, self.idle_s = site, store, kept, idle_s
        self._process = TaskProcess(
            device=site.device, plugin=site.plugin, threads=site.threads, deliver=deliver
        )
        self._trainings: dict[str, tuple[ev.StartTraining, float]] = {}
        self._idle_since = time.monotonic()

    # --- what it is asked ---------------------------------------------------------------------------------

    def prepare(self, effect: ev.PrepareData) -> None:
        self._process.submit(jobs.Prepare(self.site.data_options(effect.task, effect.image_size)))

    def train(self, effect: ev.StartTraining) -> None:
        work = effect.assignment
        out = str(self.store.update_path(work))
        self._trainings[out] = effect, time.monotonic()
        keeps = work.plan.control_variates or work.plan.local_norms
        kept = self.kept.begin(work.round_number) if keeps else None
        self._process.submit(
            jobs.Train(
                options=self.site.data_options(work.task, work.image_size),
                model_file=str(self.store.model_path(work.base)),
                plan=work.plan,
                out=out,
                round_number=work.round_number,
                model=work.model,
                kept=str(kept or ""),
                kept_out=str(pending_of(out)) if keeps else "",
                scores=work.scores,
            )
        )

    def score(self, effect: ev.StartScoring) -> None:
        work = effect.assignment
        kept = self.kept.before(work.round_number) if work.plan.local_norms else None
        self._process.submit(
            jobs.Score(
                options=self.site.data_options(work.task, work.image_size),
                model_file=str(self.store.model_path(work.base)),
                plan=work.plan,
                round_number=work.round_number,
                model=work.model,
                kept=str(kept or ""),
            )
        )

    def cancel(self) -> None:
        self._process.cancel()

    # --- its life -----------------------------------------------------------------------------------------

    def let_go_if_idle(self, now: float, *, needed: bool) -> None:
        """End the process once nobody has needed it for so long: an idle edge is a small one."""
        if needed or self._process.busy or not self._process.running:
            self._idle_since = now
        elif now >= self._idle_since + self.idle_s:
            self.stop()

    def deadline(self, now: float) -> float:
        """When to look whether it is idle; infinite if it does not run."""
        return max(now + 1.0, self._idle_since + self.idle_s) if self._process.running else float("inf")

    def stop(self) -> None:
        """End the process, if it runs."""
        self._process.stop(LET_GO_S)

    # --- what its replies mean ----------------------------------------------------------------------------

    def event_of(self, reply: jobs.Reply) -> ev.Event | None:
        """What a reply means to the session; a finished update is on disk under its name by then."""
        means = _MEANS.get(type(reply))
        return means(self, reply) if means else None

    def _prepared(self, reply: jobs.Prepared) -> ev.Event:
        return ev.DataPrepared(reply.summary, reply.num_examples, reply.device, tuple(reply.problems))

    def _progressed(self, reply: jobs.TrainingProgress) -> ev.Event:
        return ev.TrainingProgressed(reply.round_number, reply.fraction, reply.loss)

    def _trained(self, reply: jobs.Trained) -> ev.Event | None:
        started, since = self._trainings.pop(reply.out, (None, 0.0))
        if started is None:
            return None
        took = {FETCH_TIME: round(started.fetch_s, 3), TRAIN_TIME: round(time.monotonic() - since, 3)}
        try:
            update = self.store.keep_update(started.assignment, reply.num_examples, reply.metrics | took)
        except OSError as error:
            raise_unless_full(error)
            return ev.WorkFailed(reply.round_number, f"the update cannot be kept: {error.strerror}")
        return ev.UpdateKept(update)

    def _scored(self, reply: jobs.Scored) -> ev.Event:
        return ev.ModelScored(reply.round_number, reply.metrics)

    def _failed(self, reply: jobs.Failed) -> ev.Event | None:
        if not reply.request:
            return None  # an idle task process died: the next request starts another
        log.debug("%s failed (%s): %s", reply.request, reply.kind, reply.message)
        lines = reply.message.strip().splitlines() or [reply.kind]
        reason = lines[-1] if reply.kind == jobs.BUG else lines[0]
        return ev.WorkFailed(
            reply.round_number, reason, data=reply.kind == jobs.DATA, cancelled=reply.kind == jobs.CANCELLED
        )


_MEANS: dict[type[Any], Callable[[Trainer, Any], ev.Event | None]] = {
    jobs.Prepared: Trainer._prepared,
    jobs.TrainingProgress: Trainer._progressed,
    jobs.Trained: Trainer._trained,
    jobs.Scored: Trainer._scored,
    jobs.Failed: Trainer._failed,
}
REPLIES = tuple(_MEANS)
