"""``fl-sim chaos``: from its options to its scoreboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aggregator import options as opt
from fl_protocol import commandline as cl
from fl_protocol.bounds import at_least
from fl_protocol.errors import ConfigError, HilumError
from fl_sim import options as sim
from fl_sim.faults import KINDS, USUAL, Fault, parse_kinds
from fl_sim.line import PROFILES

if TYPE_CHECKING:
    from fl_sim.chaos import ChaosSettings
    from fl_sim.scoreboard import Score

USUALLY = ",".join(USUAL)
ProfileOption = Annotated[
    str, cl.option("profile", f"What the lines are like: {', '.join(PROFILES)}.", metavar="NAME")
]
FaultsOption = Annotated[
    str, cl.option("faults", f"What happens, of {', '.join(KINDS)}.", metavar="KIND,...")
]
ClientsOption = Annotated[int, cl.option("clients", "How many edges to start.")]
MinutesOption = Annotated[
    float, cl.option("minutes", "Go on with the next seeds until so many minutes are over.")
]
KilobytesOption = Annotated[int, cl.option("kilobytes", "Size of the model, in thousand bytes.")]
OutOption = Annotated[str, cl.option("out", "Where runs and logs are kept.", metavar="DIR")]
DryRunOption = Annotated[bool, cl.option("dry-run", "Print the schedule alone.", flag=True)]


def command(
    rounds: opt.RoundsOption = opt.ROUNDS,
    clients: ClientsOption = 3,
    profile: ProfileOption = "clinic",
    faults: FaultsOption = USUALLY,
    seed: opt.SeedOption = 0,
    minutes: MinutesOption = 0.0,
    kilobytes: KilobytesOption = 1000,
    out: OutOption = "runs/chaos",
    as_json: sim.JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Hurt a real federation on this machine, and see whether anything is lost.

    Starts a broker, an aggregator and edges, with a line of the profile between each and the broker, and lets a light
    task run its rounds: once undisturbed, once while faults happen on a schedule that the seed gives. Every round
    waits for every edge, so that both must end in the same model to the last bit. Exits with 1 if they do not, if an
    update was trained again that had been accepted, if a round was abandoned, or if a process or file is left.
    """
    from fl_sim.chaos import ChaosSettings
    from fl_sim.chaos import chaos as run_chaos

    if profile not in PROFILES:
        raise ConfigError(f"--profile {profile!r} is unknown: use one of {', '.join(PROFILES)}")
    settings = ChaosSettings(
        rounds=at_least(rounds, 1, "--rounds", 100_000),
        clients=at_least(clients, 1, "--clients", 100),
        profile=profile,
        kinds=parse_kinds(faults),
        seed=at_least(seed, 0, "--seed", 2**32),
        minutes=at_least(minutes, 0.0, "--minutes"),
        out=Path(out).resolve(),
        kilobytes=at_least(kilobytes, 1, "--kilobytes", 100_000),
    )
    if dry_run:
        _print_schedule(settings.schedule(seed), as_json)
        return
    stream = sys.stderr if as_json else sys.stdout
    _conclude(settings, run_chaos(settings, lambda line: print(line, file=stream, flush=True)), as_json)


def _print_schedule(faults: Sequence[Fault], as_json: bool) -> None:
    lines = [str(fault) for fault in faults]
    cl.say(json.dumps([asdict(fault) for fault in faults], indent=1) if as_json else "\n".join(lines))


def _conclude(settings: ChaosSettings, scores: Sequence[Score], as_json: bool) -> None:
    """Print the scoreboard. Raises HilumError if anything was lost."""
    from fl_sim.scoreboard import board, total

    sums = total(scores)
    if as_json:
        runs = [
            score.as_json() | {"schedule": [asdict(fault) for fault in settings.schedule(score.seed)]}
            for score in scores
        ]
        cl.say(json.dumps({"total": sums, "runs": runs}, indent=1))
    else:
        cl.say("\n".join(["", *board(scores)]))
    if sums["lost"]:
        raise HilumError(f"{len(sums['lost'])} thing(s) were lost: what everybody said is in {settings.out}")
