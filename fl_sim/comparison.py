"""What federating is worth: one network trained in three ways on the same split, from the same seed, for as long.

    local          each site on its own patients alone
    federated      all sites, by the strategy
    centralised    the training patients of all sites in one place

Each is a simulation (local and centralised have one client), so rounds, local passes, optimizer and seeds are those
of the others: in every round each image is seen ``local_epochs`` times (of ``local_steps`` one place takes as many as
all sites together). Whoever validates at a site validates in all
three. All run at once and share the workers.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from aggregator import notices as seen
from aggregator.cohort import UNIFORMLY, Share
from aggregator.strategies.registry import get_strategy
from edge_client.kept import Kept
from fl_protocol.errors import ConfigError, QuorumNotMet
from fl_protocol.messages import FIGURE
from fl_sim.engine import Engine, answered
from fl_sim.profiles import Profile
from fl_sim.settings import SimSettings, drawn, run
from fl_sim.simulation import Clients
from fl_tasks import jobs

FEDERATED, CENTRALISED, LOCAL = "federated", "centralised", "local"
TOGETHER = 0
"""The shard that is all of them (jobs.DataOptions)."""


@dataclass(frozen=True)
class Way:
    """One way to train: its kind, its title, and who trains; ``sites`` is whose work one client does in a round."""

    kind: str
    title: str
    clients: Clients
    sites: int = 1


@dataclass(frozen=True)
class Result:
    """What came of a way. ``curve`` has a round's metrics on the pooled test, in order; ``sites`` is the last model
    on each site's own held-out patients, empty where a site has none.
    """

    kind: str
    title: str
    curve: tuple[dict[str, float], ...]
    sites: dict[str, dict[str, float]]
    model_sha256: str
    seconds: float

    @property
    def pooled(self) -> dict[str, float]:
        return self.curve[-1] if self.curve else {}


@dataclass(frozen=True)
class Comparison:
    """All results, local ones in the order of the sites, and what the sites hold."""

    sites: tuple[str, ...]
    examples: tuple[int, ...]
    results: tuple[Result, ...]

    def of(self, kind: str) -> list[Result]:
        return [result for result in self.results if result.kind == kind]

    @property
    def measure(self) -> str:
        """What the gap is told in: AUROC where there is one, else accuracy."""
        everywhere = all("auroc" in result.pooled for result in self.results)
        return "auroc" if everywhere else "accuracy"

    def local_mean(self) -> float:
        """The mean over the sites of their own models on the pooled test."""
        return statistics.fmean(result.pooled[self.measure] for result in self.of(LOCAL))

    def gaps(self) -> dict[str, float]:
        """How far the federated model is above the others on the pooled test."""
        federated = self.of(FEDERATED)[0].pooled[self.measure]
        best = max(result.pooled[self.measure] for result in self.of(LOCAL))
        return {
            "over_centralised": federated - self.of(CENTRALISED)[0].pooled[self.measure],
            "over_mean_local": federated - self.local_mean(),
            "over_best_local": federated - best,
        }

    def as_json(self) -> dict[str, Any]:
        """Keys: sites ({name: examples}), measure, gaps, results ([{kind, title, pooled, sites, curve, ...}])."""
        return {
            "sites": dict(zip(self.sites, self.examples, strict=True)),
            "measure": self.measure,
            "gaps": self.gaps(),
            "results": [
                {
                    "kind": result.kind, "title": result.title, "pooled": result.pooled, "sites": result.sites,
                    "curve": list(result.curve), "model_sha256": result.model_sha256, "seconds": round(result.seconds, 2),
                }
                for result in self.results
            ],
        }  # fmt: skip


def compare(settings: SimSettings, engine: Engine, view: seen.View) -> Comparison:
    """Train in every way and score all models.

    Raises ConfigError without anything to score on, or for a task that cannot put data together.
    """
    if settings.scored_on is None:
        raise ConfigError("there is nothing to score on: give --eval-data, or --data with a test part")
    clients = drawn(settings, engine, view)
    ways = ways_of(clients)
    with ThreadPoolExecutor(len(ways), "compare") as pool:
        running = [pool.submit(_run, way, settings, clients, engine, view) for way in ways]
        try:
            results = tuple(each.result() for each in running)
        except BaseException:
            engine.close()  # or the others would wait for workers that nobody needs any more
            raise
    able = [index for index, num in enumerate(clients.examples) if num > 0]
    return Comparison(
        tuple(clients.names[index] for index in able), tuple(clients.examples[index] for index in able), results
    )  # fmt: skip


def ways_of(clients: Clients) -> list[Way]:
    """The federation first, since it has the most to do."""
    together = Clients(("everybody",), (sum(clients.examples),), (clients.options[0].of_shard(TOGETHER),))
    alone = [
        Way(LOCAL, name, Clients((name,), (num,), (options,)))
        for name, num, options in zip(clients.names, clients.examples, clients.options, strict=True)
        if num > 0
    ]
    return [
        Way(FEDERATED, "all sites", clients), Way(CENTRALISED, "in one place", together, len(alone)), *alone
    ]  # fmt: skip


def _run(way: Way, settings: SimSettings, sites: Clients, engine: Engine, view: seen.View) -> Result:
    shown = view if way.kind == FEDERATED else Silent()
    own = settings_for(way, settings)
    try:
        found = run(own, engine, shown, way.clients)
    except QuorumNotMet as error:
        raise QuorumNotMet(f"{way.kind} ({way.title}): {error}") from None
    curve = tuple(record["metrics"] or {} for record in found.records if record["outcome"] != "abandoned")
    scores = _at_sites(own, sites, engine, found.rounds)
    return Result(way.kind, way.title, curve, scores, found.model_sha256, found.seconds)


def settings_for(way: Way, settings: SimSettings) -> SimSettings:
    """The run of one way: one client alone is a whole federation, without a strategy or chance of dropping out."""
    if way.kind == FEDERATED:
        return replace(settings, out=settings.out / FEDERATED, cache=settings.out / "cache")
    one = Share(count=1)
    plan = replace(settings.config.plan, proximal_mu=0.0, control_variates=False, local_norms=False)
    if plan.local_steps is not None:
        plan = replace(plan, local_steps=plan.local_steps * way.sites)
    config = replace(
        settings.config, min_clients=1, cohort=one, quorum=one, plan=plan, max_staleness=0, sampling=UNIFORMLY,
        eval_cohort=None,
    )  # fmt: skip
    folder = settings.out / CENTRALISED if way.kind == CENTRALISED else settings.out / LOCAL / way.title
    return replace(
        settings, out=folder, cache=settings.out / "cache", config=config, strategy=get_strategy("fedavg"),
        profile=Profile((1.0,)),
    )  # fmt: skip


def _at_sites(own: SimSettings, sites: Clients, engine: Engine, rounds: int) -> dict[str, dict[str, float]]:
    """The last model on every site's own held-out patients; of FedBN, with what the site keeps of its own."""
    model, plan = str(own.out / "global.safetensors"), own.config.plan
    able = [index for index, num in enumerate(sites.examples) if num > 0]
    for index in able:
        kept = Kept(own.out / "kept" / sites.names[index]).before(rounds + 1) if plan.local_norms else None
        request = jobs.Score(sites.options[index], model, plan, rounds, own.config.model, str(kept or ""))
        engine.begin((str(own.out), index), request)
    found: dict[str, dict[str, float]] = {}
    for index in able:
        reply = answered(engine.result((str(own.out), index)))
        assert isinstance(reply, jobs.Scored)
        found[sites.names[index]] = {
            name.removeprefix(FIGURE): value for name, value in reply.metrics.items()
        }
    return found


class Silent:
    """A view of what nobody watches: of many runs at once one is shown."""

    def show(self, event: seen.Event) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to take away."""
