"""One client as the page shows it: what it says of itself, how its training and its upload come along. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fl_protocol.messages import (
    LEFT,
    LOST,
    READY,
    TRAINING,
    UPLOADING,
    Ack,
    ClientState,
    DataSummary,
    Offer,
    Progress,
    transfer_id,
)
from fl_web.dashboard.lines import numbers, text_of

AWAY = (LOST, LEFT)
SAMPLES = 12
WINDOW_S = 10.0
"""A link's speed is that of the last so many seconds."""
SOONEST_S = 0.02
MAX_CLASSES = 12


@dataclass
class Uploading:
    """An update on its way, as acknowledgements tell of it."""

    transfer: str
    size: int
    num_chunks: int
    chunk_bytes: int
    began: float
    held_bytes: int = 0
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def __post_init__(self) -> None:
        self.samples.append((self.began, 0))

    @property
    def share(self) -> float:
        return self.held_bytes / self.size if self.size else 0.0

    def acknowledged(self, held: bytes, now: float) -> None:
        """``held`` has a bit for every chunk that has arrived."""
        count = min(int.from_bytes(held, "little").bit_count(), self.num_chunks)
        now_held = min(self.size, count * self.chunk_bytes)
        if now_held > self.held_bytes:
            self.held_bytes = now_held
            self.samples.append((now, now_held))

    def finished(self, now: float) -> None:
        """A verdict came: all of it is there. How long the verdict took says nothing of the link, unless nothing else does."""
        if len(self.samples) == 1:
            self.samples.append((now, self.size))
        self.held_bytes = self.size

    def speed(self, now: float) -> float | None:
        """Bytes a second of late; None while too little is known."""
        recent = [sample for sample in self.samples if now - sample[0] <= WINDOW_S] or list(self.samples)[-2:]
        (first_at, first), (last_at, last) = recent[0], recent[-1]
        if last <= first or last_at - first_at < SOONEST_S:
            return None
        return (last - first) / (last_at - first_at)


@dataclass
class Client:
    """What is known of a client of a job."""

    state: ClientState
    seen: float
    live: bool = False
    """Whether anything of it came while we looked; otherwise ``seen`` is when we began to look."""
    stale: bool = False
    """Not told again since the connection was lost: if it is not told soon, the broker has forgotten it."""
    progress: Progress | None = None
    upload: Uploading | None = None
    speed_bps: float | None = None
    verdict: str = ""
    reason: str = ""
    verdict_round: int = 0

    @property
    def present(self) -> bool:
        return self.state.state not in AWAY

    def told(self, state: ClientState, now: float, live: bool) -> bool:
        """Take what it says of itself. False if it is older than what we know, or the will of an older process."""
        known = self.state
        if state.instance == known.instance and state.seq < known.seq:
            return False
        if state.instance != known.instance and state.state in AWAY and self.present and live:
            return False
        if state.round_number != known.round_number or state.state == READY:
            self.progress = None
        self.state, self.stale, self.live = state, False, self.live or live
        self.seen = now if live else self.seen
        return True

    def advanced(self, progress: Progress, now: float) -> None:
        """It trains."""
        self.progress, self.seen, self.live = progress, now, True

    def offered(self, offer: Offer, now: float) -> None:
        """It has an update; told again after a cut, it goes on where it was."""
        self.seen, self.live = now, True
        name = transfer_id(offer.round_number, offer.manifest.digest)
        if self.upload is None or self.upload.transfer != name:
            manifest = offer.manifest
            self.upload = Uploading(name, manifest.size, manifest.num_chunks, manifest.chunk_bytes, now)

    def acknowledged(self, transfer: str, ack: Ack, now: float) -> None:
        """The aggregator says what it holds, or what became of the update."""
        upload = self.upload if self.upload is not None and self.upload.transfer == transfer else None
        if ack.verdict is not None:
            self.verdict, self.reason, self.verdict_round = ack.verdict, ack.reason, round_in(transfer)
        if upload is None:
            return
        if ack.verdict is None:
            upload.acknowledged(ack.held, now)
        else:
            upload.finished(now)
        self.speed_bps = upload.speed(now) or self.speed_bps

    def row(self, cohort: frozenset[str], client_id: str, round_number: int) -> dict[str, Any]:
        """The client as the page gets it."""
        told, here = self.state, client_id in cohort
        judged = self.verdict_round == round_number and here
        return {
            "state": told.state,
            "round": told.round_number,
            "cohort": here,
            "examples": told.num_examples,
            "device": text_of(told.device, 64),
            "seen": self.seen,
            "live": self.live,
            "fraction": self._fraction(round_number),
            "loss": self.progress.loss if self.progress and told.state == TRAINING else None,
            "upload": round(self.upload.share, 4) if self.upload and self._uploads(round_number) else None,
            "upload_bytes": self.upload.size if self.upload else None,
            "speed_bps": None if self.speed_bps is None else round(self.speed_bps),
            "verdict": self.verdict if judged else "",
            "reason": text_of(self.reason, 200) if judged else "",
            "data": _summary(told.summary),
            "figures": numbers(told.figures) if told.figures else None,
            "scored_round": told.scored_round,
        }

    def _fraction(self, round_number: int) -> float | None:
        progress = self.progress
        if progress is None or self.state.state != TRAINING or progress.round_number != round_number:
            return None
        return round(progress.fraction, 3)

    def _uploads(self, round_number: int) -> bool:
        mine = self.upload is not None and self.upload.transfer.startswith(f"{round_number}-")
        return mine and (self.state.state == UPLOADING or self.verdict_round == round_number)


def round_in(transfer: str) -> int:
    """The round that a transfer's name begins with."""
    word = transfer.split("-", 1)[0]
    return int(word) if word.isdecimal() and len(word) <= 9 else 0


def _summary(told: DataSummary | None) -> dict[str, Any] | None:
    if told is None:
        return None
    classes = list((told.classes or {}).items())[:MAX_CLASSES]
    return {
        "images": told.images, "patients": told.patients, "train": told.train_images, "val": told.val_images,
        "unreadable": told.unreadable, "duplicates": told.duplicates,
        "classes": {text_of(name, 40): count for name, count in classes},
    }  # fmt: skip
