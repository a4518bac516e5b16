"""fl-sim: the simulator's command line."""

from __future__ import annotations

from typing import NoReturn

import typer

from fl_protocol import commandline as cl
from fl_sim import chaos_command, compare_command, run_command

app = typer.Typer(
    name="fl-sim",
    help="Study a federation on one machine: virtual clients without sockets, or real processes under faults.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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
