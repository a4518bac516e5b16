"""What a person should know of a site's data before a round, whatever the task: read off the counts alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fl_protocol.messages import DataSummary
from fl_tasks.jobs import TRAIN, DataOptions

MAX_LINES = 100


def bounded(lines: Sequence[str]) -> list[str]:
    """The first of many lines, and how many more there are."""
    if len(lines) <= MAX_LINES:
        return list(lines)
    return [*lines[:MAX_LINES], f"and {len(lines) - MAX_LINES} more"]


def remarks_on(summary: DataSummary, options: DataOptions) -> tuple[str, ...]:
    """Lines, each with what follows from it. None of them keeps a site from taking part."""
    if options.role != TRAIN or not summary.images:
        return ()
    said = []
    if options.shards > 1 and summary.patients == 1:
        said.append(
            f"part {options.shard} of {options.shards} has one patient: the draw of {options.partition} leaves some "
            "parts little, and a part that it leaves nobody is given one; it trains, and weighs as little"
        )
    classes = summary.classes or {}
    occurring = [name for name, count in classes.items() if count]
    if len(classes) > 1 and len(occurring) == 1:
        said.append(
            f"every image here is {occurring[0]}: this site trains, but its AUROC, sensitivity and specificity "
            "cannot be measured"
        )
    if len(classes) > 1 and not summary.val_images:
        said.append(
            "too few patients to hold one out: this site trains, but the global model is not scored here"
        )
    return tuple(said)


def remarks_on_parts(summaries: Sequence[DataSummary], options: DataOptions) -> tuple[str, ...]:
    """The same of all parts of a draw at once, for who has many of them: a line a kind, with how many it is true of."""
    held = [summary for summary in summaries if summary.images]
    lone = sum(summary.patients == 1 for summary in held)
    alike = sum(_is_of_one_class(summary) for summary in held)
    unscored = sum(len(summary.classes or {}) > 1 and not summary.val_images for summary in held)
    of = f"of {len(summaries)} parts"
    said = []
    if lone and len(summaries) > 1:
        said.append(
            f"{lone} {of} have one patient: the draw of {options.partition} leaves some parts little, and a part that "
            "it leaves nobody is given one; it trains, and weighs as little"
        )
    if alike:
        said.append(
            f"{alike} {of} are of one class each: they train, but AUROC, sensitivity and specificity cannot be "
            "measured there"
        )
    if unscored:
        said.append(
            f"{unscored} {of} have too few patients to hold one out: they train, but the global model is not scored "
            "there"
        )
    return tuple(said)


def _is_of_one_class(summary: DataSummary) -> bool:
    counts = list((summary.classes or {}).values())
    return len(counts) > 1 and sum(map(bool, counts)) == 1
