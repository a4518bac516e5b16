"""report.html: one self-contained page about a run, drawn again after every round.

The page has no script and asks the network for nothing; its policy allows its own style sheet by digest and no more.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from aggregator import charts
from aggregator.charts import Bar, Line
from aggregator.report_data import ABANDONED, CLOSED_SHORT, RoundLine, RunData, read_run
from aggregator.report_figure import Figure, Tile, figure_text
from aggregator.report_judged import judged, parts, rates
from aggregator.report_sites import site_table
from fl_protocol.messages import FIGURE

FILE_NAME = "report.html"
MOST_ROUNDS, MOST_CLIENTS, MOST_NAMES = 300, 200, 12
PRESENCE_ROUNDS, PRESENCE_CLIENTS = 46, 30
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
SERIES = {1: "solid", 2: "dashed", 3: "dotted", 4: "dash and dot"}
CENTRAL = "central test set"


def write_report(run_dir: Path) -> Path:
    """Draw ``run_dir/report.html`` from the files beside it; readers see the old page or the new, never half."""
    target = run_dir / FILE_NAME
    draft = run_dir / f".{FILE_NAME}.{os.getpid()}"
    try:
        draft.write_text(render(read_run(run_dir), run_dir.name), "utf-8", errors="replace")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def render(run: RunData, name: str) -> str:
    """The page as text. ``name`` stands in for the job where the settings do not name one."""
    synthetic = run.setting("synthetic") in ("yes", "true", "1")
    suffix = " · synthetic phantoms" if synthetic else ""
    sheet, digest = style()
    return _template().render(
        run=run, job=run.setting("job", name), synthetic=synthetic, style=sheet, style_digest=digest,
        status=_status(run), tiles=_tiles(run), auroc=_auroc(run), auroc_title=f"AUROC{suffix}",
        learning=_learning(run, suffix), judged=judged(run, suffix), rates=rates(run), suffix=suffix, work=_work(run, suffix),
        presence=_presence(run, suffix), refusals=_refusals(run, suffix),
        rounds=list(reversed(run.rounds))[:MOST_ROUNDS], hidden_rounds=max(0, len(run.rounds) - MOST_ROUNDS),
        clients=run.clients[:MOST_CLIENTS], hidden_clients=max(0, len(run.clients) - MOST_CLIENTS),
        metric_names=_metric_names(run.rounds), sites=site_table(run), parts=parts(run, suffix),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("aggregator"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters.update(size=size_text, span=span_text, figure=figure_text, names=_few, when=_when)
    return env


@cache
def _template() -> Template:
    return _environment().get_template("report.html.j2")


@cache
def style() -> tuple[Markup, str]:
    """The style sheet, and the digest that lets it, and it alone, through the page's policy."""
    text = _environment().get_template("report.css.j2").render()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), digest  # noqa: S704  our own file


def size_text(count: float) -> str:
    """Bytes for people: 1.4 MB."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 or value >= 99.5 else f"{value:.1f} {UNITS[unit]}"


def span_text(seconds: float) -> str:
    """A duration for people: 0.03 s, 41 s, 2 min 05 s, 3 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s"
        if whole < 3600
        else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def _few(names: Sequence[str]) -> Markup:
    """Names in a row, each kept on one line where it fits."""
    shown = Markup(", ").join(
        Markup('<span class="id">{}</span>').format(charts.short(n, 40)) for n in names[:MOST_NAMES]
    )
    return shown + f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else shown


def _when(started_at: str) -> str:
    """An ISO time without its fraction and zone, which a reader of one run does not need in each row."""
    return started_at[:19].replace("T", " ") if len(started_at) >= 19 else started_at


def _status(run: RunData) -> dict[str, Any]:
    done = sum(line.done for line in run.rounds)
    wanted = run.setting("rounds")
    planned = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else 0
    state = "no round has ended yet" if not run.rounds else "running or paused"
    last = run.rounds[-1] if run.rounds else None
    if planned and (done >= planned or (last and last.done and last.number >= planned)):
        state = "finished"
    elif last and last.outcome == ABANDONED:
        state = "last round abandoned"
    return {
        "done": done, "planned": planned, "state": state, "good": state == "finished",
        "bad": state == "last round abandoned", "percent": round(100 * done / planned) if planned else 0,
        "abandoned": sum(line.outcome == ABANDONED for line in run.rounds),
        "short": sum(line.outcome == CLOSED_SHORT for line in run.rounds),
        "seconds": sum(line.duration_s for line in run.rounds),
        "first": run.rounds[0].started_at if run.rounds else "",
        "sha256": next((line.model_sha256 for line in reversed(run.rounds) if line.model_sha256), ""),
    }  # fmt: skip


