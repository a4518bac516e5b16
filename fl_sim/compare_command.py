"""``fl-sim compare``: local, federated and centralised training side by side, from options to a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from aggregator import options as opt
from aggregator.cohort import Share
from aggregator.console import make_view
from aggregator.notices import Finished, View, Warned
from aggregator.rule import Given, effective, rule_of
from fl_protocol import commandline as cl
from fl_protocol.bounds import at_least
from fl_protocol.errors import ConfigError
from fl_sim import options as sim
from fl_sim.compare_report import write_report
from fl_sim.compare_table import lines
from fl_sim.comparison import Comparison, compare
from fl_sim.engines import engine_of
from fl_sim.natural import laid_out
from fl_sim.profiles import Profile
from fl_sim.run_command import Told, scored_on, synthetic, worker_count
from fl_sim.settings import SimSettings
from fl_tasks.jobs import EVAL
from fl_tasks.partition_kind import IID
from fl_tasks.sources import HAS_LAYOUT, quick_check


@cl.spread
def command(
    ctx: cl.Context,
    *,
    data: sim.DataOption = None,
    clients: Annotated[
        int,
        cl.option(
            "clients", "How many sites the data are dealt out to, if they are.", rich_help_panel=sim.CLIENTS
        ),
    ] = 8,
    partition: sim.PartitionOption = IID,
    rounds: opt.RoundsOption = opt.ROUNDS,
    inviting: opt.InvitingOptions,
    judging: opt.JudgingOptions,
    learning: opt.LearningOptions,
    training: opt.TrainingOptions,
    init: opt.InitOption = None,
    eval_data: sim.EvalDataOption = None,
    out: opt.OutOption = None,
    fresh: opt.FreshOption = False,
    trainers: sim.EngineOptions,
    device: opt.DeviceOption = sim.DEVICE,
    plugin: cl.PluginOption = None,
    as_json: sim.JsonOption = False,
) -> None:
    """Compare what each site learns alone, all learn by federating, and one place with all data would learn.

    The same split, seed and number of passes over the data for all. Every model is scored on the pooled test, and on
    each site's own held-out patients. With several --data each folder is a site, and of a folder without a test part
    a fifth of the patients are held out for the pooled test.
    """
    view = make_view(sys.stderr if as_json else sys.stdout)
    found = compared(ctx.params, cl.effective_settings(ctx), view)
    cl.say(json.dumps(found.as_json()) if as_json else "\n".join(lines(found)))


def compared(given: Given, told: Told, view: View) -> Comparison:
    """Compare as the options in ``given`` say; table, figures and page lie in its folder afterwards.

    Raises ConfigError that names the option; ``view`` is closed in any case.
    """
    try:
        settings = settings_of(given, told)
        view.show(Warned("the federated run is shown; local and centralised ones run beside it"))
        trains = engine_of(given["engine"], worker_count(given), given["device"], given["plugin"])
        try:
            found = compare(settings, trains, view)
        finally:
            trains.close()
        (settings.out / "compare.json").write_text(json.dumps(found.as_json(), indent=1) + "\n", "utf-8")
        report = write_report(settings.out, found, settings.effective).resolve().as_uri()
        model = settings.out / "federated" / "global.safetensors"
        view.show(Finished(settings.config.rounds, report, str(model)))
        return found
    finally:
        view.close()


def settings_of(given: Given, told: Told) -> SimSettings:
    """The federation that is compared."""
    folder, folders = Path(given["out"] or "runs/compare"), list(given["data"] or [])
    source, clients, partition = laid_out(
        folders, given["clients"], given["partition"], folder, given["seed"]
    )
    scored = scored_on(source, given["eval_data"])
    if scored is None:
        if source is not None and given["task"] in HAS_LAYOUT:
            quick_check(source, EVAL, given["task"])  # what is wrong with it, if anything is
        raise ConfigError("there is nothing to score on: give --eval-data, or --data with a test part")
    at_least(clients, 2, "--clients", 1000)
    # Nobody is slow here: a round waits for its whole cohort.
    everybody = {"min_clients": Share.parse(given["cohort"], "--cohort").of(clients), "quorum": "1.0"}
    patient = {"grace": 0.0, "deadline": 1e8, "retries": 0}
    config, chosen = rule_of({**given, **everybody, **patient}, evaluate=True)
    said = effective(dict(told), config, chosen) | synthetic(folders)
    return SimSettings(
        folder, config, chosen, clients, source, partition, Profile((1.0,) * clients), scored, given["init"],
        given["fresh"], said,
    )  # fmt: skip
