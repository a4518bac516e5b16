"""Uploads on their way in: offered, granted credit, acknowledged by what is held, answered. Pure.

At most ``slots`` uploads have credit at once, so that what lies in the broker stays below slots x WINDOW chunks
however many clients finish together; the others wait for their turn with a window of 0.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fl_protocol.errors import PeerError
from fl_protocol.messages import Ack, Offer, transfer_id
from fl_protocol.tensors import DELTA, FLOAT32, TensorSpec, groups_of
from fl_protocol.transfer import WINDOW, Assembly

SLOTS = 8
ACK_EVERY = WINDOW // 4
MAX_REMEMBERED = 4096
REMEMBERED_ROUNDS = 20
"""Verdicts of rounds that no update can join any more are told again for so many rounds; then `late` says it all."""
STILL_S = 30.0
"""An upload that showed no chunk for so long gives its slot to one that waits."""
PASSING = frozenset({"not_invited", "wrong_round", "bad_num_examples"})
"""Reasons that may not hold the next time: training again gives the same bytes and so the same transfer."""


@dataclass(frozen=True)
class WriteLeaf:
    """A verified leaf belongs on disk at ``offset`` of the payload."""

    client_id: str
    transfer: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class SendAck:
    client_id: str
    transfer: str
    ack: Ack


@dataclass(frozen=True)
class Completed:
    """Every leaf of the transfer is verified and was handed out to be written."""

    client_id: str
    transfer: str
    offer: Offer


@dataclass(frozen=True)
class Refused:
    """The upload is unacceptable, by name."""

    client_id: str
    transfer: str
    reason: str
    round_number: int


Effect = WriteLeaf | SendAck | Completed | Refused
Key = tuple[str, str]


@dataclass
class _Upload:
    offer: Offer
    assembly: Assembly
    granted: bool = False
    unacknowledged: int = 0
    completed: bool = False
    still_since: float | None = None

    def ack(self) -> Ack:
        return Ack(self.assembly.held.to_bytes(), WINDOW if self.granted else 0)


class Intake:
    """All uploads to one aggregator. ``layout`` are the tensors of the global model, control variates included;
    ``refusal`` is what the strategy has against an update with such metrics.
    """

    def __init__(
        self, layout: tuple[TensorSpec, ...], slots: int = SLOTS,
        refusal: Callable[[Mapping[str, float]], str | None] = lambda _metrics: None,
    ) -> None:  # fmt: skip
        self.refusal = refusal
        self.groups = groups_of(layout, DELTA)
        self.slots = slots
        self.strays = 0
        self._uploads: OrderedDict[Key, _Upload] = OrderedDict()
        self._verdicts: OrderedDict[Key, Ack] = OrderedDict()
        self._settled = 0

    def knows(self, client_id: str, transfer: str) -> bool:
        """Whether an offer of this transfer is a repeated one."""
        return (client_id, transfer) in self._uploads or (client_id, transfer) in self._verdicts

    def offered(
        self, client_id: str, transfer: str, offer: Offer, *, refusal: str | None = None, held: Iterable[int] = ()
    ) -> list[Effect]:  # fmt: skip
        """An offer came. ``refusal`` says why it is not wanted, ``held`` are the leaves an earlier try left on disk."""
        key = (client_id, transfer)
        if key in self._verdicts:
            return [SendAck(client_id, transfer, self._verdicts[key])]
        if key in self._uploads:
            upload = self._uploads[key]
            upload.unacknowledged, upload.still_since = 0, None
            return [SendAck(client_id, transfer, upload.ack())]
        if refusal:
            return [Refused(client_id, transfer, refusal, offer.round_number)]
        for other in [k for k in self._uploads if k[0] == client_id]:
            del self._uploads[other]
        upload = self._uploads[key] = _Upload(offer, Assembly(offer.manifest, held))
        effects = self._grant()
        if upload.assembly.complete:
            return [*effects, *self._complete(key)]
        waiting = not upload.granted and offer.manifest.num_chunks > 1
        return [*effects, SendAck(client_id, transfer, upload.ack())] if waiting else effects

    def misfit(self, transfer: str, offer: Offer) -> str | None:
        """Why the offered tensors cannot be folded into this model, by name, or None."""
        manifest = offer.manifest
        if transfer != transfer_id(offer.round_number, manifest.digest):
            return "bad_transfer"
        if [group.name for group in manifest.groups] != [group.name for group in self.groups]:
            return "wrong_groups"
        if any(group.codec != FLOAT32 for group in manifest.groups):
            return "unknown_codec"
        if manifest.groups != self.groups:
            return "wrong_shapes"
        return self.refusal(offer.metrics or {})

    def _grant(self) -> list[Effect]:
        """Give free slots to those who wait, in the order of their offers; tell those that send many chunks."""
        free = self.slots - sum(upload.granted and not upload.completed for upload in self._uploads.values())
        effects: list[Effect] = []
        for (client_id, transfer), upload in self._uploads.items():
            if free > 0 and not upload.granted:
                upload.granted = True
                free -= 1
                if upload.offer.manifest.num_chunks > 1 and not upload.assembly.complete:
                    effects.append(SendAck(client_id, transfer, upload.ack()))
        return effects

    def chunk(self, client_id: str, transfer: str, index: int, data: bytes) -> list[Effect]:
        """A chunk came. One of no upload we know is a stray (counted): its sender will offer again."""
        key = (client_id, transfer)
        upload = self._uploads.get(key)
        if upload is None or upload.completed:
            self.strays += upload is None and key not in self._verdicts
            return []
        try:
            leaf = upload.assembly.add(index, data)
        except PeerError as error:
            return [Refused(client_id, transfer, error.reason, upload.offer.round_number)]
        upload.unacknowledged += 1
        upload.still_since = None
        effects: list[Effect] = [WriteLeaf(client_id, transfer, *leaf)] if leaf else []
        if upload.assembly.complete:
            return effects + self._complete(key)
        if upload.unacknowledged >= ACK_EVERY:
            upload.unacknowledged = 0
            effects.append(SendAck(client_id, transfer, upload.ack()))
        return effects

    def _complete(self, key: Key) -> list[Effect]:
        upload = self._uploads[key]
        upload.completed = True
        return [Completed(*key, upload.offer), *self._grant()]

    def answer(self, client_id: str, transfer: str, verdict: str, reason: str = "") -> list[Effect]:
        """The verdict is known: remember it, if it is final, tell it, free the slot."""
        key = (client_id, transfer)
        upload = self._uploads.pop(key, None)
        held = upload.assembly.held.to_bytes() if upload else b""
        ack = Ack(held, 0, verdict, reason[:300])
        if reason not in PASSING:
            self._verdicts[key] = ack
        while len(self._verdicts) > MAX_REMEMBERED:
            self._verdicts.popitem(last=False)
        return [SendAck(client_id, transfer, ack), *self._grant()]

    def settle(self, round_number: int) -> None:
        """No update of this round or an earlier one can count any more: verdicts on old ones are forgotten."""
        if round_number <= self._settled:
            return
        self._settled, oldest = round_number, round_number - REMEMBERED_ROUNDS
        for key in [key for key in self._verdicts if _round_in(key[1]) <= oldest]:
            del self._verdicts[key]

    def forget(self, client_id: str, transfer: str) -> list[Effect]:
        """Drop an upload without a verdict (the disk was full, say): its sender will offer again."""
        self._uploads.pop((client_id, transfer), None)
        return self._grant()

    def gone(self, client_id: str) -> list[Effect]:
        """The client left: its credit goes to others; what it sent stays on disk."""
        for key in [
            key for key, upload in self._uploads.items() if key[0] == client_id and not upload.completed
        ]:
            del self._uploads[key]
        return self._grant()

    def tick(self, now: float) -> list[Effect]:
        """Time passed: uploads that do not move make room for those that wait. To be called every second or so."""
        if all(upload.granted for upload in self._uploads.values()):
            return []
        for key, upload in list(self._uploads.items()):
            if not upload.granted or upload.completed:
                continue
            if upload.still_since is None:
                upload.still_since = now
            elif now >= upload.still_since + STILL_S:
                upload.granted, upload.still_since = False, None
                self._uploads.move_to_end(key)
        return self._grant()

    def open_transfers(self) -> list[tuple[str, str, int]]:
        """Unanswered uploads: client, transfer, round."""
        return [(*key, upload.offer.round_number) for key, upload in self._uploads.items()]

    def round_of(self, client_id: str, transfer: str) -> int:
        """The round that an unanswered upload is meant for; 0 if there is no such upload."""
        upload = self._uploads.get((client_id, transfer))
        return upload.offer.round_number if upload else 0

    def progress(self, client_id: str, transfer: str) -> tuple[int, int] | None:
        """Chunks held and in all, for those who watch."""
        upload = self._uploads.get((client_id, transfer))
        return (len(upload.assembly.held), upload.offer.manifest.num_chunks) if upload else None


def _round_in(transfer: str) -> int:
    """The round that a transfer's name tells; 0 where a peer named it as nobody should."""
    number = transfer.partition("-")[0]
    return int(number) if number.isdecimal() else 0
