"""One site's part of a round, from files to files. The task process and the simulator both go through here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fl_protocol.errors import DataError
from fl_protocol.messages import FIGURE, Plan
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import CONTROL, CONTROL_PREFIX
from fl_tasks.base import Dataset, Diverged, Kept, Model, Task, Watch
from fl_tasks.params import Params, file_params, joined, specs_of, write_params

NORMS = "norms"


@dataclass(frozen=True)
class Given:
    """What a site begins with: the global model, and the file it kept of its last accepted round (None: none).

    ``known`` are metadata that stand in where the model file has none.
    """

    model_file: Path
    kept_file: Path | None
    known: dict[str, str]


@dataclass(frozen=True)
class Done:
    """What is written and measured. ``metrics``: of training, ``local_steps``, and ``eval_*`` of the global model."""

    num_examples: int
    metrics: dict[str, float]


def train(
    task: Task, dataset: Dataset, plan: Plan, given: Given, watch: Watch, *,
    out: Path, kept_out: Path | None, scores: bool = True,
) -> Done:  # fmt: skip
    """Score the global model on held-out patients if ``scores``, train it, write the update to ``out``.

    What the site keeps if the update is accepted goes to ``kept_out``, if there is anything. Raises Diverged,
    Cancelled, or DataError if the task cannot train as the plan says.
    """
    model = read_model(given, plan)
    found = score(task, model, dataset, watch) if scores else {}
    update = task.train(model, plan, dataset, watch)
    if plan.control_variates and (update.control is None or update.kept is None):
        raise DataError("this task knows no control variates: choose another --strategy")
    control = {CONTROL: update.control} if plan.control_variates and update.control is not None else {}
    if kept_out is not None and update.kept is not None and (update.kept.control or update.kept.norms):
        groups = {CONTROL: update.kept.control, NORMS: update.kept.norms}
        write_params(kept_out, joined(**groups), {}, durable=False)
    if not write_params(out, joined(_=update.delta, **control), {}, durable=False):
        out.unlink()
        raise Diverged("the trained weights are not finite: lower --learning-rate")
    watch.check()
    return Done(update.num_examples, found | update.metrics)


def score(task: Task, model: Model, dataset: Dataset, watch: Watch) -> dict[str, float]:
    """``eval_*`` of a model on what ``dataset`` holds out, counts included; empty if it holds out nothing."""
    if not dataset.summary.val_images:
        return {}
    scored = task.evaluate(model, dataset, watch, detail=False)
    found: dict[str, float] = {**scored.metrics, **scored.counts}
    return {f"{FIGURE}{name}": float(value) for name, value in found.items()}


def read_model(given: Given, plan: Plan | None = None) -> Model:
    """The global model with the site's own share of it, as far as the plan wants it."""
    file = read_header(given.model_file)
    params = file_params(file)
    if plan is None:
        return Model(params, {**given.known, **file.metadata})
    kept = read_kept(given.kept_file, params) if given.kept_file is not None else Kept()
    own = Kept(kept.control if plan.control_variates else {}, kept.norms if plan.local_norms else {})
    control = file_params(file, CONTROL_PREFIX) if plan.control_variates else {}
    return Model(params, {**given.known, **file.metadata}, control, own)


def read_kept(path: Path, params: Params) -> Kept:
    """What a site kept; nothing if it is of a model with other tensors, as a job begun afresh may have."""
    file = read_header(path)
    kept = Kept(file_params(file, CONTROL_PREFIX), file_params(file, f"{NORMS}/"))
    layout = {spec.name: spec.shape for spec in specs_of(params)}
    mine = (*specs_of(kept.control), *specs_of(kept.norms))
    return kept if all(layout.get(spec.name) == spec.shape for spec in mine) else Kept()
