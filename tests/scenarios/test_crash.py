"""A run that ends early, after two rounds, is killed before every single thing it does to its disk, goes on, and ends in the same bytes.

The journal, the spool, the fold and the run directory are real; the federation's effects are performed as the server does,
and between any two steps of that the process may die.
"""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aggregator import events as ev
from aggregator.best import EarlyStop
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.folding import fold
from aggregator.global_models import facts_of
from aggregator.phase import Phase
from aggregator.pieces import SpooledUpdate
from aggregator.round import Update
from aggregator.rundir import BEST, RunDirectory
from aggregator.schedule import Schedules, parse_schedule
from aggregator.strategies.fedopt import FedAdam
from fl_protocol.messages import ACCEPTED, OPEN, Offer
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import LEAF_BYTES
from tests.federations import rule
from tests.payloads import floats, leaves_of, model_file, offer_of

CONFIG = rule(
    rounds=9, min_clients=3, quorum=Share(count=2), cohort=Share(count=3), early_stop=EarlyStop(1),
    schedules=Schedules(parse_schedule("cosine", "--learning-rate-schedule")),
)  # fmt: skip
RATES = {1: 0.05, 2: 0.05 * (1 + math.cos(math.pi / 9)) / 2}
"""By round: what clients are told, in whatever life of the aggregator."""
SCORES = {1: 0.9, 2: 0.8}
"""By round: the second is no better, so it is the last of nine."""
EXAMPLES = {"a": 30, "b": 7, "c": 101}
SIZE = LEAF_BYTES // 4 + 10
STRATEGY = FedAdam()


class Killed(Exception):
    """The process is gone."""


class Process:
    """One life of an aggregator and the three edges it meets; it dies before its ``fuse``-th step."""

    def __init__(self, folder: Path, fuse: int | None = None) -> None:
        self.fuse, self.steps = fuse, 0
        self.run = RunDirectory(folder)
        self.events: deque[ev.Event] = deque()
        self.answers: set[tuple[str, str]] = set()
        journal = self.run.journal
        records = journal.records()
        self.run.write_rounds(records)
        self.federation = Federation(CONFIG, self._base(), records)

    def _base(self) -> str:
        base = self.run.journal.get("base")
        if base is None:
            draft = self.run.models / "first"
            digest = model_file(draft, {"w": floats(SIZE, 0)}).manifest("model", LEAF_BYTES).digest
            draft.replace(self.run.model_path(digest))
            self.run.journal.put("base", digest)
            base = digest
        return str(base)

    def step(self) -> None:
        if self.steps == self.fuse:
            raise Killed
        self.steps += 1

    def live(self) -> None:
        """To the end of the run, or of this life."""
        try:
            self._apply(self.federation.start(0.0, self.run.journal.unfinished()))
            for client, num_examples in EXAMPLES.items():
                self._happens(ev.ClientReady(client, num_examples))
            while self.federation.phase is not Phase.FINISHED:
                assert self.federation.phase is Phase.OPEN
                self._edges()
        finally:
            self.run.close()

    def _edges(self) -> None:
        """Each edge that has not answered trains and sends; c has no data for the second round."""
        current = self.federation.round
        assert current is not None
        client = min(current.waited_for)
        if (client, current.number) == ("c", 2):
            self._happens(ev.ClientDeclined(client, 2, "no data"))
            return
        payload = floats(SIZE, hash_of(client, current.number), scale=0.1).tobytes()
        transfer, offer = offer_of(
            payload, round_number=current.number, base=current.base, num_examples=EXAMPLES[client]
        )
        self._upload(client, transfer, offer, payload)

    def _upload(self, client: str, transfer: str, offer: Offer, payload: bytes) -> None:
        spool, number = self.run.spool, offer.round_number
        held = spool.held_leaves(number, client, transfer, offer.manifest)
        for leaf, data in enumerate(leaves_of(payload)):
            if leaf not in held:
                self.step()
                spool.write(client, transfer, leaf * LEAF_BYTES, data)
        self.step()
        assert spool.force_to_disk([(number, client, transfer)]) == {}
        update = Update(client, transfer, offer.manifest.digest, offer.num_examples, {"loss": 1.0 / number})
        self._happens(ev.UpdateArrived(number, offer.base, update))
        assert (client, transfer) in self.answers

    def _happens(self, event: ev.Event) -> None:
        self.events.append(event)
        while self.events:
            self._apply(self.federation.handle(self.events.popleft(), 1.0))

    # --- effects, as aggregator.server performs them ----------------------------------------------------

    def _apply(self, effects: list[ev.Effect]) -> None:
        for effect in effects:
            self.step()
            self._perform(effect)
        self.step()

    def _perform(self, effect: ev.Effect) -> None:
        journal = self.run.journal
        if isinstance(effect, ev.KeepRound):
            journal.keep_round(effect, "then")
        elif isinstance(effect, ev.KeepUpdate):
            journal.keep_updates([effect])
        elif isinstance(effect, ev.Answer) and effect.verdict == ACCEPTED:
            self.answers.add((effect.client_id, effect.transfer))
        elif isinstance(effect, ev.Aggregate):
            journal.close_round(effect.round_number)
            self.step()
            self._fold(effect)
        elif isinstance(effect, ev.AdoptModel):
            self._adopt(effect)
        elif isinstance(effect, ev.Evaluate):
            self.events.append(ev.Evaluated(effect.round_number, {"auroc": SCORES[effect.round_number]}))
        elif isinstance(effect, ev.KeepRecord):
            journal.keep_record(effect.record["round"], effect.record)
            self.step()
            self.run.append_round(effect.record)
        elif isinstance(effect, ev.KeepBest):
            assert self.run.publish_best(effect.best.digest)
        elif isinstance(effect, ev.Announce) and effect.state.phase == OPEN:
            assert effect.state.plan is not None
            assert effect.state.plan.learning_rate == pytest.approx(RATES[effect.state.round_number])

    def _fold(self, effect: ev.Aggregate) -> None:
        number, base = effect.round_number, self.run.model(effect.base)
        updates = [
            SpooledUpdate(self.run.spool.path(number, each.client_id, each.transfer), facts_of(each))
            for each in effect.updates
        ]
        metadata = base.metadata | {"round": str(number), "predecessor": effect.base}
        manifest = fold(STRATEGY, base, updates, self.run.models, metadata)
        self.events.append(ev.Aggregated(number, manifest.digest))

    def _adopt(self, effect: ev.AdoptModel) -> None:
        steps: tuple[Callable[[], None], ...] = (
            lambda: self.run.journal.adopt(effect.round_number, effect.digest),
            lambda: self.run.publish_global(effect.digest),
            lambda: self.run.keep_models([effect.predecessor, effect.digest]),
            lambda: self.run.spool.discard_up_to(effect.round_number),
        )
        for step in steps:
            self.step()
            step()