def _last(run: RunData, name: str) -> tuple[float, int] | None:
    """The newest central value of ``name`` and its round."""
    return next(
        ((line.metrics[name], line.number) for line in reversed(run.rounds) if name in line.metrics), None
    )


def _interval(line: RoundLine) -> tuple[float, float] | None:
    low, high = line.metrics.get("auroc_low"), line.metrics.get("auroc_high")
    return (low, high) if low is not None and high is not None else None


def _auroc(run: RunData) -> dict[str, Any] | None:
    """The headline: the newest AUROC with the interval that belongs to the same round."""
    last = _last(run, "auroc")
    if last is None:
        return None
    value, number = last
    line = next(line for line in run.rounds if line.number == number)
    detail = run.evaluation if run.evaluation and run.evaluation.round_number == number else None
    interval = (detail.interval if detail else None) or _interval(line)
    picture = (
        charts.spark_range("range", "AUROC with its interval", *(interval[0], value, interval[1]))
        if interval
        else ""
    )
    return {"value": value, "round": number, "interval": interval, "svg": picture,
            "images": detail.images if detail else 0, "patients": detail.patients if detail else 0}  # fmt: skip


def _tiles(run: RunData) -> list[Tile]:
    detail, clients = run.evaluation, run.clients
    tiles = []
    if detail and detail.sensitivity is not None:
        tiles.append(
            Tile(
                "Sensitivity at 90 % specificity",
                figure_text(detail.sensitivity),
                f"round {detail.round_number}",
            )
        )
    for name, title in (("accuracy", "Accuracy"), ("loss", "Loss")):
        if last := _last(run, name):
            tiles.append(Tile(title, figure_text(last[0]), f"central test set, round {last[1]}"))
    active = sum(client.accepted > 0 for client in clients)
    tiles.append(Tile("Clients", f"{active}", f"of {len(clients)} asked had an update accepted"))
    examples = next((line.num_examples for line in reversed(run.rounds) if line.done), 0)
    if examples:
        tiles.append(Tile("Examples a round", f"{examples:,}", "behind the newest model; none left its site"))
    down, up = sum(line.bytes_down for line in run.rounds), sum(line.bytes_up for line in run.rounds)
    tiles.append(Tile("Traffic", size_text(down + up), f"{size_text(down)} down, {size_text(up)} up"))
    return tiles


def _series(run: RunData, name: str, key: str, *, central: bool, colour: int) -> Line | None:
    points = [
        (float(line.number), (line.metrics if central else line.client_metrics).get(key))
        for line in run.rounds
    ]
    band = (
        [(float(line.number), *edges) for line in run.rounds if (edges := _interval(line))]
        if central and key == "auroc"
        else []
    )
    known = any(value is not None for _, value in points)
    return Line(name, points, colour, band) if known else None


def _curves(run: RunData, key: str, title: str, note: str, wanted: Mapping[str, str], floor: float | None,
            ceiling: float | None) -> Figure | None:  # fmt: skip
    """Central ``key`` and the clients' metrics in ``wanted`` (key to name) in one chart, if there are any."""
    tries = [_series(run, CENTRAL, key, central=True, colour=1)]
    tries += [_series(run, name, client_key, central=False, colour=i)
              for i, (client_key, name) in enumerate(wanted.items(), start=2)]  # fmt: skip
    lines = [line for line in tries if line]
    if not lines:
        return None
    svg = charts.line_chart(f"c-{key}", title, lines, floor=floor, ceiling=ceiling)
    return Figure(title, note, svg, tuple((line.colour, line.name) for line in lines))


SHOWN_TOGETHER = {
    "local_steps",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "train_accuracy",
    "val_auroc",
    "train_auroc",
}


