"""From settings to finished simulations: the run directory, the first model, the clients, then the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aggregator import notices as seen
from aggregator.events import FederationConfig
from aggregator.federation import Federation
from aggregator.first_model import first_model
from aggregator.report.parts import FILE_NAME as PARTS_FILE
from aggregator.report.parts import parts_json
from aggregator.rundir import RunDirectory
from aggregator.start import finished, how_to_go_on
from aggregator.strategy import Strategy
from aggregator.tensorboard import EventFiles
from fl_protocol import console
from fl_protocol.errors import ConfigError
from fl_sim.engine import Engine, answered
from fl_sim.natural import as_clients
from fl_sim.profiles import Profile
from fl_sim.simulation import Clients, Simulation
from fl_tasks import jobs
from fl_tasks.remarks import remarks_on_parts


@dataclass(frozen=True)
class SimSettings:
    """All that a simulation needs to know, checked."""

    out: Path
    config: FederationConfig
    strategy: Strategy
    clients: int
    data: str | None
    partition: str
    profile: Profile
    eval_data: str | None = None
    init: str | None = None
    fresh: bool = False
    effective: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache: Path | None = None
    """Where resized images are kept; None: with the run."""
    tensorboard: Path | None = None
    """Where event files go."""

    @property
    def options(self) -> jobs.DataOptions:
        """What the data are dealt out by."""
        config = self.config
        return jobs.DataOptions(
            config.task, self.data, config.image_size, str(self.cache or self.out / "cache"), shards=self.clients,
            partition=self.partition, seed=config.seed, resident=True,
        )  # fmt: skip

    @property
    def scored_on(self) -> jobs.DataOptions | None:
        """What every round's model is scored on, if it is."""
        if self.eval_data is None:
            return None
        options = self.options
        return jobs.DataOptions(
            options.task, self.eval_data, options.image_size, options.cache, role=jobs.EVAL
        )


@dataclass(frozen=True)
class Simulated:
    """What came of a run, for people in a hurry and for programs."""

    rounds: int
    updates: int
    seconds: float
    virtual_s: float
    metrics: dict[str, float] | None
    model_sha256: str
    out: Path
    finished: seen.Finished
    records: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Any]:
        """Keys: rounds, updates, seconds, updates_per_s (this run's own), virtual_s, metrics, model_sha256, out."""
        rate = self.updates / self.seconds if self.seconds > 0 else 0.0
        return {
            "rounds": self.rounds, "updates": self.updates, "seconds": round(self.seconds, 3),
            "updates_per_s": round(rate, 2), "virtual_s": self.virtual_s, "metrics": self.metrics,
            "model_sha256": self.model_sha256, "out": str(self.out),
        }  # fmt: skip


def run(settings: SimSettings, engine: Engine, view: seen.View, clients: Clients | None = None) -> Simulated:
    """One simulated federation, to its end; or the rest of one that was begun.

    ``clients`` takes part in place of those that the data are dealt out to.
    """
    with run_directory(settings) as folder:
        base = base_model(folder, settings.config, settings.init, engine)
        who = clients or drawn(settings, engine, view)
        folder.write_json(
            "config.json", settings.effective | {"clock": {"value": "virtual", "source": "fl-sim"}}
        )
        told_apart = f"{settings.partition} over {settings.clients} clients, seed {settings.config.seed}"
        if who.holdings:
            folder.write_json(PARTS_FILE, parts_json(zip(who.names, who.holdings, strict=True), told_apart))
        folder.write_rounds(folder.journal.each_record())
        federation = Federation(of_those_able(settings.config, who), base, folder.journal.each_record())
        tell_resumed(federation, view)
        simulation = Simulation(
            folder, federation, settings.strategy, who, settings.profile, engine, view,
            settings.scored_on,
        )  # fmt: skip
        if settings.tensorboard is not None:
            simulation.recording.tensorboard = EventFiles(settings.tensorboard, folder.journal.each_record())
        began = time.monotonic()
        try:
            simulation.run()
        finally:
            simulation.recording.close()
        seconds = time.monotonic() - began
        told = tuple(folder.journal.records())
    return Simulated(
        federation.rounds_done, simulation.updates, seconds, simulation.world.now,
        told[-1]["metrics"] if told else None, federation.base, settings.out,
        finished(settings.out, federation), told,
    )  # fmt: skip


