"""Plays a transcript: a command a line, and below each what the federation does about it, in words.

    # a remark                                   nothing happens
    config rounds=2 quorum=2 ...                 the rule of the run, from the plain one; it starts
    config early_stop=2:0.01 sampling=by-size    other things of the rule, as their options say them
    join a 100            leave a                a client is here with 100 examples; it is gone
    update a              update a 0 examples    its update for the round under way; with another number of examples
    update a again        late a 1               another update of its; its update for round 1
    nan a                 rubbish a              its update is not finite; it sends what is no frame
    decline a no data                            it will send nothing
    pause                 resume                 an operator wants no further round; wants the run to go on
    finish-round          more 2                 wants it to stop when the round has ended; two rounds more
    evict a                                      sends a client away
    fold                  score 0.91             the next model is on disk; its AUROC is known
    +30s                                         time passes
    restart [rounds=3]                           the process is killed and goes on from its journal

Lines that begin with ``>`` are what came of the command above. What a performed effect promises is kept in
tests.federations.Disk, as the journal would; the effects of one command are all performed before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from aggregator import events as ev
from aggregator.best import EarlyStop
from aggregator.cohort import Sampling, Share
from aggregator.federation import Federation
from fl_protocol import messages as msg
from tests.federations import Disk, model_after, rule, update_of

PARSED: dict[str, Callable[[str, str], Any]] = {
    "cohort": Share.parse, "quorum": Share.parse, "early_stop": EarlyStop.parse, "sampling": Sampling.parse,
}  # fmt: skip


class Play:
    """One federation, its disk and its clock."""

    def __init__(self) -> None:
        self.config = rule()
        self.disk = Disk()
        self.now = 0.0
        self.names = {self.disk.base: "model 0"}
        self.bases: dict[int, str] = {}
        self.federation: Federation

    def play(self, line: str) -> Iterator[str]:
        """The sentences that follow from one command."""
        command, *words = line.split()
        if command.startswith("+"):
            self.now += float(command[1:].rstrip("s"))
            effects = self.federation.handle(ev.Ticked(), self.now)
        elif command in ("config", "restart"):
            effects = self._begin(words)
        else:
            effects = self.federation.handle(EVENTS[command](self, words), self.now)
        for effect in effects:
            self.disk.perform(effect)
            yield SENTENCES[type(effect)](self, effect)

    def _begin(self, words: list[str]) -> list[ev.Effect]:
        changes: dict[str, Any] = {}
        for word in words:
            name, value = word.split("=")
            kind = type(getattr(self.config, name))
            changes[name] = PARSED[name](value, name) if name in PARSED else kind(float(value))
        self.config = replace(self.config, **changes)
        self.federation = self.disk.federation(self.config)
        return self.federation.start(self.now, self.disk.open)

    # --- events -----------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The round that clients are asked for, or will be."""
        return self.federation.round.number if self.federation.round else self.federation.rounds_done + 1

    def _update(self, words: list[str]) -> ev.Event:
        client, *how = words
        num_examples = int(how[0]) if "examples" in how else self.federation.present.get(client, 1)
        base = self.federation.round.base if self.federation.round else self.federation.base
        update = update_of(client, self.number, num_examples, try_number=int("again" in how))
        return ev.UpdateArrived(self.number, base, update)

    def _late(self, words: list[str]) -> ev.Event:
        client, number = words[0], int(words[1])
        return ev.UpdateArrived(number, self.bases.get(number, self.disk.base), update_of(client, number))

    def _nan(self, words: list[str]) -> ev.Event:
        return ev.UpdateRefused(words[0], f"{self.number}-nan", "not_finite", round_number=self.number)

    def _fold(self, words: list[str]) -> ev.Event:
        assert self.federation.round is not None, "there is nothing to fold"
        digest = model_after(self.number, self.federation.round.folded)
        self.names[digest] = f"model {self.number}"
        return ev.Aggregated(self.number, digest)

    def _score(self, words: list[str]) -> ev.Event:
        return ev.Evaluated(self.number, {"auroc": float(words[0])} if words else None)

    # --- sentences --------------------------------------------------------------------------------------

    def _keep_round(self, effect: ev.KeepRound) -> str:
        self.bases[effect.number] = effect.base
        return (
            f"journal: round {effect.number}, attempt {effect.attempt}, of {listed(effect.cohort)} "
            f"from {self.names[effect.base]}, quorum {effect.quorum}"
        )

    def _keep_update(self, effect: ev.KeepUpdate) -> str:
        update = effect.update
        behind = f", staleness {update.staleness}" if update.staleness else ""
        return (
            f"journal: update of {update.client_id} for round {effect.round_number}, {update.num_examples} examples"
            f"{behind}"
        )

    def _answer(self, effect: ev.Answer) -> str:
        why = f" ({effect.reason})" if effect.reason and effect.reason != effect.verdict else ""
        return f"tell {effect.client_id}: {effect.verdict}{why}"

    def _announce(self, effect: ev.Announce) -> str:
        state = effect.state
        why = f", {state.reason}" if state.reason else ""
        if state.phase == msg.WAITING:
            waits = why or f", waiting for {state.min_clients} clients"
            return f"announce: {state.round_number} of {state.rounds} rounds done{waits}"
        if state.phase == msg.OPEN:
            accepted = f"{state.accepted} of {len(state.cohort)} accepted"
            return f"announce: round {state.round_number} is open, {accepted}{why}"
        return f"announce: {state.phase}{why}"

    def _aggregate(self, effect: ev.Aggregate) -> str:
        folded = listed(
            update.client_id + f" of round {effect.round_number - update.staleness}" * bool(update.staleness)
            for update in effect.updates
        )
        return f"journal: round {effect.round_number} is closed; fold {folded} into {self.names[effect.base]}"

    def _adopt(self, effect: ev.AdoptModel) -> str:
        return f"journal, then publish: {self.names[effect.digest]} after {self.names[effect.predecessor]}"

    def _keep_record(self, effect: ev.KeepRecord) -> str:
        record = effect.record
        rejected = [f"{each['client_id']} {each['reason']} x{each['count']}" for each in record["rejected"]]
        stale = [f"{each['client_id']} of round {each['round']}" for each in record["stale"]]
        parts = [
            f"record: round {record['round']} {record['outcome']}",
            f"accepted {listed(record['accepted'])} of {listed(record['cohort'])}",
            f"stragglers {listed(record['stragglers'])}" if record["stragglers"] else "",
            f"stale {listed(stale)}" if stale else "",
            f"refused {listed(rejected)}" if rejected else "",
            f"{record['num_examples']} examples, {record['duration_s']:g} s, attempts {record['attempts']}",
        ]
        return "; ".join(part for part in parts if part)

    def _keep_best(self, effect: ev.KeepBest) -> str:
        return f"best: {self.names[effect.best.digest]}, {effect.best}"

    def _abandon(self, effect: ev.Abandon) -> str:
        then = "try again" if effect.again else "give up"
        return f"attempt {effect.attempt} fails with {effect.accepted} of {effect.quorum} updates: {then}"


