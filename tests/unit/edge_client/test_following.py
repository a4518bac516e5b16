"""Which model a reading room wants, without a broker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_client import events as ev
from edge_client.download import MAX_BAD_LEAVES
from edge_client.following import NOT_ITS_NAME, Arrived, Following, Refused, Told
from fl_protocol.messages import LastRound
from fl_protocol.tensors import Manifest
from tests.unit.edge_client.sessions import AGG, MODEL, MODEL2, MODEL_BYTES, of, round_state

TRAINED = replace(MODEL, metadata={"round": "3"})
NEXT = replace(MODEL2, metadata={"round": "4"})


class Watch:
    """Drives one Following; the disk holds ``disk``."""

    def __init__(self, *disk: str) -> None:
        self.disk = set(disk)
        self.following = Following("default", disk)
        self.now = 0.0
        self.hear(ev.BrokerConnected(None))

    def hear(self, *events: Any) -> list[Any]:
        found, waiting = [], list(events)
        while waiting:
            for effect in self.following.handle(waiting.pop(0), self.now):
                found.append(effect)
                if isinstance(effect, ev.FindModel):
                    here = effect.digest in self.disk
                    waiting.append(ev.ModelFound(effect.digest) if here else ev.ModelMissing(effect.digest))
                elif isinstance(effect, ev.OpenPart):
                    waiting.append(ev.PartOpened(effect.digest, ()))
                elif isinstance(effect, ev.SealModel):
                    waiting.append(ev.ModelFound(effect.digest))
        return found

    def manifest(self, manifest: Manifest) -> list[Any]:
        return self.hear(ev.ManifestArrived(manifest.digest, manifest))


def chunks(payload: bytes = MODEL_BYTES) -> list[ev.ChunkArrived]:
    spans = [MODEL.chunk_span(index) for index in range(MODEL.num_chunks)]
    return [
        ev.ChunkArrived(MODEL.digest, index, payload[at : at + length])
        for index, (at, length) in enumerate(spans)
    ]


def test_the_base_of_the_open_round_is_pulled_and_announced_once() -> None:
    watch = Watch()
    assert of(ev.Subscribe, watch.hear(round_state())) == []  # nothing is known of the model yet
    assert of(ev.Subscribe, watch.manifest(TRAINED))
    assert watch.following.fetching
    assert of(Arrived, watch.hear(*chunks())) == [Arrived(MODEL.digest)]
    assert of(Arrived, watch.hear(round_state(), ev.Ticked())) == []
    assert not of(ev.Send, watch.hear(ev.Ticked()))


def test_what_lies_on_the_disk_is_not_pulled_again() -> None:
    watch = Watch(MODEL.digest)
    found = watch.manifest(TRAINED) + watch.hear(round_state())
    assert of(Arrived, found) == [Arrived(MODEL.digest)] and not of(ev.Subscribe, found)


def test_a_model_that_nobody_trained_is_not_wanted() -> None:
    for metadata in ({"round": "0"}, {}, None, {"round": "x"}):
        watch = Watch()
        watch.hear(round_state())
        assert watch.manifest(replace(MODEL, metadata=metadata)) == []


def test_a_newer_model_takes_the_place_of_one_on_its_way() -> None:
    watch = Watch(MODEL2.digest)
    watch.hear(round_state())
    watch.manifest(TRAINED)
    watch.manifest(NEXT)
    found = watch.hear(round_state(2, base=MODEL2.digest))
    assert of(ev.Unsubscribe, found) and of(Arrived, found) == [Arrived(MODEL2.digest)]


def test_an_older_word_of_the_aggregator_does_not_count() -> None:
    watch = Watch(MODEL.digest, MODEL2.digest)
    watch.manifest(TRAINED)
    watch.manifest(NEXT)
    watch.hear(round_state(2, base=MODEL2.digest, instance=AGG, seq=9))
    assert watch.hear(round_state(1, instance=AGG, seq=8)) == []


def test_what_is_not_what_it_is_called_is_refused_once() -> None:
    watch = Watch()
    watch.hear(round_state())
    watch.manifest(TRAINED)
    wrong = chunks(bytes(len(MODEL_BYTES)))
    found = [effect for _ in range(MAX_BAD_LEAVES + 1) for effect in watch.hear(*wrong)]
    assert of(Refused, found) == [Refused(MODEL.digest, NOT_ITS_NAME)]
    assert not of(Arrived, found) and not of(ev.WriteLeaf, found)


def test_what_a_round_tells_of_its_model_and_of_the_one_before() -> None:
    last = LastRound(3, "closed", 4, 0, 0, 9.0, {"auroc": 0.9}, {"eval_auroc": 0.95, "train_loss": 0.1})
    found = of(Told, Watch().hear(round_state(4, last=last)))
    assert found == [Told(3, 4, {"auroc": 0.9}), Told(2, None, {"sites_auroc": 0.95})]
    abandoned = replace(last, accepted=0, metrics=None, client_metrics=None)
    assert of(Told, Watch().hear(round_state(4, last=abandoned))) == []