@contextmanager
def run_directory(settings: SimSettings) -> Iterator[RunDirectory]:
    """The run directory, ours while the block lasts. What an earlier try left in its spool goes."""
    folder = RunDirectory(settings.out, fresh=settings.fresh)
    try:
        folder.spool.discard_up_to(settings.config.rounds + 1)
        config = settings.config
        identity = {
            "job": "simulation", "task": config.task, "model": config.model, "image_size": config.image_size,
            "clients": settings.clients, "partition": settings.partition, "seed": config.seed,
            "strategy": settings.strategy.name,
        }  # fmt: skip
        folder.check_identity(identity)
        yield folder
    finally:
        folder.close()


def base_model(folder: RunDirectory, config: FederationConfig, init: str | None, engine: Engine) -> str:
    """The digest of the model the run goes on from; made from the seed, or from ``init``, the first time."""
    records = folder.journal.records()
    if folder.journal.get("base") is not None:
        base = str(records[-1]["model_sha256"] if records else folder.journal.get("base"))
        folder.model(base)
        return base

    def ask(request: jobs.Initialise) -> jobs.Reply:
        engine.begin(request.out, request)
        return engine.result(request.out)

    return first_model(folder, config, init, ask)


def of_those_able(config: FederationConfig, who: Clients) -> FederationConfig:
    """The rule when some have nothing to train on: the federation goes on without them."""
    able = sum(num > 0 for num in who.examples)
    return replace(config, min_clients=min(config.min_clients, able))


def drawn(settings: SimSettings, engine: Engine, view: seen.View) -> Clients:
    """The virtual clients, when what they are scored on has been looked at: a day's rounds are not to end there."""
    scored_on = settings.scored_on
    if scored_on is not None:
        engine.begin("scored on", jobs.Prepare(scored_on))
        reply = answered(engine.result("scored on"))
        assert isinstance(reply, jobs.Prepared)
        for line in reply.problems:
            view.show(seen.Warned(f"what is scored on: {line}"))
    return dealt(settings.options, engine, view)


def dealt(options: jobs.DataOptions, engine: Engine, view: seen.View) -> Clients:
    """The virtual clients that the data make. Raises ConfigError if nobody could train."""
    reply = answered(engine.everywhere(jobs.Deal(options)))
    assert isinstance(reply, jobs.Dealt)
    for line in (*remarks_on_parts(reply.summaries, options), *reply.problems):
        view.show(seen.Warned(line))
    width = len(str(options.shards))
    numbered = tuple(f"client-{shard:0{width}d}" for shard in range(1, options.shards + 1))
    names = as_clients(reply.sites) if reply.sites else numbered
    unable = [name for name, num in zip(names, reply.examples, strict=True) if not num]
    if len(unable) == len(names):
        raise ConfigError(f"no client has an example to train on: give another --data than {options.data}")
    if unable:
        view.show(seen.Warned(f"without anything to train on, and away: {console.names(unable)}"))
    places = tuple(options.of_shard(k) for k in range(1, options.shards + 1))
    holdings = tuple(dict(summary.classes or {}) for summary in reply.summaries)
    return Clients(names, reply.examples, places, holdings if any(holdings) else ())


def tell_resumed(federation: Federation, view: seen.View) -> None:
    if federation.is_over:
        view.show(seen.Warned(how_to_go_on(federation)))
    elif federation.rounds_done:
        view.show(seen.Resumed(federation.rounds_done + 1, federation.config.rounds))