def listed(names: Any) -> str:
    return ", ".join(names) or "nobody"


EVENTS: dict[str, Callable[[Play, list[str]], ev.Event]] = {
    "join": lambda play, words: ev.ClientReady(words[0], int(words[1])),
    "leave": lambda play, words: ev.ClientGone(words[0]),
    "update": Play._update,
    "late": Play._late,
    "nan": Play._nan,
    "rubbish": lambda play, words: ev.FrameRefused(words[0], "not_msgpack"),
    "decline": lambda play, words: ev.ClientDeclined(words[0], play.number, " ".join(words[1:])),
    "pause": lambda play, words: ev.Paused(),
    "resume": lambda play, words: ev.Resumed(),
    "finish-round": lambda play, words: ev.LastRoundSet(),
    "more": lambda play, words: ev.RoundsAdded(int(words[0])),
    "evict": lambda play, words: ev.ClientEvicted(words[0]),
    "fold": Play._fold,
    "score": Play._score,
}

SENTENCES: dict[type[Any], Callable[[Play, Any], str]] = {
    ev.KeepRound: Play._keep_round,
    ev.KeepUpdate: Play._keep_update,
    ev.Answer: Play._answer,
    ev.Announce: Play._announce,
    ev.Aggregate: Play._aggregate,
    ev.AdoptModel: Play._adopt,
    ev.Evaluate: lambda play, effect: f"score {play.names[effect.digest]}",
    ev.KeepRecord: Play._keep_record,
    ev.KeepBest: Play._keep_best,
    ev.Abandon: Play._abandon,
    ev.Finish: lambda play, effect: "the run is finished" + (f", {effect.reason}" if effect.reason else ""),
    ev.KeepRounds: lambda play, effect: f"the run is to have {effect.rounds} rounds",
    ev.Stop: lambda play, effect: "the run stops, and can be gone on with",
    ev.Fail: lambda play, effect: f"the run cannot go on: {effect.reason}",
}


def transcript(script: str) -> str:
    """The script with what comes of it; what it held of that before is left out."""
    play, lines = Play(), []
    for line in script.splitlines():
        if line.startswith(">"):
            continue
        lines.append(line)
        if line.strip() and not line.startswith("#"):
            lines += [f"> {sentence}" for sentence in play.play(line)] or ["> nothing"]
    return "\n".join(lines) + "\n"
