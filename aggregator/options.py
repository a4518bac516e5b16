"""The options of ``fl-agg start``, which ``fl-sim`` shares, and the groups in which commands take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fl_protocol import commandline as cl
from fl_tasks.defaults import DEFAULT_TASK

ROUND, TRAINING = "ROUNDS", "TRAINING"
ROUNDS, MIN_CLIENTS, DEVICE = 10, 2, "auto"
"""What is usual where several commands have an option outside of a group."""

RoundsOption = Annotated[int, cl.option("rounds", "How many rounds to run.", rich_help_panel=ROUND)]
BrokerOption = Annotated[
    str | None,
    cl.option(
        "broker", "Broker to use. Without it: one that answers on this host, else one is started here.",
        metavar="HOST[:PORT]", rich_help_panel=cl.BROKER,
    ),
]  # fmt: skip
TaskOption = Annotated[str, cl.option("task", "What is learned.", rich_help_panel=TRAINING)]
ModelOption = Annotated[
    str | None,
    cl.option(
        "model", "Network to train, by name (default: the task's).", metavar="NAME", rich_help_panel=TRAINING
    ),
]
StrategyOption = Annotated[
    str,
    cl.option(
        "strategy",
        "How updates become the next model: fl-agg strategies lists them.",
        metavar="NAME",
        rich_help_panel=TRAINING,
    ),
]
StrategyOptionsOption = Annotated[
    list[str] | None,
    cl.option(
        "strategy-option",
        "An option of the strategy; may be given several times.",
        metavar="KEY=VALUE",
        rich_help_panel=TRAINING,
    ),
]
MinClientsOption = Annotated[
    int, cl.option("min-clients", "Clients that must be here before a round opens.", rich_help_panel=ROUND)
]
CohortOption = Annotated[
    str,
    cl.option(
        "cohort",
        "Clients invited to a round: a number, or a fraction.",
        metavar="K|FRACTION",
        rich_help_panel=ROUND,
    ),
]
SamplingOption = Annotated[
    str,
    cl.option(
        "sampling",
        "How a cohort is drawn: uniform, by-size (in proportion to examples), or power-of-choice:D (of D candidates by "
        "size those with the highest loss).",
        metavar="RULE",
        rich_help_panel=ROUND,
    ),
]
EvalCohortOption = Annotated[
    str | None,
    cl.option(
        "eval-cohort",
        "Clients that score each round's model on patients they hold out, drawn first from those that do not train: "
        "a number, or a fraction of those present (default: those that train).",
        metavar="K|FRACTION",
        rich_help_panel=ROUND,
    ),
]
QuorumOption = Annotated[
    str | None,
    cl.option(
        "quorum",
        "Updates a round needs: a number, or a fraction of the cohort (default: 0.66; 1 with an asynchronous strategy).",
        metavar="N|FRACTION",
        rich_help_panel=ROUND,
    ),
]
GraceOption = Annotated[
    float | None,
    cl.option(
        "grace",
        "Seconds to wait for the others once quorum is reached (default: 60; 0 with an asynchronous strategy).",
        metavar="S",
        rich_help_panel=ROUND,
    ),
]
DeadlineOption = Annotated[
    float,
    cl.option("deadline", "Seconds after which a round ends, whatever has arrived.", rich_help_panel=ROUND),
]
RetriesOption = Annotated[
    int, cl.option("retries", "How often a round without quorum is tried again.", rich_help_panel=ROUND)
]
BestByOption = Annotated[
    str | None,
    cl.option(
        "best-by",
        "Metric by which best.safetensors is chosen: a central one, or client_eval_NAME, measured by the sites (default: "
        "auroc, else accuracy, else loss, central ones first).",
        metavar="METRIC",
        rich_help_panel=ROUND,
    ),
]
EarlyStopOption = Annotated[
    str | None,
    cl.option(
        "early-stop",
        "End the run after so many rounds in succession that were no better by that metric, or not by more than "
        "MIN_DELTA.",
        metavar="PATIENCE[:MIN_DELTA]",
        rich_help_panel=ROUND,
    ),
]
LocalEpochsOption = Annotated[
    int | None,
    cl.option(
        "local-epochs",
        "Passes over its own data that a client makes in a round (default: the task's).",
        metavar="N",
        rich_help_panel=TRAINING,
    ),
]
LocalStepsOption = Annotated[
    int | None,
    cl.option(
        "local-steps",
        "Batches that a client trains on in a round, whatever it holds, in place of --local-epochs.",
        metavar="N",
        rich_help_panel=TRAINING,
    ),
]
LocalEpochsScheduleOption = Annotated[
    str,
    cl.option(
        "local-epochs-schedule",
        "How --local-epochs or --local-steps change over the rounds, in the same words; at least 1 is left.",
        metavar="SCHEDULE",
        rich_help_panel=TRAINING,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    cl.option(
        "batch-size",
        "Images in a training step (default: the task's).",
        metavar="N",
        rich_help_panel=TRAINING,
    ),
]
LearningRateOption = Annotated[
    float | None,
    cl.option(
        "learning-rate",
        "Step size of the clients (default: the task's).",
        metavar="X",
        rich_help_panel=TRAINING,
    ),
]
LearningRateScheduleOption = Annotated[
    str | None,
    cl.option(
        "learning-rate-schedule",
        "How the learning rate changes over the rounds: constant, cosine[:FLOOR] or step:EVERY:RATIO, each also after "
        "warmup:N, as in warmup:3,cosine (default: the task's).",
        metavar="SCHEDULE",
        rich_help_panel=TRAINING,
    ),
]
ProximalMuOption = Annotated[
    float | None,
    cl.option(
        "proximal-mu",
        "Weight of FedProx's term in the clients' loss, with any strategy (default: the strategy's).",
        metavar="X",
        rich_help_panel=TRAINING,
    ),
]
ProximalMuScheduleOption = Annotated[
    str,
    cl.option(
        "proximal-mu-schedule",
        "How the proximal term changes over the rounds, in the same words.",
        metavar="SCHEDULE",
        rich_help_panel=TRAINING,
    ),
]
ImageSizeOption = Annotated[
    int | None,
    cl.option(
        "image-size",
        "Images are resized to P x P pixels (default: the task's).",
        metavar="P",
        rich_help_panel=TRAINING,
    ),
]
SeedOption = Annotated[int, cl.option("seed", "Seed of everything random.", rich_help_panel=TRAINING)]
InitOption = Annotated[
    str | None,
    cl.option(
        "init",
        "Begin from this .safetensors model instead of a random one.",
        metavar="FILE",
        rich_help_panel=TRAINING,
    ),
]
EvalDataOption = Annotated[
    str | None,
    cl.option(
        "eval-data",
        "Images on which every round's model is scored: what --data of an edge takes, its test part.",
        metavar="DIR|FILE",
    ),
]
OutOption = Annotated[
    str | None,
    cl.option("out", "Run directory (default: runs/JOB). The same command again resumes it.", metavar="DIR"),
]
WaitOption = Annotated[
    bool,
    cl.option(
        "wait",
        "Begin nothing until an operator launches a run, on a dashboard say, and wait for the next one when it has "
        "ended; each run has a folder of its own in --out, and edges stay. The other options are what a launch does "
        "not say.",
        flag=True,
    ),
]
FreshOption = Annotated[bool, cl.option("fresh", "Start over in the run directory.", flag=True)]
ListenOption = Annotated[
    str, cl.option("listen", "Address on which a broker that we start listens.", rich_help_panel=cl.BROKER)
]
ConnectTimeoutOption = Annotated[
    float,
    cl.option(
        "connect-timeout",
        "Seconds to try to reach the broker at first; 0 tries for ever.",
        rich_help_panel=cl.BROKER,
    ),
]
TensorboardOption = Annotated[
    str | None,
    cl.option(
        "tensorboard",
        "Write every round's figures as event files for TensorBoard into this folder (needs the extra 'tensorboard').",
        metavar="DIR",
    ),
]
DeviceOption = Annotated[str, cl.option("device", "Where models are evaluated: auto, cpu or cuda.")]
MetricsPortOption = Annotated[
    int | None,
    cl.option(
        "metrics-port",
        "Serve a page of figures for Prometheus on this port (needs the extra 'metrics').",
        metavar="N",
    ),
]
MetricsHostOption = Annotated[
    str, cl.option("metrics-host", "Address on which that page is served.", metavar="HOST")
]


@dataclass(frozen=True)
class LearningOptions:
    """What is learned, and how updates become a model."""

    task: TaskOption = DEFAULT_TASK
    model: ModelOption = None
    strategy: StrategyOption = "fedavg"
    strategy_option: StrategyOptionsOption = None


@dataclass(frozen=True)
class InvitingOptions:
    """Who takes part in a round."""

    cohort: CohortOption = "1.0"
    sampling: SamplingOption = "uniform"
    eval_cohort: EvalCohortOption = None


@dataclass(frozen=True)
class ClosingOptions:
    """When a round ends."""

    quorum: QuorumOption = None
    grace: GraceOption = None
    deadline: DeadlineOption = 3600.0
    retries: RetriesOption = 2


@dataclass(frozen=True)
class JudgingOptions:
    """Which model is the best, and when there will be no better one."""

    best_by: BestByOption = None
    early_stop: EarlyStopOption = None


@dataclass(frozen=True)
class TrainingOptions:
    """How clients train."""

    local_epochs: LocalEpochsOption = None
    local_steps: LocalStepsOption = None
    local_epochs_schedule: LocalEpochsScheduleOption = "constant"
    batch_size: BatchSizeOption = None
    learning_rate: LearningRateOption = None
    learning_rate_schedule: LearningRateScheduleOption = None
    proximal_mu: ProximalMuOption = None
    proximal_mu_schedule: ProximalMuScheduleOption = "constant"
    image_size: ImageSizeOption = None
    seed: SeedOption = 0