def _learning(run: RunData, suffix: str) -> list[Figure]:
    banded = any(_interval(line) for line in run.rounds)
    shade = "band: 95 % bootstrap interval by patient" if banded else "area under the ROC curve"
    figures = [
        _curves(run, "auroc", f"AUROC{suffix}", shade,
                {"val_auroc": "clients' validation", "eval_auroc": "global model at the sites"}, 0.0, 1.0),
        _curves(run, "accuracy", f"Accuracy{suffix}", "share of images judged right",
                {"val_accuracy": "clients' validation", "train_accuracy": "clients' training"}, 0.0, 1.0),
        _curves(run, "loss", f"Loss{suffix}", "lower is better",
                {"train_loss": "clients' training", "val_loss": "clients' validation"}, 0.0, None),
    ]  # fmt: skip
    keys = {key for line in run.rounds for key in line.client_metrics}
    others = sorted(key for key in keys - SHOWN_TOGETHER if not key.startswith(FIGURE))[:6]
    figures += [_curves(run, f"client-{i}", f"{key}{suffix}", "reported by clients, weighted by examples",
                        {key: key}, None, None) for i, key in enumerate(others)]  # fmt: skip
    return [figure for figure in figures if figure]


def _work(run: RunData, suffix: str) -> list[Figure]:
    """Durations by outcome and bytes by direction."""
    if not run.rounds:
        return []
    kinds = {CLOSED_SHORT: "k2", ABANDONED: "k0"}
    spans = [Bar(line.number, [(line.duration_s, kinds.get(line.outcome, "k1"))],
                 f"round {line.number}: {span_text(line.duration_s)}, {line.outcome}") for line in run.rounds]  # fmt: skip
    power = min(
        len(UNITS) - 1,
        max(0, (len(str(max(line.bytes_down + line.bytes_up for line in run.rounds))) - 1) // 3),
    )
    unit = 1000**power
    sizes = [Bar(line.number, [(line.bytes_down / unit, "k1"), (line.bytes_up / unit, "k3")],
                 f"round {line.number}: {size_text(line.bytes_down)} down, {size_text(line.bytes_up)} up")
             for line in run.rounds]  # fmt: skip
    first, second = f"Duration of a round, seconds{suffix}", f"Bytes a round, {UNITS[power]}{suffix}"
    mean = sum(line.duration_s for line in run.rounds) / len(run.rounds)
    return [
        Figure(first, f"mean {span_text(mean)}", charts.bar_chart("c-time", first, spans, unit="s"),
               ((11, "closed"), (12, "closed short"), (10, "abandoned"))),
        Figure(second, "as counted by the aggregator", charts.bar_chart("c-bytes", second, sizes, unit=UNITS[power]),
               ((11, "models down"), (13, "updates up"))),
    ]  # fmt: skip


def _presence(run: RunData, suffix: str) -> Figure | None:
    lines = run.rounds[-PRESENCE_ROUNDS:]
    names = [client.client_id for client in run.clients][:PRESENCE_CLIENTS]
    if not lines or not names:
        return None
    by_number = {line.number: line for line in lines}
    title = f"Who was in{suffix}"
    hidden = [f"the last {len(lines)} rounds"] if len(lines) < len(run.rounds) else []
    hidden += [f"the first {len(names)} clients by name"] if len(names) < len(run.clients) else []
    svg = charts.presence_chart(
        "c-who", title, names, list(by_number), lambda name, n: by_number[n].parts.get(name, "")
    )
    return Figure(title, " of ".join(hidden) or "every client in every round", svg)


def _refusals(run: RunData, suffix: str) -> Figure | None:
    rows = run.refusals()
    if not rows:
        return None
    title = f"Refusals by reason{suffix}"
    return Figure(
        title,
        f"{sum(count for _, count in rows):,} in all; the run was not harmed",
        charts.tally_chart("c-no", title, rows[:12]),
    )


def _metric_names(rounds: Sequence[RoundLine]) -> list[str]:
    """Columns of the table of rounds: the central metrics, in the order people look for them."""
    found = {name for line in rounds for name in line.metrics} - {"auroc_low", "auroc_high"}
    known = [name for name in ("auroc", "accuracy", "loss") if name in found]
    return known + sorted(found - set(known))[:4]
