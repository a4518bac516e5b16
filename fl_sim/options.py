"""The options of the simulator's commands, beside those it shares with ``fl-agg start``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fl_protocol import commandline as cl
from fl_sim.profiles import SPEEDS
from fl_tasks.partition_kind import FORMS

CLIENTS, MACHINE = "CLIENTS", "THIS MACHINE"
DEVICE = "cpu"

ClientsOption = Annotated[
    int, cl.option("clients", "How many virtual clients the data are dealt out to.", rich_help_panel=CLIENTS)
]
DataOption = Annotated[
    list[str] | None,
    cl.option(
        "data",
        "What the clients hold: one folder or file that is dealt out, or several folders, each of them a site.",
        metavar="DIR|FILE",
    ),
]
EvalDataOption = Annotated[
    str | None,
    cl.option(
        "eval-data",
        "What every round's model is scored on (default: the test part of --data, if it has one; none: nothing).",
        metavar="DIR|FILE|none",
    ),
]
PartitionOption = Annotated[
    str,
    cl.option("partition", f"How the data are dealt out: {FORMS}.", metavar="HOW", rich_help_panel=CLIENTS),
]
SpeedsOption = Annotated[
    str,
    cl.option(
        "speeds",
        f"How the clients' speeds differ, as a factor on the time of their work: {SPEEDS}.",
        metavar="DISTRIBUTION",
        rich_help_panel=CLIENTS,
    ),
]
SlowOption = Annotated[
    str | None,
    cl.option(
        "slow",
        "K of every N clients, drawn, are FACTOR times slower still.",
        metavar="K/N:FACTOR",
        rich_help_panel=CLIENTS,
    ),
]
DropoutOption = Annotated[
    str,
    cl.option(
        "dropout",
        "Chance that a client at work vanishes before it is done, and for how long "
        "(default: as long as the work takes).",
        metavar="CHANCE[:SECONDS]",
        rich_help_panel=CLIENTS,
    ),
]
PaceOption = Annotated[
    float,
    cl.option(
        "pace",
        "Virtual seconds that training on one image takes a client of speed 1.",
        metavar="SECONDS",
        rich_help_panel=CLIENTS,
    ),
]
LinkOption = Annotated[
    float,
    cl.option(
        "link",
        "Megabits a second on every client's link, either way; 0: models travel in no time.",
        metavar="MBIT",
        rich_help_panel=CLIENTS,
    ),
]
WorkersOption = Annotated[
    int | None,
    cl.option(
        "workers",
        "Processes that train (default: one a core). Their number changes no byte of the result.",
        metavar="N",
        rich_help_panel=MACHINE,
    ),
]
EngineOption = Annotated[
    str,
    cl.option(
        "engine", "Who trains: local (processes here) or ray (a Ray cluster).", rich_help_panel=MACHINE
    ),
]
JsonOption = Annotated[
    bool, cl.option("json", "End with one JSON object on stdout; progress goes to stderr.", flag=True)
]


@dataclass(frozen=True)
class EngineOptions:
    """Who trains."""

    workers: WorkersOption = None
    engine: EngineOption = "local"
