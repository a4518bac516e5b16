"""fl-sim: the simulator's command line."""

from __future__ import annotations

from typing import NoReturn

import typer

from fl_protocol import commandline as cl
from fl_sim import chaos_command, compare_command, run_command

app = cl.program(
    "fl-sim",
    "Study a federation on one machine: virtual clients without sockets, or real processes under faults.",
)


@app.callback()
def main_options(ctx: typer.Context, config: cl.ConfigOption = None) -> None:
    cl.load_config(ctx, config)


app.command("run")(run_command.command)
app.command("compare")(compare_command.command)
app.command("chaos")(chaos_command.command)


def main() -> NoReturn:
    """The program ``fl-sim``."""
    cl.run(app, "fl-sim")
