"""The simulator's shell: it lets the world go on, performs what it wants, and waits only for what it needs.

What fl-agg does with a journal, a spool and a fold is done with the same ones; only promises to clients need not
survive a crash, since nobody was promised anything. A run that is begun again goes on with the round it was in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.federation import Federation
from aggregator.folding import fold, unfit
from aggregator.global_models import facts_of
from aggregator.narration import failure, told
from aggregator.pieces import SpooledUpdate
from aggregator.recording import Recording
from aggregator.rundir import RunDirectory
from aggregator.strategy import Strategy
from aggregator.temperature import temperature_metadata
from edge_client.kept import Kept, pending_of
from fl_protocol import messages as msg
from fl_protocol.errors import HilumError, QuorumNotMet
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import LEAF_BYTES
from fl_sim.engine import Engine, answered
from fl_sim.profiles import Profile
from fl_sim.world import Begin, Drop, Effect, Outcome, Work, World
from fl_tasks import jobs

EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
"""When virtual time begins, whatever the day: the same run writes the same records."""
SPEAKS_UP_TO = 16
"""Clients in a cohort beyond which single updates stay unsaid."""


@dataclass(frozen=True)
class Clients:
    """The virtual clients: their names, what they hold, and where a worker finds it."""

    names: tuple[str, ...]
    examples: tuple[int, ...]
    options: tuple[jobs.DataOptions, ...]
    holdings: tuple[dict[str, int], ...] = ()
    """Images of each class, in the order of the names; empty where nobody counted."""


class Simulation:
    """One run in virtual time."""

    def __init__(
        self, run: RunDirectory, federation: Federation, strategy: Strategy, clients: Clients, profile: Profile,
        engine: Engine, view: seen.View, scored_on: jobs.DataOptions | None = None,
    ) -> None:  # fmt: skip
        self.run_dir, self.federation, self.strategy = run, federation, strategy
        self.clients, self.engine, self.view, self.scored_on = clients, engine, view, scored_on
        self._before = self._state().get(str(federation.rounds_done), {})
        payload_bytes = run.model(federation.base).size
        self.world = World(
            federation, clients.names, clients.examples, profile, payload_bytes,
            self._before.get("now", 0.0),
        )  # fmt: skip
        self.updates = 0
        self.payload_bytes, self.bytes_down, self.bytes_up = payload_bytes, 0, 0
        self._files: dict[tuple[str, str], Path] = {}
        self.recording = Recording(run, view, federation.config.best_by)
        self._over = False

    def run(self) -> None:
        """To the last round. Raises QuorumNotMet when a round was abandoned for good."""
        self._perform(self.world.begin(self._before.get("away")))
        while not self._over:
            if self.world.idle:
                here, needed = len(self.federation.present), self.federation.needed
                raise QuorumNotMet(
                    f"{here} of the {needed} clients that a round needs are left: nothing can happen any more; ask for less "
                    "with --cohort or --quorum"
                )
            work = self.world.awaited()
            self._perform(self.world.step(self._outcome(work) if work else None))
        self.recording.report()

    # --- training -----------------------------------------------------------------------------------------------

    def _key(self, work: Work) -> tuple[int, str, str]:
        return id(self), work.client_id, work.transfer

    def _begin(self, effect: Begin) -> None:
        work = effect.work
        self.bytes_down += self.payload_bytes
        if effect.in_vain:
            return
        asked = work.assignment
        if not asked.trains:
            self._begin_scoring(work)
            return
        out = self.run_dir.spool.path(asked.round_number, work.client_id, work.transfer)
        self._files[work.client_id, work.transfer] = out
        plan = asked.plan
        keeps = plan.control_variates or plan.local_norms
        kept = self._kept(work.client_id).begin(asked.round_number) if keeps else None
        request = jobs.Train(
            options=self.clients.options[work.shard - 1], model_file=str(self.run_dir.model_path(asked.base)),
            plan=plan, out=str(out), round_number=asked.round_number, model=asked.model,
            kept=str(kept or ""), kept_out=str(pending_of(out)) if keeps else "", scores=asked.scores,
        )  # fmt: skip
        self.engine.begin(self._key(work), request, work.arrives_at)

    def _begin_scoring(self, work: Work) -> None:
        asked = work.assignment
        kept = self._kept(work.client_id).before(asked.round_number) if asked.plan.local_norms else None
        request = jobs.Score(
            self.clients.options[work.shard - 1], str(self.run_dir.model_path(asked.base)), asked.plan,
            asked.round_number, asked.model, str(kept or ""),
        )  # fmt: skip
        self.engine.begin(self._key(work), request, work.arrives_at)

    def _kept(self, client_id: str) -> Kept:
        """What a virtual client keeps on what stands for its own disk."""
        return Kept(self.run_dir.path / "kept" / client_id)

    def _drop(self, effect: Drop) -> None:
        self.engine.drop(self._key(effect.work))
        self._files.pop((effect.work.client_id, effect.work.transfer), None)

    def _outcome(self, work: Work) -> Outcome:
        reply = self.engine.result(self._key(work))
        if not work.assignment.trains:
            return Outcome(metrics=reply.metrics if isinstance(reply, jobs.Scored) else None)
        self.updates += 1
        if isinstance(reply, jobs.Trained):
            self.bytes_up += self.payload_bytes
            refused = self.strategy.refusal(reply.metrics) or received(
                self._files[work.client_id, work.transfer]
            )
            return Outcome(reply.num_examples, reply.metrics, refused=refused)
        if not isinstance(reply, jobs.Failed):
            raise HilumError(f"a worker answered a training with {type(reply).__name__}")
        reason = (reply.message.strip().splitlines() or [reply.kind])[0][:300]
        self._discard(work.client_id, work.transfer)
        self.view.show(seen.ClientDeclined(work.client_id, work.assignment.round_number, reason))
        return Outcome(reason=reason)

    # --- effects ------------------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        """Perform effects in order, and what comes of them."""
        pending = deque(effects)
        while pending:
            effect = pending.popleft()
            if (news := told(effect, self.federation)) and self._is_worth_saying(effect):
                self.view.show(news)
            perform = PERFORM.get(type(effect))
            event = perform(self, effect) if perform else None
            if event is not None:
                pending.extend(self.world.tell(event))

    def _is_worth_saying(self, effect: Effect) -> bool:
        """Of many clients nobody reads what each has sent."""
        current = self.federation.round
        return not isinstance(effect, ev.KeepUpdate) or (
            current is not None and len(current.cohort) <= SPEAKS_UP_TO
        )

    def _keep_round(self, effect: ev.KeepRound) -> None:
        at = EPOCH + timedelta(seconds=self.world.now)
        self.run_dir.journal.keep_round(effect, at.isoformat(timespec="milliseconds"))

    def _keep_update(self, effect: ev.KeepUpdate) -> None:
        update = effect.update
        file = self._files.get((update.client_id, update.transfer))
        if file is not None:
            self._kept(update.client_id).accept(effect.round_number - update.staleness, file)

    def _answer(self, effect: ev.Answer) -> None:
        if effect.verdict != msg.ACCEPTED:
            self._discard(effect.client_id, effect.transfer)

    def _discard(self, client_id: str, transfer: str) -> None:
        path = self._files.pop((client_id, transfer), None)
        if path is not None:
            path.unlink(missing_ok=True)

    def _aggregate(self, effect: ev.Aggregate) -> ev.Event:
        base = self.run_dir.model(effect.base)
        updates = [
            SpooledUpdate(self._files[update.client_id, update.transfer], facts_of(update))
            for update in effect.updates
        ]
        metadata = base.metadata | {"round": str(effect.round_number), "predecessor": effect.base}
        metadata |= temperature_metadata(effect.updates)
        known = self.run_dir.journal.clients(effect.round_number) if self.strategy.census else None
        manifest = fold(self.strategy, base, updates, self.run_dir.models, metadata, known)
        for update in effect.updates:
            self._discard(update.client_id, update.transfer)
        return ev.Aggregated(effect.round_number, manifest.digest)

    def _adopt(self, effect: ev.AdoptModel) -> None:
        """The journal hears of it with the round's record: a run cut off between them does the round again."""
        self.run_dir.publish_global(effect.digest)
        in_use = {work.assignment.base for work in self.world.at_work}
        self.run_dir.keep_models([effect.predecessor, effect.digest, *in_use])

    def _evaluate(self, effect: ev.Evaluate) -> ev.Event:
        if self.scored_on is None:
            return ev.Evaluated(effect.round_number, None)
        key = id(self), "evaluation"
        model = str(self.run_dir.model_path(effect.digest))
        self.engine.begin(key, jobs.Evaluate(self.scored_on, model, detail=True))
        reply = answered(self.engine.result(key))
        assert isinstance(reply, jobs.Evaluated)
        self.view.show(seen.Evaluated(effect.round_number, reply.metrics))
        return ev.Evaluated(effect.round_number, self.recording.scores(effect.round_number, reply))

    def _keep_record(self, effect: ev.KeepRecord) -> None:
        number = effect.record["round"]
        state = {"now": self.world.now, "away": self.world.away}
        self.run_dir.journal.put("world", self._state(number - 1) | {str(number): state})
        self.recording.keep(effect.record, self.bytes_down, self.bytes_up)
        awaited = (int(path.parent.name) for path in self._files.values())
        self.recording.tidy(min(awaited, default=number + 1) - 1)

    def _keep_best(self, effect: ev.KeepBest) -> None:
        self.recording.keep_best(effect.best)

    def _state(self, *rounds: int) -> dict[str, Any]:
        """What the journal says of the world after these rounds, or after all it knows: the last two, since it is
        written just before a round's record.
        """
        known: dict[str, Any] = self.run_dir.journal.get("world") or {}
        return {number: state for number, state in known.items() if not rounds or int(number) in rounds}

    def _finish(self, effect: ev.Finish) -> None:
        self._over = True

    def _fail(self, effect: ev.Fail) -> None:
        self.recording.report()
        raise failure(effect)


