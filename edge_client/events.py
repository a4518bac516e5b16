"""What happens to an edge, and what it wants done: plain values, so that a session can be replayed.

Most of what happens is a message of fl_protocol.messages, and stands here as itself; the other events carry
what a topic, the disk or the task process adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_client.notices import Event as Notice
from edge_client.rounds import Assignment
from fl_protocol.errors import HilumError
from fl_protocol.messages import (
    Ack,
    AggregatorState,
    Cancel,
    DataSummary,
    Message,
    Ping,
    Refusal,
    Rejection,
    RoundState,
    Welcome,
)
from fl_protocol.tensors import Manifest

# --- values ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """A finished update on disk: what is needed to offer it, also after a restart."""

    round_number: int
    base: str
    num_examples: int
    metrics: dict[str, float] = field(hash=False)
    manifest: Manifest = field(hash=False)
    file: str


# --- events, past tense --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BrokerConnected:
    """``unsent`` messages of an earlier connection are still on their way; ``number`` counts the connections."""

    max_packet_bytes: int | None
    unsent: int = 0
    number: int = 0


@dataclass(frozen=True)
class BrokerLost:
    reason: str


@dataclass(frozen=True)
class ManifestArrived:
    """Retained on ``pub/model/<digest>``."""

    digest: str
    manifest: Manifest


@dataclass(frozen=True)
class ChunkArrived:
    """On ``pub/block/<digest>/..``."""

    digest: str
    index: int
    data: bytes


@dataclass(frozen=True)
class AckArrived:
    transfer: str
    ack: Ack


@dataclass(frozen=True)
class ModelFound:
    """The model is on disk, whole and true."""

    digest: str


@dataclass(frozen=True)
class ModelMissing:
    digest: str


@dataclass(frozen=True)
class ModelUnwritable:
    """The disk does not take the model that is on its way."""

    digest: str
    reason: str


@dataclass(frozen=True)
class PartOpened:
    """The model's unfinished file is open; these leaves of it are true already."""

    digest: str
    held_leaves: tuple[int, ...]


@dataclass(frozen=True)
class DataPrepared:
    summary: DataSummary
    num_examples: int
    device: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingProgressed:
    round_number: int
    fraction: float
    loss: float | None


@dataclass(frozen=True)
class ModelScored:
    """What the round's base model scores on patients held out here; empty if there are none."""

    round_number: int
    metrics: dict[str, float] = field(hash=False)


@dataclass(frozen=True)
class UpdateKept:
    """Training is over and its update safe on disk."""

    update: Update


@dataclass(frozen=True)
class WorkFailed:
    """Preparing (``round_number`` 0), training or scoring failed. ``data``: the folder is at fault."""

    round_number: int
    reason: str
    data: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class Ticked:
    """Time passed; ``unsent`` messages have not been acknowledged by the broker."""

    unsent: int = 0


LinkEvent = BrokerConnected | BrokerLost | AggregatorState | Welcome | Refusal | Ping
WorkEvent = (
    RoundState | Cancel | Rejection | ManifestArrived | ChunkArrived | AckArrived | ModelFound | ModelMissing
    | ModelUnwritable | PartOpened | DataPrepared | TrainingProgressed | ModelScored | UpdateKept | WorkFailed | Ticked
)  # fmt: skip
Event = LinkEvent | WorkEvent


# --- effects, imperative, to be performed in order -----------------------------------------------------------


@dataclass(frozen=True)
class Subscribe:
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Unsubscribe:
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Send:
    """Publish ``message``."""

    topic: str
    message: Message
    retain: bool = False


@dataclass(frozen=True)
class SendChunks:
    """Publish these chunks of an update, read from its file when their turn comes."""

    topic: str
    update: Update
    indexes: tuple[int, ...]


@dataclass(frozen=True)
class FindModel:
    """Answered by ModelFound or ModelMissing."""

    digest: str


@dataclass(frozen=True)
class OpenPart:
    """Open the unfinished file of a model. Answered by PartOpened or ModelUnwritable."""

    digest: str
    manifest: Manifest = field(hash=False)


@dataclass(frozen=True)
class WriteLeaf:
    """A verified leaf belongs at ``offset`` of the payload of the open model. Answered only if it cannot be written."""

    digest: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class SealModel:
    """The open model is whole: give it its name. Answered by ModelFound."""

    digest: str


@dataclass(frozen=True)
class PrepareData:
    """Read the folder for this task. Answered by DataPrepared or WorkFailed."""

    task: str
    image_size: int


@dataclass(frozen=True)
class StartTraining:
    """Answered by TrainingProgressed and then UpdateKept or WorkFailed."""

    assignment: Assignment
    fetch_s: float = field(default=0.0, compare=False)
    """How long the base model took to come."""


@dataclass(frozen=True)
class StartScoring:
    """Answered by ModelScored or WorkFailed."""

    assignment: Assignment


@dataclass(frozen=True)
class CancelTraining:
    """Also ends scoring."""

    round_number: int


@dataclass(frozen=True)
class DropUpdate:
    """Delete an update from disk."""

    update: Update


@dataclass(frozen=True)
class Leave:
    """The session is over: say goodbye if we were welcomed, and end with ``error`` or the final model."""

    error: HilumError | None = None
    model: str | None = None


@dataclass(frozen=True)
class KeepAccepted:
    """Note on disk that the update was accepted: what the site keeps of it counts from now on; it is not offered
    again.
    """

    update: Update


@dataclass(frozen=True)
class Tell:
    """Tell the person watching."""

    notice: Notice = field(hash=False)


Effect = (
    Subscribe | Unsubscribe | Send | SendChunks | FindModel | OpenPart | WriteLeaf | SealModel | PrepareData
    | StartTraining | StartScoring | CancelTraining | DropUpdate | KeepAccepted | Leave | Tell
)  # fmt: skip
