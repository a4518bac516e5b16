"""The simulator for those who live in a notebook: the commands' own options as arguments, results that draw themselves.

run = fl_sim.simulate("chest_xray", clients=8, rounds=10, partition="dirichlet:0.5")
run.plot("auroc")
fl_sim.compare("chest_xray", clients=4, rounds=5).plot()
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import escape

from aggregator.notices import RoundEnded, View, Warned
from aggregator.report.charts import Line
from aggregator.rundir import GLOBAL
from fl_protocol.errors import ConfigError
from fl_sim import compare_command, run_command
from fl_sim.compare_report import compared_lines
from fl_sim.compare_table import columns, figure, figures, gaps_in_words, label, lines, ordered
from fl_sim.comparison import Comparison
from fl_sim.pictures import Picture, curves
from fl_sim.settings import Simulated

NOT_HERE = frozenset({"ctx", "as_json"})
Data = str | Path | Sequence[str | Path]
"""What ``--data`` takes: one folder or file, or several."""
UNIT_RANGE = ("auroc", "accuracy", "auprc", "sensitivity", "specificity")
"""Metrics of which 1 is the most."""


def simulate(data: Data | None = None, *, progress: bool = True, **options: Any) -> Run:
    """A simulated federation, from its first to its last round; the same call again goes on with it.

    ``options`` are those of ``fl-sim run`` by name, ``clients=8, cohort=4, strategy="fedavgm"``; what belongs to the
    strategy is a dictionary, ``strategy_option={"server_momentum": 0.9}``. Raises ConfigError for what cannot be.
    """
    given, told = _options(run_command.command, {"data": _folders(data), **options})
    made_up = bool(run_command.synthetic(given["data"]))
    return Run(run_command.simulated(given, told, _Rounds(progress)), made_up)


def compare(data: Data, *, progress: bool = True, **options: Any) -> Compared:
    """Each site alone, all by federating, and all data in one place; several folders are a site each.

    ``options`` are those of ``fl-sim compare`` by name. Raises ConfigError for what cannot be.
    """
    given, told = _options(compare_command.command, {"data": _folders(data), **options})
    return Compared(compare_command.compared(given, told, _Rounds(progress)))


@dataclass(frozen=True, repr=False)
class Run:
    """A simulated federation that has ended. ``rounds`` are the lines of rounds.jsonl."""

    result: Simulated
    synthetic: bool = False
    """Its images are drawn phantoms: figures say nothing of real X-rays."""

    @cached_property
    def rounds(self) -> list[dict[str, Any]]:
        return list(self.result.records)

    @property
    def metrics(self) -> dict[str, float]:
        """Of the last round's model on the central test part; empty if there is none."""
        return dict(self.result.metrics or {})

    @property
    def folder(self) -> Path:
        """The run directory: report.html, rounds.jsonl, the models."""
        return self.result.out

    @property
    def model(self) -> Path:
        """The newest global model."""
        return self.folder / GLOBAL

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(round, value): ``auroc`` is of the central test, ``client_eval_auroc`` of the sites' own held-out patients.

        Raises ConfigError with the names there are.
        """
        found = [
            (each["round"], table[metric]) for each in self.rounds if metric in (table := _measured(each))
        ]
        if not found:
            there = ", ".join(sorted({name for each in self.rounds for name in _measured(each)}))
            raise ConfigError(f"no round measured {metric!r}: there is {there or 'nothing'}")
        return found

    def plot(self, *metrics: str) -> Picture:
        """Curves over the rounds, of AUROC where there is one if nothing is named."""
        wanted = metrics or (self._usual(),)
        drawn = [
            Line(
                _said(name),
                [(float(number), value) for number, value in self.curve(name)],
                colour,
                self._band(name),
            )
            for colour, name in enumerate(wanted, 1)
        ]
        bounded = all(name.rpartition("eval_")[2].removeprefix("client_") in UNIT_RANGE for name in wanted)
        phantoms = ", synthetic phantoms" if self.synthetic else ""
        return curves(
            f"{self.folder.name}: {len(self.rounds)} rounds{phantoms}",
            drawn,
            ceiling=1.0 if bounded else None,
        )

    def _band(self, name: str) -> list[tuple[float, float, float]]:
        """The metric's 95 % interval in each round that has one."""
        low, high = f"{name}_low", f"{name}_high"
        tables = [(float(each["round"]), _measured(each)) for each in self.rounds]
        return [
            (number, table[low], table[high]) for number, table in tables if low in table and high in table
        ]

    def _usual(self) -> str:
        there = {name for each in self.rounds for name in _measured(each)}
        return next(
            (name for name in ("auroc", "accuracy", "client_eval_auroc", "loss") if name in there), "loss"
        )

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {len(self.rounds)} rounds)"

    def _repr_html_(self) -> str:
        shown: dict[str, object] = {"rounds": len(self.rounds), "updates": self.result.updates}
        shown |= {name: f"{value:.4f}" for name, value in self.metrics.items()}
        return _table(
            list(shown),
            [list(shown.values())],
            caption=f"{self.folder}{' (synthetic phantoms)' if self.synthetic else ''}",
        )


