"""A federation against a model of its own: clients come, go, lie and repeat, time passes, the process dies.

The model keeps what performed effects promised: the open round, its cohort, and the updates in the journal. A crash may
come between any two effects; what was not performed is lost, and the restart goes by the journal alone.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
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
from fl_protocol import messages as msg
from fl_protocol.codec import decode, encode
from fl_protocol.topics import Kind
from tests import federations as fed
from tests.federations import update_of
from tests.properties.promises import Promises

CLIENTS = "abcde"
clients = st.sampled_from(CLIENTS)
shares = st.one_of(
    st.integers(1, 4).map(lambda count: Share(count=count)),
    st.sampled_from([0.3, 0.5, 1.0]).map(lambda fraction: Share(fraction=fraction)),
)


class FederationMachine(Promises):
    """Rules are what can happen."""

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
