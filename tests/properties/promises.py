"""What performed effects promise: the open round, its cohort, the updates in the journal; and what the design says of an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from aggregator import events as ev
from aggregator.phase import Phase
from aggregator.round import Update
from fl_protocol import messages as msg
from fl_protocol.codec import decode, encode
from fl_protocol.topics import Kind
from tests import federations as fed
from tests.federations import Disk, model_after


@dataclass
class Promised:
    """The round under way, as performed effects made it."""

    number: int
    attempt: int
    cohort: set[str]
    base: str
    quorum: int
    updates: dict[str, Update] = field(default_factory=dict)
    stale: dict[tuple[str, int], Update] = field(default_factory=dict)
    closed: bool = False
    digest: str | None = None

    @property
    def all(self) -> list[Update]:
        return [*self.updates.values(), *self.stale.values()]


def score_of(digest: str) -> float:
    """Some AUROC, the same for the same model."""
    return int(digest[:1], 16) / 16


def best_of(records: list[dict[str, Any]]) -> str | None:
    """The first of the models with the highest score."""
    scored = [record for record in records if record["metrics"]]
    return str(max(scored, key=lambda each: each["metrics"]["auroc"])["model_sha256"]) if scored else None


class Promises(RuleBasedStateMachine):
    """Holds every effect of a federation against what was promised before it."""

    def _begin(self, config: ev.FederationConfig, here: set[str]) -> None:
        self.config = config
        self.now = 0.0
        self.disk = Disk()
        self.open: Promised | None = None
        self.opened: dict[int, Promised] = {}
        self.counted: set[tuple[str, int]] = set()
        self.models = [fed.BASE]
        self.ended = False
        self._start()
        self._come(sorted(here))

    def _come(self, names: list[str]) -> None:
        for client in names:
            self.present[client] = 10
            self._handle(ev.ClientReady(client, 10))

    def _start(self) -> None:
        self.present: dict[str, int] = {}
        self.todo: list[ev.Event] = []
        self.held_over: dict[tuple[str, int], str] = {}
        self.ended = self.stopped = self.paused = self.stopping = False
        self.federation = self.disk.federation(self.config)
        self._perform(self.federation.start(self.now, self.disk.open))

    def _perform(self, effects: list[ev.Effect], cut: int | None = None) -> None:
        for effect in effects[:cut]:
            PROMISES[type(effect)](self, effect)
            self.disk.perform(effect)

    def _handle(self, event: ev.Event, cut: int | None = None) -> list[ev.Effect]:
        effects = self.federation.handle(event, self.now)
        if fed.of_kind(effects, ev.KeepRound) and self.held_over:
            answered = {(answer.client_id, answer.transfer) for answer in fed.of_kind(effects, ev.Answer)}
            waits_on = {(client, number): name for (client, number), name in self.held_over.items()
                        if (client, name) not in answered}  # fmt: skip
            assert not waits_on or fed.of_kind(effects, ev.Aggregate), "those before it closed the round"
            self.held_over = waits_on
        self._perform(effects, cut)
        return effects

    def _keep_round(self, effect: ev.KeepRound) -> None:
        before = self.open
        assert effect.number == len(self.disk.records) + 1
        assert not self.paused and not self.stopping, "an operator wants no further round"
        assert effect.base == self.models[-1]
        assert 1 <= effect.quorum <= len(effect.cohort)
        assert effect.quorum == (self.config.quorum.count or effect.quorum)
        carried = before.updates if before else {}
        assert set(carried) <= set(effect.cohort) <= set(self.present) | set(carried)
        assert len(set(self.present) | set(carried)) >= self.config.min_clients
        if before:
            assert (before.number, before.closed) == (effect.number, False)
            assert effect.attempt == before.attempt + 1 <= self.config.retries + 1
        else:
            assert effect.attempt == 1
        self.open = Promised(
            effect.number, effect.attempt, set(effect.cohort), effect.base, effect.quorum, dict(carried),
            dict(before.stale) if before else {},
        )  # fmt: skip
        self.opened[effect.number] = self.open

    def _keep_update(self, effect: ev.KeepUpdate) -> None:
        assert self.open is not None and not self.open.closed
        client = effect.update.client_id
        assert effect.round_number == self.open.number
        assert 1 <= effect.update.num_examples <= self.present[client]
        trained_for = effect.round_number - effect.update.staleness
        assert effect.update.transfer.startswith(f"{trained_for}-")
        assert client in self.opened[trained_for].cohort
        assert (client, trained_for) not in self.counted, "nothing is counted twice"
        if effect.update.staleness:
            assert 0 < effect.update.staleness <= self.config.max_staleness
            assert (client, trained_for) not in self.open.stale
            self.open.stale[client, trained_for] = effect.update
        else:
            assert client not in self.open.updates
            self.open.updates[client] = effect.update

    def _answer(self, effect: ev.Answer) -> None:
        if effect.verdict == msg.ACCEPTED:
            number = int(effect.transfer.split("-")[0])
            held = self._holds(effect.client_id, effect.transfer)
            assert held or self._counts_already(effect.client_id, number), "kept before it is answered"
        else:
            assert effect.reason

    def _aggregate(self, effect: ev.Aggregate) -> None:
        assert self.open is not None
        assert (effect.round_number, effect.base) == (self.open.number, self.open.base)
        in_order = sorted(self.open.all, key=lambda update: (update.client_id, -update.staleness))
        assert effect.updates == tuple(in_order)
        assert len(effect.updates) >= self.open.quorum
        assert self.open.digest is None, "an adopted model is not folded again"
        self.open.closed = True
        self._count()
        self.todo = [ev.Aggregated(effect.round_number, model_after(effect.round_number, effect.updates))]

    def _adopt(self, effect: ev.AdoptModel) -> None:
        assert self.open is not None and self.open.closed
        assert effect.digest == model_after(self.open.number, self.open.all)
        assert effect.predecessor == self.open.base
        if self.open.digest is None:
            self.models.append(effect.digest)
        self.open.digest = effect.digest

    def _evaluate(self, effect: ev.Evaluate) -> None:
        assert self.open is not None and self.open.digest == effect.digest
        self.todo = [
            ev.Evaluated(
                effect.round_number, {"auroc": score_of(effect.digest)} if self.config.evaluate else None
            )
        ]

    def _keep_record(self, effect: ev.KeepRecord) -> None:
        record = effect.record
        assert self.open is not None
        assert record["round"] == self.open.number == len(self.disk.records) + 1
        assert record["accepted"] == sorted(self.open.updates)
        assert record["num_examples"] == sum(update.num_examples for update in self.open.all)
        stale = {(each["client_id"], each["round"]): each["staleness"] for each in record["stale"]}
        assert stale == {key: update.staleness for key, update in self.open.stale.items()}
        assert set(record["accepted"]).isdisjoint(record["stragglers"])
        assert set(record["accepted"]) | set(record["stragglers"]) <= set(record["cohort"])
        assert set(record["cohort"]) == self.open.cohort
        assert record["model_sha256"] == self.models[-1]
        if record["outcome"] == "abandoned":
            assert not self.open.closed
        else:
            assert self.open.digest == self.models[-1]
            assert (record["outcome"] == "closed") == (set(record["accepted"]) == self.open.cohort)
        self._count()
        self.open = None

    def _keep_best(self, effect: ev.KeepBest) -> None:
        assert effect.best.digest == best_of(self.disk.records)

    def _count(self) -> None:
        """What the open round took is counted for good."""
        assert self.open is not None
        self.counted |= {(client, self.open.number) for client in self.open.updates} | set(self.open.stale)

    def _abandon(self, effect: ev.Abandon) -> None:
        assert self.open is not None and not self.open.closed
        assert (effect.round_number, effect.attempt) == (self.open.number, self.open.attempt)
        assert len(self.open.all) < self.open.quorum
        assert effect.again == (effect.attempt <= self.config.retries)

    def _announce(self, effect: ev.Announce) -> None:
        assert decode(encode(effect.state), Kind.ROUND) == effect.state
        if effect.state.phase == msg.OPEN:
            assert self.open is not None
            assert set(effect.state.cohort) == self.open.cohort
            assert effect.state.base == self.models[-1]

    def _finish(self, effect: ev.Finish) -> None:
        assert len(self.disk.records) >= self.config.rounds or self._may_end_early()
        assert bool(effect.reason) == (len(self.disk.records) < self.config.rounds)
        self.ended = True

    def _stop(self, effect: ev.Stop) -> None:
        assert self.stopping and self.federation.phase is Phase.STOPPED
        assert not self.todo, "what was begun is ended first"
        self.stopped = True

    def _keep_rounds(self, effect: ev.KeepRounds) -> None:
        assert effect.rounds > self.config.rounds
        self.config = replace(self.config, rounds=effect.rounds)

    def _fail(self, effect: ev.Fail) -> None:
        assert self.disk.records[-1]["outcome"] == "abandoned"
        self.ended = True

    def _may_end_early(self) -> bool:
        """Whether as many rounds as patience allows have passed since the best one."""
        stop, best = self.config.early_stop, best_of(self.disk.records)
        scored = [record["model_sha256"] for record in self.disk.records if record["metrics"]]
        return stop is not None and best is not None and len(scored) - scored.index(best) > stop.patience

    # --- what the design says of an update ------------------------------------------------------------------

    def _holds(self, client: str, transfer: str) -> bool:
        return self.open is not None and any(
            (update.client_id, update.transfer) == (client, transfer) for update in self.open.all
        )

    @property
    def _newest(self) -> int:
        """The newest round whose set of updates is final."""
        return self.open.number if self.open and self.open.closed else len(self.disk.records)

    def _counts_already(self, client: str, number: int) -> bool:
        """It is in a model: only the answer was lost. Remembered as long as it could have come late."""
        recent = self._newest - self.config.max_staleness <= number <= len(self.disk.records)
        return recent and (client, number) in self.counted

    def _verdict(self, update: Update, number: int, base: str) -> str | None:
        """What the rule of the design says, in its own words; None if there is no answer yet."""
        current, client = (None if self.ended else self.open), update.client_id
        if self._holds(client, update.transfer) and (current or self.federation.round):
            return msg.ACCEPTED
        collecting = current is not None and not current.closed
        fits = 1 <= update.num_examples <= self.present.get(client, 0)
        if collecting and current is not None and number == current.number:
            wanted = base == current.base and client in current.cohort and client not in current.updates
            return msg.ACCEPTED if fits and wanted else msg.REJECTED
        ahead = current.number if collecting and current is not None else self._newest + 1
        if not 1 <= number < ahead:
            return msg.REJECTED
        over = self.ended or self.stopped or ahead > self.config.rounds
        if over or ahead - number > self.config.max_staleness:
            return msg.ACCEPTED if self._counts_already(client, number) else msg.LATE
        return self._verdict_on_a_late_one(update, number, base, fits=fits)

    def _verdict_on_a_late_one(self, update: Update, number: int, base: str, *, fits: bool) -> str | None:
        """It is not too late to count: in the open round, or in the next."""
        current, then, client = self.open, self.opened[number], update.client_id
        if (client, number) in self.counted and client in then.cohort:
            return msg.ACCEPTED if number <= len(self.disk.records) else msg.LATE
        known = current is not None and (client, number) in current.stale
        if client not in then.cohort or base != then.base or not fits or known:
            return msg.REJECTED
        if current is not None and not current.closed:
            return msg.ACCEPTED
        held_over = self.held_over.setdefault((client, number), update.transfer)
        return None if held_over == update.transfer else msg.REJECTED


PROMISES: dict[type[Any], Callable[[Promises, Any], None]] = {
    ev.KeepRound: Promises._keep_round,
    ev.KeepUpdate: Promises._keep_update,
    ev.Answer: Promises._answer,
    ev.Announce: Promises._announce,
    ev.Aggregate: Promises._aggregate,
    ev.AdoptModel: Promises._adopt,
    ev.Evaluate: Promises._evaluate,
    ev.KeepRecord: Promises._keep_record,
    ev.KeepBest: Promises._keep_best,
    ev.Abandon: Promises._abandon,
    ev.KeepRounds: Promises._keep_rounds,
    ev.Finish: Promises._finish,
    ev.Stop: Promises._stop,
    ev.Fail: Promises._fail,
}