@dataclass(frozen=True, repr=False)
class Compared:
    """What each site learns alone, all by federating, and one place with all data."""

    result: Comparison

    @property
    def gaps(self) -> dict[str, float]:
        """How far the federated model is above the others on the pooled test."""
        return self.result.gaps()

    def plot(self) -> Picture:
        """The pooled measure over the rounds: federated, centralised, and the local models' mean with their range."""
        return curves(f"{self.result.measure} on the pooled test", compared_lines(self.result), ceiling=1.0)

    def __repr__(self) -> str:
        return "\n".join(lines(self.result))

    def _repr_html_(self) -> str:
        rows = [[label(each), *map(figure, figures(self.result, each))] for each in ordered(self.result)]
        told = "".join(f"<p>{escape(sentence)}</p>" for sentence in gaps_in_words(self.result))
        return _table(["", *columns(self.result)], rows) + told


class _Rounds(View):
    """A line for every round that ends, and warnings; nothing else where nobody types Ctrl-C."""

    def __init__(self, progress: bool) -> None:
        self._progress = progress

    def show(self, event: object) -> None:
        if isinstance(event, Warned):
            sys.stderr.write(f"warning: {event.text}\n")
        elif isinstance(event, RoundEnded) and self._progress:
            record = event.record
            told = ", ".join(f"{name} {value:.4f}" for name, value in (record["metrics"] or {}).items())
            sys.stdout.write(f"round {record['round']}: {record['outcome']}{': ' if told else ''}{told}\n")

    def close(self) -> None:
        """Nothing to take away."""


def _options(
    command: Callable[..., None], said: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """All options of ``command`` by name, and where each came from. Raises ConfigError for a name it has not."""
    known = {
        name: each.default
        for name, each in inspect.signature(command).parameters.items()
        if name not in NOT_HERE
    }
    for name in said:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"
            raise ConfigError(f"there is no option {name!r}: {hint}")
    given = {
        name: _typed(said[name], default) if name in said else default for name, default in known.items()
    }
    told = {
        name: {"value": value, "source": "argument" if said.get(name) is not None else "default"}
        for name, value in given.items()
    }
    return given, told


def _typed(value: Any, default: Any) -> Any:
    """A value as the command line would have it: shares are text there, a strategy's options are key=value."""
    if isinstance(value, Mapping):
        return [f"{key}={each}" for key, each in value.items()]
    if isinstance(value, Path) or (isinstance(default, str) and isinstance(value, int | float)):
        return str(value)
    return value


def _folders(data: Data | None) -> list[str]:
    """As ``--data`` has them."""
    several = [data] if isinstance(data, str | Path) else data or []
    return [str(each) for each in several]


def _measured(record: Mapping[str, Any]) -> dict[str, float]:
    """A round's metrics by name, those of the clients with ``client_`` before it."""
    central = dict(record["metrics"] or {})
    return central | {f"client_{name}": value for name, value in record["client_metrics"].items()}


def _said(name: str) -> str:
    """A metric's name for a legend."""
    if name.startswith("client_eval_"):
        return f"{name.removeprefix('client_eval_')}, at the sites"
    return (
        f"{name.removeprefix('client_')}, in training"
        if name.startswith("client_")
        else f"{name}, central test"
    )


def _table(heads: Sequence[object], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table in HTML, every text escaped."""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
