"""The shell around the intake: offers and chunks come in, leaves go to the spool, acknowledgements go out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from aggregator import events as ev
from aggregator import intake as up
from aggregator import notices as seen
from aggregator.federation import Federation
from aggregator.folding import unfit
from aggregator.intake import Intake
from aggregator.round import Update
from aggregator.round_times import UPLOAD_TIME
from aggregator.spool import Spool, Upload
from fl_protocol import messages as msg
from fl_protocol.codec import encode
from fl_protocol.topics import Kind, Topic


class Publish(Protocol):
    def __call__(self, topic: str, payload: bytes) -> None: ...


class Receiving:
    """Takes uploads for one job, and tells the federation (``happened``) what became of them."""

    def __init__(
        self, job: str, intake: Intake, spool: Spool, federation: Federation, publish: Publish,
        happened: Callable[[ev.Event], None], view: seen.View,
    ) -> None:  # fmt: skip
        self.job, self.intake, self.spool, self.federation = job, intake, spool, federation
        self._publish, self._happened, self._view = publish, happened, view
        self._complete: dict[tuple[str, str], up.Completed] = {}
        self._offered_at: dict[tuple[str, str], float] = {}

    @property
    def unsettled(self) -> bool:
        """Whether something complete is not on disk yet."""
        return bool(self._complete)

    def offer(self, topic: Topic, offer: msg.Offer) -> None:
        """Somebody has an update: take it up, or say by name why not."""
        client_id, transfer = topic.client, topic.transfer
        self._settle_of(client_id)
        if self.intake.knows(client_id, transfer):
            self._perform(self.intake.offered(client_id, transfer, offer))
            return
        if client_id not in self.federation.present:
            self._refuse_stranger(client_id)  # it offers again once it is welcomed
            return
        refusal = self.intake.misfit(transfer, offer) or self.federation.admission(
            client_id, offer.round_number, offer.base, offer.num_examples
        )
        held: list[int] = []
        if refusal is None:
            try:
                held = self.spool.held_leaves(offer.round_number, client_id, transfer, offer.manifest)
            except OSError as error:
                self._view.show(seen.Warned(f"cannot take an update from {client_id}: {error}"))
                return
            self._offered_at.setdefault((client_id, transfer), time.monotonic())
        self._perform(self.intake.offered(client_id, transfer, offer, refusal=refusal, held=held))

    def chunk(self, topic: Topic, chunk: msg.Chunk) -> None:
        """One chunk of an upload. Strays of a client that is here are normal: it will offer again."""
        if topic.client not in self.federation.present and not self.intake.knows(
            topic.client, topic.transfer
        ):
            self._refuse_stranger(topic.client)
            return
        self._perform(self.intake.chunk(topic.client, topic.transfer, chunk.index, chunk.data))
        progress = self.intake.progress(topic.client, topic.transfer)
        if progress is not None:
            number = self.federation.rounds_done + 1
            self._view.show(seen.UploadAdvanced(topic.client, number, *progress))

    def _refuse_stranger(self, client_id: str) -> None:
        """Count it, unless it was invited: one that was cut off sends what it had under way before it has joined again."""
        current = self.federation.round
        if current is None or client_id not in current.cohort:
            self._happened(ev.FrameRefused(client_id, "not_joined"))

    def answer(self, effect: ev.Answer) -> None:
        """The federation's verdict on an upload."""
        self._complete.pop((effect.client_id, effect.transfer), None)
        self.spool.close(effect.client_id, effect.transfer)
        self._perform(self.intake.answer(effect.client_id, effect.transfer, effect.verdict, effect.reason))

    def gone(self, client_id: str) -> None:
        """The client left; others may have its credit."""
        self._settle_of(client_id)
        self._perform(self.intake.gone(client_id))
        self.spool.close_client(client_id)

    def tick(self, now: float) -> None:
        """Time passed."""
        self.intake.settle(self.federation.settled)
        self._offered_at = {
            each: since for each, since in self._offered_at.items() if self.intake.knows(*each)
        }
        self._perform(self.intake.tick(now))

    def _perform(self, effects: list[up.Effect]) -> None:
        """Perform effects in order; of a transfer whose leaf could not be kept nothing more, of others all."""
        broken: tuple[str, str] | None = None
        for effect in effects:
            if broken == (effect.client_id, effect.transfer):
                continue
            if isinstance(effect, up.SendAck):
                address = Topic(self.job, Kind.ACK, client=effect.client_id, transfer=effect.transfer)
                self._publish(str(address), encode(effect.ack))
            elif isinstance(effect, up.WriteLeaf):
                if not self._write(effect):
                    broken = effect.client_id, effect.transfer
            elif isinstance(effect, up.Completed):
                self._completed(effect)
            else:
                self._happened(
                    ev.UpdateRefused(
                        effect.client_id, effect.transfer, effect.reason, round_number=effect.round_number
                    )
                )

    def _write(self, leaf: up.WriteLeaf) -> bool:
        """Whether the leaf is fit to be averaged, and in the spool."""
        reason = unfit(leaf.data)
        if reason:
            number = self.intake.round_of(leaf.client_id, leaf.transfer)
            self._happened(ev.UpdateRefused(leaf.client_id, leaf.transfer, reason, round_number=number))
            return False
        try:
            self.spool.write(leaf.client_id, leaf.transfer, leaf.offset, leaf.data)
        except OSError as error:
            self._forget(leaf.client_id, leaf.transfer, error)
            return False
        return True

    def _completed(self, done: up.Completed) -> None:
        self._complete[done.client_id, done.transfer] = done

    def _settle_of(self, client_id: str) -> None:
        if any(client_id == waiting for waiting, _ in self._complete):
            self.settle()

    def settle(self) -> None:
        """Force to disk what is complete, all in one go, and let the federation know."""
        if not self._complete:
            return
        complete = {_upload(done): done for done in self._complete.values()}
        self._complete = {}
        failed = self.spool.force_to_disk(list(complete))
        for upload, done in complete.items():
            if upload in failed:
                self._forget(done.client_id, done.transfer, failed[upload])
                continue
            offer = done.offer
            digest, metrics = offer.manifest.digest, self._metrics_of(done)
            update = Update(done.client_id, done.transfer, digest, offer.num_examples, metrics)
            self._happened(ev.UpdateArrived(offer.round_number, offer.base, update))

    def _metrics_of(self, done: up.Completed) -> dict[str, float]:
        """What the client tells, and how long its upload took, if we saw it begin."""
        told = {name: value for name, value in (done.offer.metrics or {}).items() if name != UPLOAD_TIME}
        since = self._offered_at.pop((done.client_id, done.transfer), None)
        return told if since is None else told | {UPLOAD_TIME: round(time.monotonic() - since, 3)}

    def _forget(self, client_id: str, transfer: str, error: OSError) -> None:
        """The disk failed us: the client offers again by itself, and meanwhile somebody may make room."""
        self._view.show(
            seen.Warned(
                f"cannot keep the update of {client_id} ({error.strerror}): make room in {self.spool.folder}; "
                "it will be sent again"
            )
        )
        self.spool.close(client_id, transfer)
        self._perform(self.intake.forget(client_id, transfer))


def _upload(done: up.Completed) -> Upload:
    return done.offer.round_number, done.client_id, done.transfer
