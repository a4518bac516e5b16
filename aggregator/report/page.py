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

from aggregator.report import charts
from aggregator.report.charts import Bar, Line
from aggregator.report.figure import Figure, Tile, figure_text
from aggregator.report.judged import judged, parts, rates
from aggregator.report.paper import short
from aggregator.report.round_line import ABANDONED, CLOSED_SHORT
from aggregator.report.rounds import Stretch
from aggregator.report.run_data import RunData, read_run
from aggregator.report.sites import site_table
from fl_protocol.messages import FIGURE

FILE_NAME = "report.html"
MOST_CLIENTS, MOST_NAMES = 200, 12
PRESENCE_ROUNDS, PRESENCE_CLIENTS = 46, 30
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
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
    clients, rows = run.rounds.clients(), list(reversed(run.rounds.recent))
    return _template().render(
        run=run, job=run.setting("job", name), synthetic=synthetic, style=sheet, style_digest=digest,
        status=_status(run), tiles=_tiles(run), auroc=_auroc(run), auroc_title=f"AUROC{suffix}",
        learning=_learning(run, suffix), judged=judged(run, suffix), rates=rates(run), suffix=suffix, work=_work(run, suffix),
        presence=_presence(run, suffix), refusals=_refusals(run, suffix),
        rounds=rows, hidden_rounds=run.rounds.count - len(rows),
        clients=clients[:MOST_CLIENTS], hidden_clients=max(0, len(clients) - MOST_CLIENTS),
        metric_names=_metric_names(run), sites=site_table(run), parts=parts(run, suffix),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("aggregator.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters.update(size=size_text, span=span_text, figure=figure_text, names=_few, when=_when)
    return env


@cache
def _template() -> Template:
    return _environment().get_template("page.html.j2")


@cache
def chart_style() -> str:
    """The sheet of a chart that stands alone: colours for light and dark, and what the classes of its parts mean."""
    env = _environment()
    return "".join(env.get_template(name).render() for name in ("palette.css.j2", "chart.css.j2"))


@cache
def style() -> tuple[Markup, str]:
    """The style sheet, and the digest that lets it, and it alone, through the page's policy."""
    text = _environment().get_template("page.css.j2").render()
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
        Markup('<span class="id">{}</span>').format(short(n, 40)) for n in names[:MOST_NAMES]
    )
    return shown + f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else shown


def _when(started_at: str) -> str:
    """An ISO time without its fraction and zone, which a reader of one run does not need in each row."""
    return started_at[:19].replace("T", " ") if len(started_at) >= 19 else started_at


def _status(run: RunData) -> dict[str, Any]:
    rounds, last = run.rounds, run.rounds.last
    wanted = run.setting("rounds")
    planned = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else 0
    state = "running or paused" if last else "no round has ended yet"
    if planned and (rounds.done >= planned or (last and last.done and last.number >= planned)):
        state = "finished"
    elif last and last.ended_early:
        state = "finished early"
    elif last and last.outcome == ABANDONED:
        state = "last round abandoned"
    return {
        "done": rounds.done, "planned": planned, "state": state, "good": state in ("finished", "finished early"),
        "bad": state == "last round abandoned", "percent": round(100 * rounds.done / planned) if planned else 0,
        "reason": last.ended_early if last and state == "finished early" else "",
        "abandoned": rounds.abandoned, "short": rounds.short, "seconds": rounds.seconds,
        "first": rounds.started_at, "sha256": rounds.model_sha256,
    }  # fmt: skip


def _auroc(run: RunData) -> dict[str, Any] | None:
    """The headline: the newest AUROC with the interval that belongs to the same round."""
    line = run.rounds.central.get("auroc")
    if line is None:
        return None
    value = line.metrics["auroc"]
    detail = run.evaluation if run.evaluation and run.evaluation.round_number == line.number else None
    interval = (detail.interval if detail else None) or line.interval
    picture = (
        charts.spark_range("range", "AUROC with its interval", *(interval[0], value, interval[1]))
        if interval
        else ""
    )
    return {"value": value, "round": line.number, "interval": interval, "svg": picture,
            "images": detail.images if detail else 0, "patients": detail.patients if detail else 0}  # fmt: skip


def _tiles(run: RunData) -> list[Tile]:
    detail, clients, rounds = run.evaluation, run.rounds.clients(), run.rounds
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
        if line := rounds.central.get(name):
            tiles.append(
                Tile(title, figure_text(line.metrics[name]), f"central test set, round {line.number}")
            )
    if rounds.last and rounds.last.best:
        best = rounds.last.best
        note = f"round {best.round_number}, best.safetensors"
        tiles.append(Tile(f"Best {best.metric}", figure_text(best.value), note))
    active = sum(client.accepted > 0 for client in clients)
    tiles.append(Tile("Clients", f"{active}", f"of {len(clients)} asked had an update accepted"))
    if rounds.num_examples:
        note = "behind the newest model; none left its site"
        tiles.append(Tile("Examples a round", f"{rounds.num_examples:,}", note))
    down, up = rounds.bytes_down, rounds.bytes_up
    tiles.append(Tile("Traffic", size_text(down + up), f"{size_text(down)} down, {size_text(up)} up"))
    return tiles


def _series(run: RunData, name: str, key: str, *, central: bool, colour: int) -> Line | None:
    stretches = run.rounds.curve.points
    points = [
        (float(each.last), (each.metrics if central else each.client_metrics).get(key)) for each in stretches
    ]
    band = (
        [(float(each.last), *edges) for each in stretches if (edges := each.interval)]
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
    thinned = f"; one of every {run.rounds.curve.every} rounds" if run.rounds.curve.every > 1 else ""
    return Figure(title, note + thinned, svg, tuple((line.colour, line.name) for line in lines))


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
    banded = any(each.interval for each in run.rounds.curve.points)
    shade = "band: 95 % bootstrap interval by patient" if banded else "area under the ROC curve"
    figures = [
        _curves(run, "auroc", f"AUROC{suffix}", shade,
                {"val_auroc": "clients' validation", "eval_auroc": "global model at the sites"}, 0.0, 1.0),
        _curves(run, "accuracy", f"Accuracy{suffix}", "share of images judged right",
                {"val_accuracy": "clients' validation", "train_accuracy": "clients' training"}, 0.0, 1.0),
        _curves(run, "loss", f"Loss{suffix}", "lower is better",
                {"train_loss": "clients' training", "val_loss": "clients' validation"}, 0.0, None),
    ]  # fmt: skip
    others = sorted(key for key in run.rounds.client_metrics - SHOWN_TOGETHER if not key.startswith(FIGURE))[
        :6
    ]
    figures += [_curves(run, f"client-{i}", f"{key}{suffix}", "reported by clients, weighted by examples",
                        {key: key}, None, None) for i, key in enumerate(others)]  # fmt: skip
    return [figure for figure in figures if figure]


def _work(run: RunData, suffix: str) -> list[Figure]:
    """Durations by outcome and bytes by direction; in a long run a bar is the mean of some rounds."""
    rounds = run.rounds
    if not rounds.count:
        return []
    stretches = rounds.curve.points
    kinds = {CLOSED_SHORT: "k2", ABANDONED: "k0"}
    spans = [Bar(each.last, [(each.duration_s / each.rounds, kinds.get(each.outcome, "k1"))],
                 f"{_of(each)}: {span_text(each.duration_s / each.rounds)}, {each.outcome}") for each in stretches]  # fmt: skip
    most = max((each.bytes_down + each.bytes_up) // each.rounds for each in stretches)
    power = min(len(UNITS) - 1, max(0, (len(str(most)) - 1) // 3))
    unit = 1000**power
    sizes = [Bar(each.last, [(each.bytes_down / each.rounds / unit, "k1"), (each.bytes_up / each.rounds / unit, "k3")],
                 f"{_of(each)}: {size_text(each.bytes_down / each.rounds)} down, {size_text(each.bytes_up / each.rounds)} up")
             for each in stretches]  # fmt: skip
    first, second = f"Duration of a round, seconds{suffix}", f"Bytes a round, {UNITS[power]}{suffix}"
    thinned = f"; a bar is the mean of {rounds.curve.every} rounds" if rounds.curve.every > 1 else ""
    mean = f"mean {span_text(rounds.seconds / rounds.count)}{thinned}"
    return [
        Figure(first, mean, charts.bar_chart("c-time", first, spans, unit="s"),
               ((11, "closed"), (12, "closed short"), (10, "abandoned"))),
        Figure(second, f"as counted by the aggregator{thinned}", charts.bar_chart("c-bytes", second, sizes, unit=UNITS[power]),
               ((11, "models down"), (13, "updates up"))),
    ]  # fmt: skip


def _of(stretch: Stretch) -> str:
    """Which rounds, and what a figure of several is."""
    if stretch.rounds == 1:
        return f"round {stretch.last}"
    return f"rounds {stretch.first} to {stretch.last}, a round"


def _presence(run: RunData, suffix: str) -> Figure | None:
    lines, clients = list(run.rounds.recent)[-PRESENCE_ROUNDS:], run.rounds.clients()
    names = [client.client_id for client in clients][:PRESENCE_CLIENTS]
    if not lines or not names:
        return None
    by_number = {line.number: line.parts() for line in lines}
    title = f"Who was in{suffix}"
    hidden = [f"the last {len(lines)} rounds"] if len(lines) < run.rounds.count else []
    hidden += [f"the first {len(names)} clients by name"] if len(names) < len(clients) else []
    svg = charts.presence_chart(
        "c-who", title, names, list(by_number), lambda name, n: by_number[n].get(name, "")
    )
    return Figure(title, " of ".join(hidden) or "every client in every round", svg)


def _refusals(run: RunData, suffix: str) -> Figure | None:
    rows = run.rounds.refusals()
    if not rows:
        return None
    title = f"Refusals by reason{suffix}"
    return Figure(
        title,
        f"{sum(count for _, count in rows):,} in all; the run was not harmed",
        charts.tally_chart("c-no", title, rows[:12]),
    )


def _metric_names(run: RunData) -> list[str]:
    """Columns of the table of rounds: the central metrics, in the order people look for them."""
    found = set(run.rounds.central) - {"auroc_low", "auroc_high"}
    known = [name for name in ("auroc", "accuracy", "loss") if name in found]
    return known + sorted(found - set(known))[:4]
