"""What an edge keeps on disk, and what it makes of what a kill or a power cut left there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.kept import pending_of
from edge_client.rounds import Assignment
from edge_client.store import Store
from fl_protocol.errors import AccessRefused, ConfigError
from fl_protocol.modelfile import read_header, write
from fl_protocol.tensors import LEAF_BYTES, Manifest
from tests.unit.edge_client.sessions import PLAN, manifest_of, payload_of

PAYLOAD = payload_of(3 * LEAF_BYTES + 400, 5)
MANIFEST = manifest_of(PAYLOAD)


opened: list[Store] = []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened.append(Store(tmp_path / "edge"))
    yield opened[0]
    while opened:
        opened.pop().close()


def reopened(store: Store) -> Store:
    store.close()
    opened.append(Store(store.workdir))
    return opened[-1]


def leaf(number: int) -> tuple[int, bytes]:
    offset, length = MANIFEST.leaf_span(number)
    return offset, PAYLOAD[offset : offset + length]


def fetch(store: Store, manifest: Manifest, payload: bytes) -> list[str]:
    store.open_part(manifest.digest, manifest)
    for number in range(manifest.num_leaves):
        offset, length = manifest.leaf_span(number)
        store.write_leaf(manifest.digest, offset, payload[offset : offset + length])
    return store.seal(manifest.digest)


def work_of(number: int = 1, attempt: int = 1) -> Assignment:
    return Assignment(number, attempt, MANIFEST.digest, "chest-xray", "hilum-cnn", 32, PLAN)


def train(store: Store, work: Assignment) -> Path:
    path = store.update_path(work)
    write(path, MANIFEST.groups[0].tensors, {}, [PAYLOAD])
    return path


def test_a_second_edge_is_refused_and_may_come_when_the_first_has_left(tmp_path: Path) -> None:
    first = Store(tmp_path)
    with pytest.raises(AccessRefused, match="another fl-edge works in"):
        Store(tmp_path)
    first.close()
    Store(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"--workdir .*file/edge"):
        Store(tmp_path / "file" / "edge")


def test_a_fetched_model_is_a_file_of_its_digest(store: Store) -> None:
    assert not store.has_model(MANIFEST.digest)
    assert fetch(store, MANIFEST, PAYLOAD) == []
    assert store.has_model(MANIFEST.digest)
    assert read_header(store.model_path(MANIFEST.digest)).manifest("model", 4096).digest == MANIFEST.digest
    assert store.digests() == [MANIFEST.digest]
    assert list(store.models.glob("*.part")) == []


def test_an_unfinished_model_goes_on_with_the_leaves_that_are_true(store: Store) -> None:
    assert store.open_part(MANIFEST.digest, MANIFEST) == ()
    store.write_leaf(MANIFEST.digest, *leaf(0))
    store.write_leaf(MANIFEST.digest, leaf(2)[0], bytes(LEAF_BYTES))
    store.write_leaf(MANIFEST.digest, *leaf(3))
    again = reopened(store)
    assert again.open_part(MANIFEST.digest, MANIFEST) == (0, 3)
    again.write_leaf(MANIFEST.digest, *leaf(1))
    again.write_leaf(MANIFEST.digest, *leaf(2))
    again.seal(MANIFEST.digest)
    assert reopened(again).has_model(MANIFEST.digest)


def test_an_unfinished_file_of_another_shape_is_begun_anew(store: Store) -> None:
    (store.models / f"{MANIFEST.digest}.part").write_bytes(b"x" * 2_000_000)
    assert store.open_part(MANIFEST.digest, MANIFEST) == ()
    assert fetch(store, MANIFEST, PAYLOAD) == []
    assert reopened(store).has_model(MANIFEST.digest)


def test_a_model_that_was_altered_or_cut_is_not_believed(store: Store) -> None:
    fetch(store, MANIFEST, PAYLOAD)
    path = store.model_path(MANIFEST.digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    again = reopened(store)
    assert not again.has_model(MANIFEST.digest)
    assert not path.exists()
    path.write_bytes(whole[:1000])
    assert not reopened(again).has_model(MANIFEST.digest)


def test_two_models_are_kept_beside_the_newest(store: Store) -> None:
    models = [(payload_of(400, salt), manifest_of(payload_of(400, salt))) for salt in range(4)]
    gone = [fetch(store, manifest, payload) for payload, manifest in models]
    assert gone == [[], [], [], [models[0][1].digest]]
    assert not store.has_model(models[0][1].digest)
    assert store.has_model(models[1][1].digest)


def test_a_finished_update_survives_a_kill(store: Store) -> None:
    train(store, work_of())
    kept = store.keep_update(work_of(), 8, {"loss": 0.5})
    (store.outbox / "9-half-written.safetensors").write_bytes(b"rest of a killed training")
    again = reopened(store)
    assert again.load_update() == (kept, False)
    assert sorted(file.name for file in again.outbox.iterdir()) == [Path(kept.file).name, "update.json"]
    again.keep_accepted(kept)
    assert reopened(again).load_update() == (kept, True)


def test_what_would_be_kept_of_an_update_lives_as_long_as_it(store: Store) -> None:
    train(store, work_of())
    update = store.keep_update(work_of(), 8, {})
    waiting = pending_of(update.file)
    waiting.write_bytes(b"its control variate")
    pending_of(store.outbox / "9-half-written.safetensors").write_bytes(b"of a killed training")
    again = reopened(store)
    again.load_update()
    assert {file.name for file in again.outbox.glob("*.kept")} == {waiting.name}
    again.drop_update(update)
    assert not waiting.exists()


@pytest.mark.parametrize("fault", ["cut", "altered", "no json", "no file", "odd json"])
def test_an_update_that_is_not_whole_is_none(store: Store, fault: str) -> None:
    path = train(store, work_of())
    store.keep_update(work_of(), 8, {})
    note = store.outbox / "update.json"
    whole = path.read_bytes()
    if fault == "cut":
        path.write_bytes(whole[:-4])
    elif fault == "altered":
        path.write_bytes(whole[:-4] + b"abcd")
    elif fault == "no file":
        path.unlink()
    else:
        note.write_text("{" if fault == "no json" else '{"file": 3}')
    again = reopened(store)
    assert again.load_update() is None
    assert list(again.outbox.iterdir()) == []


def test_dropping_one_update_leaves_the_note_of_another(store: Store) -> None:
    train(store, work_of(1))
    old = store.keep_update(work_of(1), 8, {})
    train(store, work_of(2))
    new = store.keep_update(work_of(2), 8, {})
    store.drop_update(old)
    assert reopened(store).load_update() == (new, False)


def test_attempts_have_files_of_their_own(store: Store) -> None:
    assert store.update_path(work_of(1, 1)) != store.update_path(work_of(1, 2))


def test_an_accepted_update_is_noted_only_while_it_is_the_newest(store: Store) -> None:
    """Notes are written at leisure: one that comes late must not speak over a newer update's."""
    updates = []
    for number in (1, 2):
        train(store, work_of(number))
        updates.append(store.keep_update(work_of(number), 8, {}))
    first, second = updates
    store.keep_accepted(first)
    store.drop_update(first)
    assert store.load_update() == (second, False)
    store.keep_accepted(second)
    assert store.load_update() == (second, True)


def test_what_is_outdated_is_gone_at_once_and_swept_at_leisure(store: Store) -> None:
    models = [(payload_of(400, salt), manifest_of(payload_of(400, salt))) for salt in range(5)]
    for payload, manifest in models:
        fetch(store, manifest, payload)
    assert [store.has_model(manifest.digest) for _, manifest in models] == [False, False, True, True, True]
    assert len(list(store.models.iterdir())) == 5
    store.sweep()
    assert len(list(store.models.iterdir())) == 3


def test_more_can_be_kept_and_some_whatever_their_age(tmp_path: Path) -> None:
    store = Store(tmp_path / "room", older=1)
    opened.append(store)
    payloads = [payload_of(4000, salt) for salt in range(4)]
    manifests = [manifest_of(payload) for payload in payloads]
    store.spared = frozenset({manifests[0].digest})
    gone = [fetch(store, manifest, payload) for manifest, payload in zip(manifests, payloads, strict=True)]
    store.sweep()
    assert gone == [[], [], [], [manifests[1].digest]]
    assert store.model_path(manifests[0].digest).exists()
    store.close()
    opened.clear()
