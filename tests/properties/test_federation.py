"""A federation against a model of its own: clients come, go, lie and repeat, time passes, the process dies.

The model keeps what performed effects promised: the open round, its cohort, and the updates in the journal. A crash may
come between any two effects; what was not performed is lost, and the restart goes by the journal alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aggregator import events as ev
from aggregator.best import EarlyStop
from aggregator.cohort import Share
from aggregator.phase import Phase
from aggregator.round import Update
from fl_protocol import messages as msg
from fl_protocol.codec import decode, encode
from fl_protocol.topics import Kind
from tests import federations as fed
from tests.federations import Disk, model_after, update_of

CLIENTS = "abcde"
clients = st.sampled_from(CLIENTS)
shares = st.one_of(
    st.integers(1, 4).map(lambda count: Share(count=count)),
    st.sampled_from([0.3, 0.5, 1.0]).map(lambda fraction: Share(fraction=fraction)),
)


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


class FederationMachine(RuleBasedStateMachine):
    """Rules are what can happen; ``_perform`` holds every effect against what was promised before it."""

    @initialize(
        rounds=st.integers(1, 4), min_clients=st.integers(1, 3), cohort=shares, quorum=shares,
        retries=st.integers(0, 2), scored=st.sampled_from([None, 9, 2, 1]), here=st.sets(clients), max_staleness=st.integers(0, 2),
    )  # fmt: skip
    def begin(
        self, rounds: int, min_clients: int, cohort: Share, quorum: Share, retries: int, scored: int | None,
        here: set[str], max_staleness: int,
    ) -> None:  # fmt: skip
        if cohort.count and quorum.count:  # the command line refuses a quorum above the cohort
            quorum = Share(count=min(cohort.count, quorum.count))
        self._begin(
            fed.rule(
                rounds=rounds, min_clients=min_clients, cohort=cohort, quorum=quorum, retries=retries,
                evaluate=scored is not None, max_staleness=max_staleness,
                early_stop=EarlyStop(scored) if scored else None,
            ), here,
        )  # fmt: skip

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

    # --- effects against promises -----------------------------------------------------------------------

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

    # --- what can happen --------------------------------------------------------------------------------

    @rule(client=clients, num_examples=st.sampled_from([1, 10, 100]))
    def joins(self, client: str, num_examples: int) -> None:
        self.present[client] = num_examples
        self._handle(ev.ClientReady(client, num_examples))

    @rule(client=clients)
    def leaves(self, client: str) -> None:
        self.present.pop(client, None)
        self._handle(ev.ClientGone(client))

    @rule(client=clients)
    def is_sent_away(self, client: str) -> None:
        self.present.pop(client, None)
        self._handle(ev.ClientEvicted(client))
        if self.federation.round:
            assert client not in self.federation.round.waited_for

    @rule(
        asked=st.sampled_from([ev.Paused(), ev.Resumed(), ev.Resumed(), ev.LastRoundSet(), ev.RoundsAdded(1)])
    )
    def an_operator_wants(self, asked: ev.Asked) -> None:
        if self.federation.objection(asked):
            assert self._handle(asked) == []
            return
        if isinstance(asked, ev.Resumed):
            self.paused = self.stopping = False
        self.paused = self.paused or isinstance(asked, ev.Paused)
        self.stopping = self.stopping or isinstance(asked, ev.LastRoundSet)
        assert self._handle(asked), "it is announced"

    @rule(
        client=clients, try_number=st.integers(0, 1), num_examples=st.sampled_from([0, 1, 10, 1000]),
        behind=st.sampled_from([0, 0, 0, 0, 1, -1, -5]), base_behind=st.sampled_from([0, 0, 0, 1]),
    )  # fmt: skip
    def sends(self, client: str, try_number: int, num_examples: int, behind: int, base_behind: int) -> None:
        self._sends(client, try_number, num_examples, behind, base_behind)

    @rule(client=clients)
    def sends_what_is_asked(self, client: str) -> None:
        self._sends(client, 0, 1, 0, 0)

    def _sends(self, client: str, try_number: int, num_examples: int, behind: int, base_behind: int) -> None:
        current = self.open.number if self.open else len(self.disk.records)
        number = max(0, current - behind)
        base = self.opened[number].base if number in self.opened else self.models[-1]
        if base_behind:
            base = self.models[max(0, self.models.index(base) - 1)]
        update = update_of(client, number, num_examples, try_number)
        wanted = self._verdict(update, number, base)
        held = len(self.open.all) if self.open else 0
        effects = self._handle(ev.UpdateArrived(number, base, update))
        assert [answer.verdict for answer in fed.of_kind(effects, ev.Answer)] == ([wanted] if wanted else [])
        kept = fed.of_kind(effects, ev.KeepUpdate)
        assert len(kept) <= (wanted == msg.ACCEPTED)
        if self.open and self.open.number == number:
            assert len(self.open.all) == held + len(kept)

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

    @rule()
    def everybody_comes(self) -> None:
        self._come([client for client in CLIENTS if client not in self.present])

    @precondition(lambda self: self.federation.phase is Phase.OPEN)
    @rule(data=st.data(), answered=st.integers(0, 2))
    def few_answer_in_time(self, data: st.DataObject, answered: int) -> None:
        """Some of the cohort send their update, some leave, and the deadline comes."""
        assert self.open is not None
        attempt, cohort = self.open.attempt, sorted(self.open.cohort & set(self.present))
        for client in cohort[:answered]:
            self._sends(client, 0, 1, 0, 0)
        for client in cohort[answered:]:
            if data.draw(st.booleans()):
                self.leaves(client)
        state = self.federation.state()
        if (state.phase, state.attempt) == (msg.OPEN, attempt):
            self.now += self.config.deadline_s
            self._handle(ev.Ticked())

    @rule(client=clients, behind=st.sampled_from([0, 0, 1]))
    def declines(self, client: str, behind: int) -> None:
        number = (self.open.number if self.open else len(self.disk.records)) - behind
        self._handle(ev.ClientDeclined(client, number, "no data"))

    @rule(
        client=clients,
        reason=st.sampled_from(["not_finite", "bad_digest", msg.LATE]),
        behind=st.integers(0, 1),
    )
    def is_refused(self, client: str, reason: str, behind: int) -> None:
        number = (self.open.number if self.open else len(self.disk.records)) - behind
        waited = set(self.federation.round.waited_for) if self.federation.round else set()
        phase = self.federation.phase
        self._handle(ev.UpdateRefused(client, f"{number}-x", reason, round_number=number))
        if behind and phase is Phase.OPEN:
            assert self.federation.round is not None
            assert self.federation.round.waited_for == waited, (
                "the last round's quarrel is not this one's answer"
            )

    @rule(client=clients)
    def sends_rubbish(self, client: str) -> None:
        self._handle(ev.FrameRefused(client, "not_msgpack"))

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.9, 10.0, 30.0, 60.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._handle(ev.Ticked())
        instant = self.federation.next_instant()
        assert instant is None or instant > self.now

    @precondition(lambda self: self.federation.next_instant() is not None)
    @rule()
    def the_next_instant_comes(self) -> None:
        instant = self.federation.next_instant()
        assert instant is not None
        self.now = max(self.now, instant)
        self._handle(ev.Ticked())
        instant = self.federation.next_instant()
        assert instant is None or instant > self.now

    @precondition(lambda self: self.todo)
    @rule()
    def work_ends(self) -> None:
        self._handle(self.todo.pop())

    @rule()
    def the_process_is_killed(self) -> None:
        self._start()

    @rule(
        cut=st.integers(0, 3),
        client=clients,
        kind=st.sampled_from(["update", "work", "tick", "join", "leave"]),
    )
    def the_process_is_killed_between_two_effects(self, cut: int, client: str, kind: str) -> None:
        number = self.open.number if self.open else 1
        event: ev.Event = ev.Ticked()
        if kind == "update":
            event = ev.UpdateArrived(number, self.models[-1], update_of(client, number, 1))
        elif kind == "work" and self.todo:
            event = self.todo.pop()
        elif kind == "join":
            self.present[client] = 10
            event = ev.ClientReady(client, 10)
        elif kind == "leave":
            self.present.pop(client, None)
            event = ev.ClientGone(client)
        self._handle(event, cut)
        self._start()

    @rule(more=st.integers(-1, 1))
    def the_run_is_resumed_with_another_number_of_rounds(self, more: int) -> None:
        self.config = replace(self.config, rounds=max(1, self.config.rounds + more))
        self._start()

    # --- what must hold at any time ---------------------------------------------------------------------

    @invariant()
    def records_are_consecutive_and_each_round_has_one(self) -> None:
        if not hasattr(self, "disk"):
            return
        assert [record["round"] for record in self.disk.records] == list(range(1, len(self.disk.records) + 1))

    @invariant()
    def the_journal_and_the_machine_agree(self) -> None:
        if not hasattr(self, "disk"):
            return
        kept = list(self.disk.open.accepted) if self.disk.open else []
        by_name = sorted(kept, key=lambda update: (update.client_id, -update.staleness))
        ours = self.open.all if self.open else []
        assert by_name == sorted(ours, key=lambda update: (update.client_id, -update.staleness))
        state = self.federation.state()
        assert decode(encode(state), Kind.ROUND) == state
        if self.federation.round is not None:
            assert self.federation.round.folded == tuple(by_name)
        assert (self.federation.phase in (Phase.AGGREGATING, Phase.EVALUATING)) <= bool(self.todo)

    def _honest_step(self, step: int) -> None:
        for number in range(14):  # 0.3 of so many is a quorum of four
            if f"h{number}" not in self.present:
                self.present[f"h{number}"] = 50
                self._handle(ev.ClientReady(f"h{number}", 50))
        if self.todo:
            self._handle(self.todo.pop())
        elif self.federation.round is not None:
            for client in sorted(self.federation.round.waited_for & set(self.present)):
                if self.federation.phase is Phase.OPEN:
                    self._sends(client, step, 1, 0, 0)
        if self.federation.phase is Phase.OPEN:
            self.the_next_instant_comes()

    def teardown(self) -> None:
        """Enough honest clients, and the run comes to its end in few steps."""
        if not hasattr(self, "disk"):
            return
        if self.ended or self.paused or self.stopping:
            self._start()
        for step in range(60 * (self.config.rounds + 1)):
            if not self.ended:
                self._honest_step(step)
        assert self.ended
        failed = self.disk.records[-1]["outcome"] == "abandoned"
        assert failed or len(self.disk.records) >= self.config.rounds or self._may_end_early()

    def _may_end_early(self) -> bool:
        """Whether as many rounds as patience allows have passed since the best one."""
        stop, best = self.config.early_stop, best_of(self.disk.records)
        scored = [record["model_sha256"] for record in self.disk.records if record["metrics"]]
        return stop is not None and best is not None and len(scored) - scored.index(best) > stop.patience


PROMISES: dict[type[Any], Callable[[FederationMachine, Any], None]] = {
    ev.KeepRound: FederationMachine._keep_round,
    ev.KeepUpdate: FederationMachine._keep_update,
    ev.Answer: FederationMachine._answer,
    ev.Announce: FederationMachine._announce,
    ev.Aggregate: FederationMachine._aggregate,
    ev.AdoptModel: FederationMachine._adopt,
    ev.Evaluate: FederationMachine._evaluate,
    ev.KeepRecord: FederationMachine._keep_record,
    ev.KeepBest: FederationMachine._keep_best,
    ev.Abandon: FederationMachine._abandon,
    ev.KeepRounds: FederationMachine._keep_rounds,
    ev.Finish: FederationMachine._finish,
    ev.Stop: FederationMachine._stop,
    ev.Fail: FederationMachine._fail,
}


class StragglerMachine(FederationMachine):
    """The same promises where many come late: two of five make a quorum, and strategies take what is behind."""

    @initialize(
        max_staleness=st.integers(1, 3), grace_s=st.sampled_from([0.0, 10.0]), quorum=st.integers(1, 3)
    )
    def begin(self, max_staleness: int, grace_s: float, quorum: int) -> None:
        config = fed.rule(rounds=9, quorum=Share(count=quorum), grace_s=grace_s, max_staleness=max_staleness)
        self._begin(config, set(CLIENTS))

    @property
    def _owing(self) -> list[tuple[str, int]]:
        """Whose update was never counted, and of which rounds."""
        asked = [
            (client, number) for number, each in self.opened.items() for client in each.cohort & set(CLIENTS)
        ]
        return sorted(set(asked) - self.counted, key=lambda pair: (pair[1], pair[0]))

    @precondition(lambda self: self._owing)
    @rule(
        which=st.integers(0, 9),
        try_number=st.sampled_from([0, 0, 1]),
        base_behind=st.sampled_from([0, 0, 0, 1]),
    )
    def a_straggler_sends(self, which: int, try_number: int, base_behind: int) -> None:
        client, number = self._owing[-1 - which % len(self._owing)]
        if client not in self.present:
            self.joins(client, 10)
        current = self.open.number if self.open else len(self.disk.records)
        self._sends(client, try_number, 1, current - number, base_behind)

    @precondition(lambda self: self.counted)
    @rule(which=st.integers(0, 19))
    def an_answer_was_lost(self, which: int) -> None:
        newest_first = sorted(self.counted, key=lambda pair: (-pair[1], pair[0]))
        client, number = newest_first[which % len(newest_first)]
        current = self.open.number if self.open else len(self.disk.records)
        self._sends(client, 0, 1, current - number, 0)

    @precondition(lambda self: self.federation.phase is Phase.OPEN)
    @rule(late=st.sets(clients, min_size=1, max_size=3), meanwhile=st.booleans())
    def a_round_goes_by_without(self, late: set[str], meanwhile: bool) -> None:
        """The others answer, grace passes, and the next model is there; stragglers may come while it is made."""
        self.everybody_comes()
        assert self.open is not None
        number = self.open.number
        for client in sorted(self.open.cohort & set(self.present) - late):
            self._sends(client, 0, 1, 0, 0)
        if self.federation.phase is Phase.OPEN:
            self.now += self.config.grace_s
            self._handle(ev.Ticked())
        while self.todo and self.federation.round and self.federation.round.number == number:
            for client in sorted(late) if meanwhile else ():
                self._sends(client, 0, 1, 0, 0)
            self._handle(self.todo.pop())


def test_federation_keeps_every_promise() -> None:
    run_state_machine_as_test(FederationMachine, settings=settings(max_examples=200, stateful_step_count=40))


def test_late_updates_keep_every_promise() -> None:
    run_state_machine_as_test(StragglerMachine, settings=settings(max_examples=150, stateful_step_count=40))
