"""What a process asks of its task process, and what it hears back, as msgpack maps for the pipe between them.

The pipe joins two processes of one operator; both ends run the same code. Nothing here comes from the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

import msgpack

from fl_protocol.messages import DataSummary, Plan

DATA, DISK, CANCELLED, DIVERGED, MEMORY = "data", "disk", "cancelled", "diverged", "memory"
BUG, PROCESS = "bug", "process"
FAILURE_KINDS = (DATA, DISK, CANCELLED, DIVERGED, MEMORY, BUG, PROCESS)
TRAIN, EVAL = "train", "eval"


@dataclass(frozen=True)
class DataOptions:
    """Which part of which folder, for which use. Equal options name equal data while the folder is unchanged."""

    task: str
    data: str | None
    image_size: int  # 0: the task's default
    cache: str  # folder of resized images, may be shared by several processes
    shard: int = 1  # 1 .. shards; of resident data also 0: all of them together
    shards: int = 1
    partition: str = "iid"
    seed: int = 0
    role: str = TRAIN  # or EVAL
    resident: bool = False  # all shards are kept at hand, as views on one copy: for virtual clients

    def of_shard(self, shard: int) -> DataOptions:
        """The same of another shard (from 1)."""
        return replace(self, shard=shard)


@dataclass(frozen=True)
class Prepare:
    """Read the folder, fill the cache, keep the data in memory. Answered by Prepared."""

    options: DataOptions


@dataclass(frozen=True)
class Deal:
    """Prepare every shard of ``options``, whose own ``shard`` says nothing here. Answered by Dealt."""

    options: DataOptions


@dataclass(frozen=True)
class Inspect:
    """Load a task and what it computes with. Answered by Inspected."""

    task: str


@dataclass(frozen=True)
class Initialise:
    """Write a first global model to ``out``, from ``seed`` or from the file ``init``. Answered by Initialised."""

    task: str
    model: str
    image_size: int
    seed: int
    init: str | None
    out: str


@dataclass(frozen=True)
class Train:
    """Train the model in ``model_file`` and write trained minus global to ``out``. Answered by Trained.

    ``model`` and ``options.image_size`` stand in where the file's metadata do not name them. ``kept`` is the file of
    what this site keeps of an earlier round (empty: none), ``kept_out`` where it goes if this update is accepted.
    """

    options: DataOptions
    model_file: str
    plan: Plan
    out: str
    round_number: int
    model: str
    kept: str = ""
    kept_out: str = ""
    scores: bool = True  # also scores the model as it came, on held-out patients


@dataclass(frozen=True)
class Score:
    """Score the model in ``model_file``, with what this site keeps, on held-out patients. Answered by Scored."""

    options: DataOptions
    model_file: str
    plan: Plan
    round_number: int
    model: str
    kept: str = ""


@dataclass(frozen=True)
class Evaluate:
    """Score the model in ``model_file``; with ``detail`` also the ROC points and the like. Answered by Evaluated."""

    options: DataOptions
    model_file: str
    detail: bool = False


@dataclass(frozen=True)
class Explain:
    """Look at one image's pixels, uint8 of ``shape``, with the model in ``model_file``. Answered by Explained."""

    model_file: str
    pixels: bytes = field(repr=False)
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Export:
    """Write the model in ``model_file`` to ``out`` in the form ``how`` (fl_tasks.export). Answered by Exported."""

    model_file: str
    out: str
    how: str


@dataclass(frozen=True)
class Cancel:
    """Give up every request sent before this one. Has no answer of its own."""


@dataclass(frozen=True)
class Shutdown:
    """Cancel, then end the process."""


@dataclass(frozen=True)
class Prepared:
    summary: DataSummary
    problems: tuple[str, ...]  # one line each: files left out and why
    num_examples: int
    device: str


@dataclass(frozen=True)
class Dealt:
    """By shard: examples to train on (0: it cannot train), and what a client would tell of its folder."""

    examples: tuple[int, ...]
    summaries: tuple[DataSummary, ...]
    problems: tuple[str, ...]
    device: str
    sites: tuple[str, ...] = ()  # what the data call them; empty where parts are dealt


@dataclass(frozen=True)
class Inspected:
    device: str
    software: str  # "torch 2.13.0, 2 threads" for people; empty where a task needs none


@dataclass(frozen=True)
class Initialised:
    out: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class TrainingProgress:
    round_number: int
    fraction: float
    loss: float | None


@dataclass(frozen=True)
class Alive:
    """A sign of life from the work under way. Never delivered: the parent's watch over its child is all it is for."""


@dataclass(frozen=True)
class Trained:
    round_number: int
    out: str
    num_examples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Scored:
    """``metrics`` is empty if no patient is held out."""

    round_number: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluated:
    metrics: dict[str, float]
    detail: dict[str, Any] | None


@dataclass(frozen=True)
class Explained:
    """float32 logits, one a class, and maps of ``shape``; ``shape`` is empty if the model has none."""

    logits: bytes
    maps: bytes = field(repr=False)
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Exported:
    """``has_maps``: what was written gives heat maps as well. ``difference``: from torch, at most."""

    out: str
    has_maps: bool
    difference: float


@dataclass(frozen=True)
class Failed:
    """The request that failed, by its class name, and whose fault it is (one of FAILURE_KINDS)."""

    request: str
    kind: str
    message: str
    round_number: int = 0  # of a Train or Score, else 0


Request = (
    Prepare | Deal | Inspect | Initialise | Train | Score | Evaluate | Explain | Export | Cancel | Shutdown
)
Reply = (
    Prepared | Dealt | Inspected | Initialised | TrainingProgress | Alive | Trained | Scored | Evaluated | Explained
    | Exported | Failed
)  # fmt: skip

_TAGS: dict[str, type[Any]] = {cls.__name__: cls for cls in (*get_args(Request), *get_args(Reply))}
_LISTS = frozenset({"problems", "examples", "summaries", "shape", "sites"})
_NESTED: dict[str, type[Any]] = {"options": DataOptions, "plan": Plan, "summary": DataSummary}


def encode(job: Request | Reply) -> bytes:
    """The bytes of ``job``, without a length prefix."""
    return bytes(msgpack.packb({"t": type(job).__name__, **_plain(job)}))


def decode(frame: bytes) -> Request | Reply:
    """What :func:`encode` was given. Raises ValueError for anything else: that is a bug of ours."""
    body = msgpack.unpackb(frame, strict_map_key=False)
    if not isinstance(body, dict) or body.get("t") not in _TAGS:
        raise ValueError("not a job")
    tag = body.pop("t")
    job: Request | Reply = _built(_TAGS[tag], body)
    return job


def _plain(value: Any) -> dict[str, Any]:
    found = {}
    for item in fields(value):
        found[item.name] = _plain_value(getattr(value, item.name))
    return found


def _plain_value(part: Any) -> Any:
    if isinstance(part, tuple):
        return [_plain_value(each) for each in part]
    return _plain(part) if hasattr(part, "__dataclass_fields__") else part


def _built(cls: type[Any], body: Mapping[str, Any]) -> Any:
    found = dict(body)
    for name, nested in _NESTED.items():
        if name in found and cls is not Plan:  # a plan's own options are plain numbers
            found[name] = _built(nested, found[name])
    if "summaries" in found:
        found["summaries"] = [DataSummary(**each) for each in found["summaries"]]
    for name in _LISTS & found.keys():
        found[name] = tuple(found[name])
    return cls(**found)
