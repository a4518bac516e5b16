"""What an edge works at, and how it is called in ``up/<client>/state``.

UNPREPARED  no round has named a task yet, or the folder could not be read for it
PREPARING   the task process reads the folder
READY       nothing to do
FETCHING    a round wants us, its model is not here yet
TRAINING    the task process trains
SCORING     the task process scores the round's base model, which others train
UPLOADING   the update is offered and sent, until the aggregator's verdict
"""

from __future__ import annotations

from enum import Enum

from fl_protocol import messages


class Work(Enum):
    UNPREPARED = "unprepared"
    PREPARING = "preparing"
    READY = "ready"
    FETCHING = "fetching"
    TRAINING = "training"
    SCORING = "scoring"
    UPLOADING = "uploading"


ANNOUNCED_AS = {
    Work.UNPREPARED: messages.PREPARING,
    Work.PREPARING: messages.PREPARING,
    Work.READY: messages.READY,
    Work.FETCHING: messages.FETCHING,
    Work.TRAINING: messages.TRAINING,
    Work.SCORING: messages.SCORING,
    Work.UPLOADING: messages.UPLOADING,
}
