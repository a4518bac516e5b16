"""``fl-agg`` whose rounds ask for control variates, folded by plain averaging: as SCAFFOLD does if all sites are in."""

from __future__ import annotations

from dataclasses import replace

from aggregator import cli, service
from aggregator.console import View
from aggregator.start import RunSettings, run
from fl_protocol.broker import BrokerOptions


def with_control_variates(settings: RunSettings, broker: BrokerOptions, view: View) -> None:
    """The same run with another plan."""
    plan = replace(settings.config.plan, control_variates=True)
    run(replace(settings, config=replace(settings.config, plan=plan)), broker, view)


if __name__ == "__main__":
    service.run = with_control_variates  # type: ignore[attr-defined]
    cli.main()
