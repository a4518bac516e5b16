"""``fl-sim run``: a simulated federation, from its options to its result."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from aggregator import options as opt
from aggregator.cohort import Share
from aggregator.console import View, make_view
from aggregator.rule import effective, rule_of
from fl_protocol import commandline as cl
from fl_protocol.bounds import at_least
from fl_protocol.console import pairs, seconds
from fl_protocol.messages import MAX_COHORT
from fl_sim import options as sim
from fl_sim.engine import Engine
from fl_sim.engines import checked_engine, engine_of
from fl_sim.profiles import Dropout, Profile, Slow, factors, parse_speeds
from fl_sim.settings import SimSettings, Simulated, run
from fl_tasks.defaults import DEFAULT_TASK
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
    sampling: opt.SamplingOption = "uniform",
    eval_cohort: opt.EvalCohortOption = None,
    quorum: opt.QuorumOption = None,
    grace: opt.GraceOption = None,
    deadline: opt.DeadlineOption = 3600.0,
    retries: opt.RetriesOption = 2,
    best_by: opt.BestByOption = None,
    early_stop: opt.EarlyStopOption = None,
    task: opt.TaskOption = DEFAULT_TASK,
    model: opt.ModelOption = None,
    strategy: opt.StrategyOption = "fedavg",
    strategy_option: opt.StrategyOptionsOption = None,
    local_epochs: opt.LocalEpochsOption = None,
    local_steps: opt.LocalStepsOption = None,
    local_epochs_schedule: opt.LocalEpochsScheduleOption = "constant",
    batch_size: opt.BatchSizeOption = None,
    learning_rate: opt.LearningRateOption = None,
    learning_rate_schedule: opt.LearningRateScheduleOption = None,
    proximal_mu: opt.ProximalMuOption = None,
    proximal_mu_schedule: opt.ProximalMuScheduleOption = "constant",
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
    everybody = {"min_clients": Share.parse(cohort, "--cohort").of(clients)}
    config, chosen = rule_of(ctx.params | everybody, evaluate=scored is not None)
    profile = Profile(
        factors(clients, parse_speeds(speeds), Slow.parse(slow) if slow else None, seed),
        at_least(pace, 0.0, "--pace"),
        at_least(link, 0.0, "--link") * MBIT or None,
        Dropout.parse(dropout),
        seed,
    )
    settings = SimSettings(
        Path(out or "runs/simulation"), config, chosen, clients, data, partition, profile, scored, init,
        fresh, effective(cl.effective_settings(ctx), config, chosen),
    )  # fmt: skip
    count = at_least(workers if workers is not None else os.cpu_count() or 1, 1, "--workers", 1024)
    view = make_view(sys.stderr if as_json else sys.stdout)
    try:
        found = _simulated(settings, engine_of(engine, count, device, plugin), view)
        view.show(found.finished)
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
