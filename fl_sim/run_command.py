"""``fl-sim run``: a simulated federation, from its options to its result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aggregator import options as opt
from aggregator.cli import at_least, check_quorum, check_updates, effective
from aggregator.cohort import Share
from aggregator.console import Finished, View, make_view
from aggregator.events import FederationConfig
from aggregator.strategies.options import split_options
from aggregator.strategies.registry import get_strategy, shown_options
from fl_protocol import commandline as cl
from fl_protocol.console import pairs, seconds
from fl_protocol.messages import MAX_COHORT, Plan
from fl_sim import options as sim
from fl_sim.engine import Engine
from fl_sim.engines import checked_engine, engine_of
from fl_sim.profiles import Dropout, Profile, Slow, factors, parse_speeds
from fl_sim.settings import SimSettings, Simulated, run
from fl_tasks.defaults import DEFAULT_TASK, defaults_for
from fl_tasks.sources import has_test_part

MBIT = 1e6 / 8
NOTHING = "none"


def command(
    ctx: cl.Context,
    data: sim.DataOption = None,
    clients: sim.ClientsOption = 100,
    partition: sim.PartitionOption = "iid",
    rounds: opt.RoundsOption = 10,
    cohort: opt.CohortOption = "1.0",
    quorum: opt.QuorumOption = "0.66",
    grace: opt.GraceOption = 60.0,
    deadline: opt.DeadlineOption = 3600.0,
    retries: opt.RetriesOption = 2,
    task: opt.TaskOption = DEFAULT_TASK,
    model: opt.ModelOption = None,
    strategy: opt.StrategyOption = "fedavg",
    strategy_option: opt.StrategyOptionsOption = None,
    local_epochs: opt.LocalEpochsOption = None,
    batch_size: opt.BatchSizeOption = None,
    learning_rate: opt.LearningRateOption = None,
    image_size: opt.ImageSizeOption = None,
    seed: opt.SeedOption = 0,
    init: opt.InitOption = None,
    speeds: sim.SpeedsOption = "equal",
    slow: sim.SlowOption = None,
    dropout: sim.DropoutOption = "0",
    pace: sim.PaceOption = 0.01,
    link: sim.LinkOption = 0.0,
    eval_data: sim.EvalDataOption = None,
    out: opt.OutOption = None,
    fresh: opt.FreshOption = False,
    workers: sim.WorkersOption = None,
    engine: sim.EngineOption = "local",
    device: opt.DeviceOption = "cpu",
    plugin: cl.PluginOption = None,
    as_json: sim.JsonOption = False,
) -> None:
    """Simulate a federation: many virtual clients on this machine, in virtual time, without a broker.

    Rounds, strategies and training are those of fl-agg and fl-edge; client K trains on what an edge with
    --shard K/N would. A straggler of 20 minutes costs no time, so grace, deadlines and dropouts can be studied. The
    same options give the same model, byte for byte, whatever the number of workers. Ctrl-C stops it; the same command
    goes on with the round it was in.
    """
    checked_engine(engine)
    at_least(clients, 1, "--clients", MAX_COHORT)
    scored = scored_on(data, eval_data)
    chosen = get_strategy(strategy, split_options(strategy_option or ()))
    config = rule_of(ctx.params, scored is not None)
    config = replace(config, plan=chosen.plan(config.plan), max_staleness=chosen.max_staleness)
    check_updates(config, chosen)
    profile = Profile(
        factors(clients, parse_speeds(speeds), Slow.parse(slow) if slow else None, seed),
        at_least(pace, 0.0, "--pace"),
        at_least(link, 0.0, "--link") * MBIT or None,
        Dropout.parse(dropout),
        seed,
    )
    settings = SimSettings(
        Path(out or "runs/simulation"), config, chosen, clients, data, partition, profile, scored, init,
        fresh, effective(cl.effective_settings(ctx), config, shown_options(chosen)),
    )  # fmt: skip
    count = at_least(workers if workers is not None else os.cpu_count() or 1, 1, "--workers", 1024)
    view = make_view(sys.stderr if as_json else sys.stdout)
    try:
        found = _simulated(settings, engine_of(engine, count, device, plugin), view)
        report = (settings.out / "report.html").resolve().as_uri()
        view.show(Finished(config.rounds, report, str(settings.out / "global.safetensors")))
    finally:
        view.close()
    cl.say(json.dumps(found.as_json()) if as_json else summary_line(found))


def _simulated(settings: SimSettings, trains: Engine, view: View) -> Simulated:
    try:
        return run(settings, trains, view)
    finally:
        trains.close()


def summary_line(found: Simulated) -> str:
    """What a person wants to know at the end."""
    each = found.as_json()
    return "simulated " + pairs(
        rounds=found.rounds, updates=found.updates, took=seconds(found.seconds), updates_per_s=each["updates_per_s"],
        virtual=seconds(found.virtual_s), model_sha256=found.model_sha256[:16],
    )  # fmt: skip


def scored_on(data: str | None, eval_data: str | None) -> str | None:
    """What rounds are scored on: what is named, else the data's own test part, else nothing."""
    if eval_data is not None:
        return None if eval_data == NOTHING else eval_data
    return data if data is not None and has_test_part(data) else None


def rule_of(given: Mapping[str, Any], evaluate: bool) -> FederationConfig:
    """The rule of a run from the options of a command. Raises ConfigError for what cannot be."""
    defaults = defaults_for(given["task"])

    def chosen(name: str, lowest: Any, highest: Any) -> Any:
        value = given[name] if given[name] is not None else getattr(defaults, name)
        return at_least(value, lowest, "--" + name.replace("_", "-"), highest)

    cohort = Share.parse(given["cohort"], "--cohort")
    config = FederationConfig(
        rounds=at_least(given["rounds"], 1, "--rounds"),
        min_clients=cohort.of(given["clients"]),
        cohort=cohort,
        quorum=Share.parse(given["quorum"], "--quorum"),
        grace_s=at_least(given["grace"], 0.0, "--grace"),
        deadline_s=at_least(given["deadline"], 0.1, "--deadline"),
        retries=at_least(given["retries"], 0, "--retries"),
        seed=at_least(given["seed"], 0, "--seed", 2**63 - 1),
        task=given["task"],
        model=given["model"] or defaults.model,
        image_size=chosen("image_size", 8, 4096),
        plan=Plan(
            local_epochs=chosen("local_epochs", 1, 10_000),
            batch_size=chosen("batch_size", 1, 65_536),
            learning_rate=chosen("learning_rate", 0.0, 1e6),
            seed=given["seed"],
            momentum=defaults.momentum,
            weight_decay=defaults.weight_decay,
        ),
        evaluate=evaluate,
    )
    check_quorum(config)
    return config