def received(path: Path) -> str | None:
    """Put the update without its header in its place, as a spool holds it. Why it must not be averaged, by name, or
    None: of one that must not be what is left is of no use.
    """
    file = read_header(path)
    draft = path.with_suffix(".tmp")
    reason = None
    with path.open("rb") as source, draft.open("wb") as target:
        source.seek(file.offset)
        while reason is None and (leaf := source.read(LEAF_BYTES)):
            reason = unfit(leaf)
            target.write(leaf)
    draft.replace(path)
    return reason


PERFORM: dict[type[Any], Callable[[Simulation, Any], ev.Event | None]] = {
    Begin: Simulation._begin,
    Drop: Simulation._drop,
    ev.KeepRound: Simulation._keep_round,
    ev.KeepUpdate: Simulation._keep_update,
    ev.Answer: Simulation._answer,
    ev.Aggregate: Simulation._aggregate,
    ev.AdoptModel: Simulation._adopt,
    ev.Evaluate: Simulation._evaluate,
    ev.KeepRecord: Simulation._keep_record,
    ev.KeepBest: Simulation._keep_best,
    ev.Finish: Simulation._finish,
    ev.Fail: Simulation._fail,
}
"""Effects and the methods that perform them. The world itself announces; of Abandon there is only something to say."""
