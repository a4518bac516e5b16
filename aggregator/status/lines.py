"""``fl-agg status`` for people: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from typing import TextIO

from aggregator.status.job import ClientStatus, JobStatus, aggregator_word
from fl_protocol.console import clean, metric_words, pairs, seconds, wants_live
from fl_protocol.messages import LastRound


def show(status: JobStatus, stream: TextIO) -> None:
    """Write ``status`` for people: a table on a terminal, plain lines elsewhere."""
    if wants_live(stream, None, os.environ.get("TERM", "")):
        from aggregator.status.table import show_table

        show_table(status, stream)
    else:
        stream.write("\n".join(lines(status)) + "\n")


def lines(status: JobStatus) -> list[str]:
    """``status`` in plain lines: the job, the round, each client, the last round."""
    told = [f"job={clean(status.job)} aggregator={aggregator_word(status)}"]
    told += (
        [f"warning: {status.malformed} retained frame(s) are no message of ours"] if status.malformed else []
    )
    if status.phase:
        told.append(pairs(
            phase=status.phase, round=status.round_number, rounds=status.rounds, attempt=status.attempt,
            accepted=status.accepted, refused=status.refused or None, quorum=status.quorum, cohort=len(status.cohort), task=status.task,
            model=status.model, reason=status.reason or None,
        ))  # fmt: skip
    told += [
        f"client={name} " + pairs(state=client.state, round=client.round_number, examples=client.num_examples,
                                  cohort="yes" if name in status.cohort else "no", device=client.device or None)
        + (f" {words}" if (words := figure_words(client)) else "")
        for name, client in status.clients.items()
    ]  # fmt: skip
    return [*told, *([last_line(status.last)] if status.last else [])]


def figure_words(client: ClientStatus) -> str:
    """How a global model did there: ``scored_round=3 auroc=0.91 accuracy=0.85 loss=0.31``; empty if that is unsaid."""
    words = metric_words(client.figures, 3)
    return f"scored_round={client.scored_round} {words}" if words else ""


def last_line(last: LastRound) -> str:
    """The round before, in one line."""
    counts = pairs(last_round=last.round_number, outcome=last.outcome, accepted=last.accepted,
                   rejected=last.rejected, stragglers=last.stragglers,
                   took=seconds(last.duration_s).replace(" ", ""))  # fmt: skip
    words = metric_words(last.metrics) or " ".join(
        f"client_{w}" for w in metric_words(last.client_metrics, 3).split()
    )
    return f"{counts} {words}".strip()
