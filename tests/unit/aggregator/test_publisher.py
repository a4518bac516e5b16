"""What lies on the broker: retained topics as a dictionary, which is all that a broker remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.publisher import Publisher
from fl_protocol.codec import decode
from fl_protocol.messages import Chunk
from fl_protocol.modelfile import ModelFile
from fl_protocol.tensors import LEAF_BYTES, Manifest
from fl_protocol.topics import Kind, parse
from tests.payloads import floats, model_file


class Retained:
    """A broker that remembers; payloads that are made late are made when ``flush`` lets them go."""

    def __init__(self) -> None:
        self.topics: dict[str, bytes] = {}
        self.bulk: dict[str, bool] = {}
        self._waiting: list[tuple[str, bytes | Callable[[], bytes]]] = []

    def publish(
        self, topic: str, payload: bytes | Callable[[], bytes], *, retain: bool = False, bulk: bool = False
    ) -> None:  # fmt: skip
        assert retain
        self.bulk[topic] = bulk
        self._waiting.append((topic, payload))

    def flush(self) -> None:
        for topic, payload in self._waiting:
            data = payload if isinstance(payload, bytes) else payload()
            if data:
                self.topics[topic] = data
            else:
                self.topics.pop(topic, None)
        self._waiting.clear()

    def model(self, digest: str) -> bytes | None:
        """The model as an edge would put it together, or None if its manifest is not there."""
        chunks: dict[int, bytes] = {}
        manifest: Manifest | None = None
        for text, frame in self.topics.items():
            topic = parse(text)
            message = decode(frame, topic.kind)
            if topic.digest == digest and isinstance(message, Manifest):
                manifest = message
            elif topic.digest == digest:
                assert isinstance(message, Chunk)
                assert (topic.index, topic.block) == (message.index, message.index // 64)
                chunks[message.index] = message.data
        if manifest is None:
            assert not chunks
            return None
        assert sorted(chunks) == list(range(manifest.num_chunks))
        return b"".join(chunks[index] for index in sorted(chunks))


@pytest.fixture
def broker() -> Retained:
    return Retained()


def made(
    folder: Path, seed: int, num: int = LEAF_BYTES // 4 + 9, chunk_bytes: int = 65536
) -> tuple[ModelFile, Manifest]:
    model = model_file(folder / f"{seed}.safetensors", {"w": floats(num, seed)})
    return model, model.manifest("model", chunk_bytes)


def test_a_model_is_laid_out_and_read_when_its_turn_comes(tmp_path: Path, broker: Retained) -> None:
    model, manifest = made(tmp_path, 1)
    publisher = Publisher("job", broker)
    publisher.publish(model, manifest)
    broker.flush()
    assert broker.model(manifest.digest) == b"".join(model.pieces())
    assert publisher.published == [manifest.digest]
    assert set(broker.bulk.values()) == {True, False}, "the manifest may overtake, the chunks may not crowd"


def test_a_model_of_one_chunk_is_not_bulk(tmp_path: Path, broker: Retained) -> None:
    Publisher("job", broker).publish(*made(tmp_path, 1, num=10))
    assert set(broker.bulk.values()) == {False}


def test_others_are_cleared_to_the_last_topic(tmp_path: Path, broker: Retained) -> None:
    publisher = Publisher("job", broker)
    models = [made(tmp_path, seed) for seed in (1, 2, 3)]
    for model, manifest in models:
        publisher.publish(model, manifest)
    kept = [models[1][1].digest, models[2][1].digest]
    publisher.keep_only(kept)
    broker.flush()
    assert publisher.published == kept
    assert broker.model(models[0][1].digest) is None
    assert {parse(text).digest for text in broker.topics} == set(kept)


def test_what_another_life_left_is_cleared(tmp_path: Path, broker: Retained) -> None:
    old_model, old = made(tmp_path, 1)
    Publisher("job", broker).publish(old_model, old)
    model, manifest = made(tmp_path, 2)
    later = Publisher("job", broker)
    later.publish(model, manifest)
    later.found(old.digest, old)
    later.found(manifest.digest, manifest)
    later.keep_only([manifest.digest])
    broker.flush()
    assert {parse(text).digest for text in broker.topics} == {manifest.digest}
    assert broker.model(manifest.digest) == b"".join(model.pieces())


@pytest.mark.parametrize("by", ["the same life", "a later life"])
def test_larger_chunks_leave_no_small_ones_behind(tmp_path: Path, broker: Retained, by: str) -> None:
    """The broker's packet limit was raised: the same model now has fewer chunks."""
    model, manifest = made(tmp_path, 1, chunk_bytes=16384)
    publisher = Publisher("job", broker)
    publisher.publish(model, manifest)
    broker.flush()
    larger = replace(manifest, chunk_bytes=262144)
    if by == "a later life":
        publisher = Publisher("job", broker)
    publisher.publish(model, larger)
    publisher.found(manifest.digest, manifest if by == "a later life" else larger)
    broker.flush()
    assert broker.model(manifest.digest) == b"".join(model.pieces())
    publisher.keep_only([])
    broker.flush()
    assert broker.topics == {}


def test_publishing_again_changes_nothing(tmp_path: Path, broker: Retained) -> None:
    publisher = Publisher("job", broker)
    first, second = made(tmp_path, 1), made(tmp_path, 2)
    for model, manifest in (first, second, first):
        publisher.publish(model, manifest)
        publisher.found(manifest.digest, manifest)
    broker.flush()
    assert publisher.published == [second[1].digest, first[1].digest], "oldest first"
    assert broker.model(first[1].digest) == b"".join(first[0].pieces())


def test_a_file_that_went_away_clears_its_topics(tmp_path: Path, broker: Retained) -> None:
    model, manifest = made(tmp_path, 1)
    Publisher("job", broker).publish(model, manifest)
    model.path.unlink()
    broker.flush()
    assert [parse(text).kind for text in broker.topics] == [Kind.MODEL]
