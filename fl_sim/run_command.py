"""``fl-sim run``: a simulated federation, from its options to its result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aggregator import options as opt
from aggregator.cohort import Share
from aggregator.console import make_view
from aggregator.notices import View
from aggregator.rule import Given, effective, rule_of
from aggregator.tensorboard import check_installed
from fl_protocol import commandline as cl
from fl_protocol.bounds import at_least
from fl_protocol.console import pairs, seconds
from fl_protocol.messages import MAX_COHORT
from fl_sim import options as sim
from fl_sim.engines import engine_of
from fl_sim.natural import laid_out
from fl_sim.profiles import Dropout, Profile, Slow, factors, parse_speeds
from fl_sim.settings import SimSettings, Simulated, run
from fl_tasks.folder import is_phantoms
from fl_tasks.partition_kind import IID
from fl_tasks.sources import has_test_part

MBIT = 1e6 / 8
NOTHING = "none"
Told = Mapping[str, dict[str, Any]]
"""An option's value and where it came from (commandline.effective_settings)."""


@cl.spread
def command(
    ctx: cl.Context,
    *,
    data: sim.DataOption = None,
    clients: sim.ClientsOption = 100,
    partition: sim.PartitionOption = IID,
    rounds: opt.RoundsOption = opt.ROUNDS,
    inviting: opt.InvitingOptions,
    closing: opt.ClosingOptions,
    judging: opt.JudgingOptions,
    learning: opt.LearningOptions,
    training: opt.TrainingOptions,
    init: opt.InitOption = None,
    speeds: sim.SpeedsOption = "equal",
    slow: sim.SlowOption = None,
    dropout: sim.DropoutOption = "0",
    pace: sim.PaceOption = 0.01,
    link: sim.LinkOption = 0.0,
    eval_data: sim.EvalDataOption = None,
    out: opt.OutOption = None,
    fresh: opt.FreshOption = False,
    trainers: sim.EngineOptions,
    tensorboard: opt.TensorboardOption = None,
    device: opt.DeviceOption = sim.DEVICE,
    plugin: cl.PluginOption = None,
    as_json: sim.JsonOption = False,
) -> None:
    """Simulate a federation: many virtual clients on this machine, in virtual time, without a broker.

    Rounds, strategies and training are those of fl-agg and fl-edge; client K trains on what an edge with
    --shard K/N would. A straggler of 20 minutes costs no time, so grace, deadlines and dropouts can be studied. The
    same options give the same model, byte for byte, whatever the number of workers. Ctrl-C stops it; the same command
    goes on with the round it was in.
    """
    view = make_view(sys.stderr if as_json else sys.stdout)
    found = simulated(ctx.params, cl.effective_settings(ctx), view)
    cl.say(json.dumps(found.as_json()) if as_json else summary_line(found))


def simulated(given: Given, told: Told, view: View) -> Simulated:
    """Run what the options in ``given`` say, by their names above; ``told`` says where each came from.

    Raises ConfigError that names the option; ``view`` is closed in any case.
    """
    try:
        settings = settings_of(given, told)
        if settings.tensorboard is not None:
            check_installed()
        trains = engine_of(given["engine"], worker_count(given), given["device"], given["plugin"])
        try:
            found = run(settings, trains, view)
        finally:
            trains.close()
        view.show(found.finished)
        return found
    finally:
        view.close()


def settings_of(given: Given, told: Told) -> SimSettings:
    """The simulation that the options describe."""
    out, seed, slow = Path(given["out"] or "runs/simulation"), given["seed"], given["slow"]
    asked, folders = at_least(given["clients"], 1, "--clients", MAX_COHORT), list(given["data"] or [])
    data, clients, partition = laid_out(folders, asked, given["partition"], out, seed)
    scored = scored_on(data, given["eval_data"])
    everybody = {"min_clients": Share.parse(given["cohort"], "--cohort").of(clients)}
    config, chosen = rule_of({**given, **everybody}, evaluate=scored is not None)
    profile = Profile(
        factors(clients, parse_speeds(given["speeds"]), Slow.parse(slow) if slow else None, seed),
        at_least(given["pace"], 0.0, "--pace"),
        at_least(given["link"], 0.0, "--link") * MBIT or None,
        Dropout.parse(given["dropout"]),
        seed,
    )
    return SimSettings(
        out, config, chosen, clients, data, partition,
        profile, scored, given["init"], given["fresh"], effective(dict(told), config, chosen) | synthetic(folders),
        tensorboard=Path(given["tensorboard"]) if given["tensorboard"] else None,
    )  # fmt: skip


def synthetic(folders: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Screens that show figures of phantoms must say so."""
    made_up = any(is_phantoms(Path(folder)) for folder in folders)
    return {"synthetic": {"value": True, "source": "the data"}} if made_up else {}


def worker_count(given: Given) -> int:
    """How many processes train: what is said, else one a core."""
    wanted = given["workers"] if given["workers"] is not None else os.cpu_count() or 1
    return int(at_least(wanted, 1, "--workers", 1024))


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
