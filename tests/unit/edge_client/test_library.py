"""Which model is looked for, pulled, given up."""

from __future__ import annotations

from dataclasses import replace

from edge_client import events as ev
from edge_client.library import MAX_MANIFESTS, WRITE_AGAIN_S, Library
from tests.unit.edge_client.sessions import MODEL, MODEL2, MODEL_BYTES, of

ARRIVED = ev.ManifestArrived(MODEL.digest, MODEL)


def wanting(*on_disk: str) -> Library:
    library = Library("default", on_disk)
    library.handle(ev.BrokerConnected(None), 0.0)
    assert library.want(MODEL.digest, 0.0) == [ev.FindModel(MODEL.digest)]
    return library


def chunks() -> list[ev.ChunkArrived]:
    spans = [MODEL.chunk_span(index) for index in range(MODEL.num_chunks)]
    return [
        ev.ChunkArrived(MODEL.digest, index, MODEL_BYTES[at : at + length])
        for index, (at, length) in enumerate(spans)
    ]


def test_the_disk_is_asked_once_and_believed() -> None:
    library = wanting()
    assert library.want(MODEL.digest, 0.0) == []
    assert library.handle(ev.ModelFound(MODEL.digest), 0.0) == []
    assert library.has(MODEL.digest)
    assert not library.empty
    assert library.want(MODEL.digest, 0.0) == []


def test_what_is_missing_is_pulled_whichever_comes_first() -> None:
    early, late = wanting(), wanting()
    early.handle(ARRIVED, 0.0)
    missing = ev.ModelMissing(MODEL.digest)
    assert of(ev.OpenPart, early.handle(missing, 0.0))
    assert late.handle(missing, 0.0) == []
    assert of(ev.OpenPart, late.handle(ARRIVED, 0.0))
    assert of(ev.Subscribe, late.handle(ev.PartOpened(MODEL.digest, ()), 0.0))
    effects = [effect for chunk in chunks() for effect in late.handle(chunk, 0.0)]
    assert effects[-1] == ev.SealModel(MODEL.digest)
    late.handle(ev.ModelFound(MODEL.digest), 0.0)
    assert late.download is None
    assert late.deadline == float("inf")


def test_a_manifest_under_another_name_is_ignored() -> None:
    library = wanting()
    library.handle(ev.ModelMissing(MODEL.digest), 0.0)
    assert library.handle(ev.ManifestArrived(MODEL.digest, MODEL2), 0.0) == []


def test_another_wish_leaves_the_download() -> None:
    library = wanting()
    library.handle(ARRIVED, 0.0)
    library.handle(ev.ModelMissing(MODEL.digest), 0.0)
    library.handle(ev.PartOpened(MODEL.digest, ()), 0.0)
    effects = library.want(MODEL2.digest, 0.0)
    assert [type(effect) for effect in effects] == [ev.Unsubscribe, ev.FindModel]
    assert library.handle(chunks()[0], 0.0) == []
    assert library.handle(ev.PartOpened(MODEL.digest, ()), 0.0) == []


def test_a_deleted_model_is_looked_for_again() -> None:
    library = wanting(MODEL.digest)
    library.handle(ev.ModelFound(MODEL.digest), 0.0)
    library.handle(ev.ModelMissing(MODEL.digest), 0.0)
    assert not library.has(MODEL.digest)
    assert library.want(MODEL.digest, 0.0) == [ev.FindModel(MODEL.digest)]


def test_a_broken_model_is_hoped_for_again_when_it_is_published_anew() -> None:
    library = wanting()
    library.handle(ARRIVED, 0.0)
    library.handle(ev.ModelMissing(MODEL.digest), 0.0)
    library.handle(ev.PartOpened(MODEL.digest, ()), 0.0)
    while not library.is_broken(MODEL.digest):
        for chunk in chunks():
            library.handle(replace(chunk, data=bytes(len(chunk.data))), 0.0)
    assert library.want(MODEL.digest, 0.0) == []
    library.handle(ARRIVED, 0.0)
    assert library.want(MODEL.digest, 0.0) == [ev.FindModel(MODEL.digest)]


def test_few_manifests_are_kept() -> None:
    library = Library("default")
    for index in range(10):
        odd = replace(MODEL, leaves=bytes([index]) * 32)
        library.handle(ev.ManifestArrived(odd.digest, odd), 0.0)
    assert len(library._manifests) == MAX_MANIFESTS


def test_a_full_disk_is_told_and_tried_again() -> None:
    library = wanting()
    library.handle(ARRIVED, 0.0)
    library.handle(ev.ModelMissing(MODEL.digest), 0.0)
    library.handle(ev.PartOpened(MODEL.digest, ()), 0.0)
    effects = library.handle(ev.ModelUnwritable(MODEL.digest, "No space left on device in edge"), 1.0)
    (told,) = of(ev.Tell, effects)
    assert "cannot keep the model (No space left on device in edge): make room" in told.notice.text
    assert of(ev.Unsubscribe, effects), "nothing is pulled that cannot be kept"
    assert library.deadline == 1.0 + WRITE_AGAIN_S
    assert library.want(MODEL.digest, 2.0) == []
    assert library.handle(ev.Ticked(), 1.0 + WRITE_AGAIN_S) == []
    assert library.want(MODEL.digest, 1.0 + WRITE_AGAIN_S) == [ev.FindModel(MODEL.digest)]
    assert library.deadline == float("inf")


def test_a_full_disk_of_another_model_is_of_the_past() -> None:
    library = wanting()
    assert library.handle(ev.ModelUnwritable(MODEL2.digest, "full"), 0.0) == []
