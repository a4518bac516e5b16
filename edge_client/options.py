"""The options of ``fl-edge``, and the group in which ``join`` and ``doctor`` take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fl_protocol import commandline as cl
from fl_tasks.partition_kind import FORMS, IID

DATA, PLACE = "DATA", "THIS EDGE"

BrokerOption = Annotated[str, cl.option("broker", "Broker of the job.", metavar="HOST[:PORT]")]
DataOption = Annotated[
    str | None,
    cl.option(
        "data",
        "Folder of X-rays: NORMAL and PNEUMONIA in DIR/train or in DIR; FILE.csv of paths and labels; or FILE.npz of small images.",
        metavar="DIR|FILE",
        rich_help_panel=DATA,
    ),
]
ClientIdOption = Annotated[
    str | None,
    cl.option(
        "client-id",
        "Name of this edge, unlike any other in the job (default: the name of this machine).",
        metavar="ID",
        rich_help_panel=PLACE,
    ),
]
WorkdirOption = Annotated[
    str | None,
    cl.option(
        "workdir",
        "Folder for models and cached images, this edge's own (default: hilum-edge/ID).",
        metavar="DIR",
        rich_help_panel=PLACE,
    ),
]
DeviceOption = Annotated[
    str,
    cl.option(
        "device", "Where to compute: auto (a GPU if there is one), cpu or cuda.", rich_help_panel=PLACE
    ),
]
ThreadsOption = Annotated[
    int | None,
    cl.option(
        "threads",
        "Processor cores to train on (default: what PyTorch chooses).",
        rich_help_panel=PLACE,
    ),
]
ShardOption = Annotated[
    str | None,
    cl.option(
        "shard",
        "Train on part K of N of the folder only, so that one folder plays N hospitals.",
        metavar="K/N",
        rich_help_panel=DATA,
    ),
]
PartitionOption = Annotated[
    str,
    cl.option(
        "partition",
        f"How unlike the parts of --shard are: {FORMS}.",
        metavar="HOW",
        rich_help_panel=DATA,
    ),
]
SeedOption = Annotated[
    int,
    cl.option("seed", "Seed of the parts: the same for every edge of one folder.", rich_help_panel=DATA),
]
PrivateMetricsOption = Annotated[
    bool,
    cl.option(
        "private-metrics",
        "Send no loss, AUROC or other measure of a model: only how many images it was trained on, and how long.",
        flag=True,
        rich_help_panel=DATA,
    ),
]
ConnectTimeoutOption = Annotated[
    float,
    cl.option(
        "connect-timeout",
        "Seconds to wait for the broker at first; 0 keeps trying for ever.",
        metavar="S",
        rich_help_panel=cl.BROKER,
    ),
]
VerboseOption = Annotated[bool, cl.option("verbose", "Log what goes on inside, on stderr.", flag=True)]

RoomBrokerOption = Annotated[
    str | None,
    cl.option(
        "broker",
        "Broker of the job whose newest model reads.",
        metavar="HOST[:PORT]",
        rich_help_panel=cl.BROKER,
    ),
]
ListenOption = Annotated[
    str, cl.option("listen", "Where the page is served.", metavar="HOST:PORT", rich_help_panel=cl.PAGE)
]
RoomWorkdirOption = Annotated[
    str | None,
    cl.option("workdir", "Folder for models, never for images (default: hilum-room).", metavar="DIR"),
]
ReferBelowOption = Annotated[
    float,
    cl.option(
        "refer-below",
        "Probability of the class foretold below which the page says to refer to a radiologist.",
        metavar="P",
        rich_help_panel=cl.PAGE,
    ),
]


@dataclass(frozen=True)
class SiteOptions:
    """Which job a site joins, under what name, on what data."""

    broker: BrokerOption
    data: DataOption = None
    job: cl.JobOption = cl.JOB
    client_id: ClientIdOption = None
    workdir: WorkdirOption = None
    device: DeviceOption = "auto"
    threads: ThreadsOption = None
    shard: ShardOption = None
    partition: PartitionOption = IID
    seed: SeedOption = 0