def hash_of(client: str, number: int) -> int:
    return 10 * number + ord(client)


def left_behind(folder: Path) -> dict[str, Any]:
    """What people and programs find at the end."""
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    # Declines and refusals live in memory until their round's record: a crash forgets them, and so who was a straggler.
    fixed = ("round", "outcome", "cohort", "accepted", "num_examples", "metrics", "model_sha256", "client_metrics",
             "client_examples", "best")  # fmt: skip
    return {
        "rounds": [{key: line[key] for key in fixed} for line in lines],
        "global": (folder / "global.safetensors").read_bytes(),
        "best": (folder / BEST).read_bytes(),
        "best_digest": read_header(folder / BEST).metadata[DIGEST_KEY],
        "models": {path.name: path.read_bytes() for path in (folder / "models").iterdir()},
        "spool": sorted(path.name for path in (folder / "spool").iterdir()),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = Process(folder)
    process.live()
    return process.steps, left_behind(folder)


def killed(folder: Path, fuses: list[int]) -> dict[str, Any]:
    for fuse in fuses:
        with pytest.raises(Killed):
            Process(folder, fuse).live()
    Process(folder).live()
    return left_behind(folder)


def test_the_undisturbed_run_is_the_one_meant(undisturbed: tuple[int, dict[str, Any]]) -> None:
    steps, left = undisturbed
    assert steps > 50
    assert [(line["outcome"], line["accepted"]) for line in left["rounds"]] == [
        ("closed", ["a", "b", "c"]), ("closed_short", ["a", "b"])
    ]  # fmt: skip
    assert len(left["models"]) == 4, "two models, and what FedAdam keeps beside each"
    assert left["spool"] == []
    lines = left["rounds"]
    assert [line["best"]["round"] for line in lines] == [1, 1]
    assert left["best_digest"] == lines[0]["model_sha256"] != lines[1]["model_sha256"]


@pytest.mark.parametrize("part", range(4))
def test_killed_before_any_step_it_ends_in_the_same_bytes(
    part: int, undisturbed: tuple[int, dict[str, Any]], tmp_path: Path
) -> None:
    steps, left = undisturbed
    for fuse in range(part, steps, 4):
        assert killed(tmp_path / str(fuse), [fuse]) == left, f"killed before step {fuse}"


def test_killed_again_and_again_it_ends_in_the_same_bytes(
    undisturbed: tuple[int, dict[str, Any]], tmp_path: Path
) -> None:
    """Each life gets a few steps further: thirteen are enough for any one thing that must be done in one go."""
    _, left = undisturbed
    chance = random.Random(5)
    folder = tmp_path / "run"
    for _ in range(40):
        try:
            Process(folder, chance.randint(13, 22)).live()
        except Killed:
            continue
        break
    assert left_behind(folder) == left
