"""The only file with topic strings: build them, subscribe to them, take them apart.

fl/1/<job>/pub/agg                              retained
fl/1/<job>/pub/round                            retained
fl/1/<job>/pub/model/<digest>                   retained
fl/1/<job>/pub/block/<digest>/<b>/<i>           retained
fl/1/<job>/up/<client>/state                    retained
fl/1/<job>/up/<client>/event
fl/1/<job>/up/<client>/offer/<transfer>
fl/1/<job>/up/<client>/chunk/<transfer>/<lane>
fl/1/<job>/dn/<client>/control
fl/1/<job>/dn/<client>/ack/<transfer>
fl/1/<job>/op/run                               retained
fl/1/<job>/op/round/<number>                    retained
fl/1/<job>/op/command
fl/1/<job>/op/answer

Sites neither read nor write below ``op/``: it is between the aggregator and those who run it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from fl_protocol.errors import ConfigError, DecodeError

ROOT = "fl/1"
NAME = re.compile(r"[a-z0-9_-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")
INDEX = re.compile(r"0|[1-9][0-9]{0,6}")
MAX_TOPIC = 512
"""Characters: the longest topic of ours has about 250."""

AGGREGATOR = "_aggregator"
"""A reserved client name: ``dn/_aggregator/control`` is where one aggregator asks another if it lives."""


class Kind(Enum):
    """What a topic carries; the value is its path below the job, and the order of its variable parts."""

    AGG = "pub/agg"
    ROUND = "pub/round"
    MODEL = "pub/model/{digest}"
    BLOCK = "pub/block/{digest}/{block}/{index}"
    STATE = "up/{client}/state"
    EVENT = "up/{client}/event"
    OFFER = "up/{client}/offer/{transfer}"
    CHUNK = "up/{client}/chunk/{transfer}/{lane}"
    CONTROL = "dn/{client}/control"
    ACK = "dn/{client}/ack/{transfer}"
    RUN = "op/run"
    LINE = "op/round/{number}"
    COMMAND = "op/command"
    ANSWER = "op/answer"


_PART = {
    "digest": DIGEST,
    "block": INDEX,
    "index": INDEX,
    "lane": INDEX,
    "client": NAME,
    "transfer": NAME,
    "number": INDEX,
}


def _pattern(kind: Kind) -> re.Pattern[str]:
    """The whole topic of ``kind``, its parts as named groups."""
    below = re.sub(r"\{(\w+)\}", lambda part: f"(?P<{part[1]}>{_PART[part[1]].pattern})", kind.value)
    return re.compile(f"{ROOT}/(?P<job>{NAME.pattern})/{below}")


def _mark(words: list[str]) -> tuple[str, str]:
    """The two fixed words below the job, which tell the kinds apart: ``pub/agg``, ``up/{client}/state``."""
    side = words[0]
    at = 1 if side in ("pub", "op") else 2
    return side, words[at] if len(words) > at else ""


_KINDS = {_mark(kind.value.split("/")): (kind, _pattern(kind)) for kind in Kind}
_NUMBERS = frozenset({"block", "index", "lane", "number"})


@dataclass(frozen=True)
class Topic:
    """One parsed topic. Parts that its kind does not have are empty or 0."""

    job: str
    kind: Kind
    client: str = ""
    transfer: str = ""
    digest: str = ""
    block: int = 0
    index: int = 0
    lane: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{ROOT}/{self.job}/{self.kind.value.format(**vars(self))}"


def checked_name(value: str, what: str) -> str:
    """``value`` itself, if it can stand in a topic; else a ConfigError that says what may."""
    if not NAME.fullmatch(value) or value == AGGREGATOR:
        raise ConfigError(f"{what} {value!r} is not allowed: use 1 to 64 of a-z, 0-9, '-' and '_'")
    return value


def parse(text: str) -> Topic:
    """The topic that ``text`` names. Raises DecodeError for any other string."""
    words = text.split("/", 6)
    known = _KINDS.get(_mark(words[3:])) if len(words) > 3 else None
    found = known[1].fullmatch(text) if known and len(text) <= MAX_TOPIC else None
    if known is None or found is None:
        raise DecodeError("unknown_topic", text[:80])
    parts = {name: int(part) if name in _NUMBERS else part for name, part in found.groupdict().items()}
    return Topic(kind=known[0], **parts)  # type: ignore[arg-type]


def aggregator_filters(job: str) -> list[str]:
    """What an aggregator subscribes to."""
    base = f"{ROOT}/{job}"
    return [f"{base}/up/+/state", f"{base}/up/+/event", f"{base}/up/+/offer/+", f"{base}/up/+/chunk/+/+",
            f"{base}/pub/agg", f"{base}/dn/{AGGREGATOR}/control"]  # fmt: skip


def client_filters(job: str, client: str) -> list[str]:
    """What an edge client subscribes to for as long as it is connected."""
    base = f"{ROOT}/{job}"
    return [f"{base}/pub/agg", f"{base}/pub/round", f"{base}/pub/model/+",
            f"{base}/dn/{client}/control", f"{base}/dn/{client}/ack/+"]  # fmt: skip


def reader_filters(job: str) -> list[str]:
    """What a reading room subscribes to: which model is the newest, and the models there are."""
    base = f"{ROOT}/{job}"
    return [f"{base}/pub/round", f"{base}/pub/model/+"]


def block_filter(job: str, digest: str, block: int) -> str:
    """All chunks of one block of a model."""
    return f"{ROOT}/{job}/pub/block/{digest}/{block}/+"


def watcher_filters(job: str) -> list[str]:
    """What a status page or dashboard reads: small retained topics alone (``job`` may be ``+``)."""
    base = f"{ROOT}/{job}"
    return [f"{base}/pub/agg", f"{base}/pub/round", f"{base}/up/+/state"]


def operator_filters(job: str) -> list[str]:
    """What a dashboard reads: how uploads come along as well, and what the aggregator tells operators alone."""
    base = f"{ROOT}/{job}"
    return [*watcher_filters(job), f"{base}/up/+/event", f"{base}/up/+/offer/+", f"{base}/dn/+/ack/+",
            f"{base}/op/run", f"{base}/op/round/+", f"{base}/op/answer"]  # fmt: skip


def command_filter(job: str) -> str:
    """What an aggregator subscribes to for its operators' sake."""
    return f"{ROOT}/{job}/op/command"


def manifest_filter(job: str) -> str:
    """Every retained manifest of a job: what an aggregator reads to clear models it no longer serves."""
    return f"{ROOT}/{job}/pub/model/+"
