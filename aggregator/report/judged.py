"""The report's figures of the newest model on the central test set, and of who holds what."""

from __future__ import annotations

from aggregator.report import charts
from aggregator.report.confusion_chart import confusion_chart
from aggregator.report.dot_charts import parts_chart, reliability_chart
from aggregator.report.evaluation import Calibration
from aggregator.report.figure import Figure, figure_text
from aggregator.report.paper import short
from aggregator.report.run_data import RunData


def judged(run: RunData, suffix: str) -> list[Figure]:
    """ROC curve and confusion matrix of the newest central evaluation."""
    detail = run.evaluation
    if detail is None:
        return []
    where = f"round {detail.round_number}, {detail.images:,} images" + (
        f" of {detail.patients:,} patients" if detail.patients else ""
    )
    at = f", threshold {detail.threshold:.3f}" if detail.threshold is not None else ""
    figures = []
    if detail.roc:
        point = detail.operating_point()
        note = f"{where}; the ring is the operating point" if point else where
        title = f"ROC curve{suffix}"
        figures.append(Figure(title, note, charts.roc_chart("c-roc", title, detail.roc, point)))
    if detail.confusion:
        title = f"Confusion matrix{suffix}"
        figures.append(
            Figure(title, where + at, confusion_chart("c-conf", title, detail.confusion, detail.classes))
        )
    return figures + [figure for figure in [_calibrated(detail.calibration, suffix)] if figure]


def _calibrated(found: Calibration | None, suffix: str) -> Figure | None:
    """The reliability diagram, with and without the temperature that travels with the model."""
    if found is None or not found.before:
        return None
    title = f"Calibration{suffix}"
    note = (
        f"expected error {found.ece[0]:.3f}, at temperature {found.temperature:.2f} {found.ece[1]:.3f}; "
        f"Brier score {found.brier[0]:.3f}, {found.brier[1]:.3f}"
    )
    svg = reliability_chart("c-cal", title, found.before, found.after)
    return Figure(title, note, svg, ((1, "as it is"), (2, "at its temperature")))


def parts(run: RunData, suffix: str) -> Figure | None:
    """Who holds what."""
    if run.parts is None or not run.parts.classes:
        return None
    title = f"Who holds what{suffix}"
    more = f"; {run.parts.hidden:,} more sites" if run.parts.hidden else ""
    note = (run.parts.how or "as the sites count their own images") + more
    return Figure(title, note, parts_chart("c-parts", title, run.parts.classes, run.parts.sites))


def rates(run: RunData) -> list[tuple[str, str, str]]:
    """(name, value, of what) at the threshold of a two-class confusion matrix."""
    if run.evaluation is None or len(run.evaluation.confusion) != 2:
        return []
    (tn, fp), (fn, tp) = run.evaluation.confusion
    negative, positive = (short(name, 20) for name in run.evaluation.classes)
    known = (("Sensitivity", tp, tp + fn, f"{positive} found"), ("Specificity", tn, tn + fp, f"{negative} cleared"),
             ("Positive predictive value", tp, tp + fp, f"answers {positive} right"),
             ("Negative predictive value", tn, tn + fn, f"answers {negative} right"))  # fmt: skip
    found = [
        (name, f"{100 * part / whole:.1f} %" if whole else "–", f"{part:,} of {whole:,} {of}")
        for name, part, whole, of in known
    ]
    return found + [
        (
            name,
            figure_text(value),
            "whatever the threshold" if name == "AUPRC" else "at a threshold of its own",
        )
        for name, value in run.evaluation.operating.rows()
    ]
