"""Virtual clients see what real ones see: the same rows, in the same order, of one copy of the data."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fl_protocol.errors import ConfigError
from fl_protocol.messages import DataSummary, Plan
from fl_tasks import jobs
from fl_tasks.base import Dataset, Place, Watch
from fl_tasks.chest_xray import ChestXray
from fl_tasks.dealing import KEPT, Rows, Shards, deal, together
from fl_tasks.params import write_params
from fl_tasks.worker import Worker

Folder = Callable[..., Path]
PLAN = Plan(local_epochs=1, batch_size=4, learning_rate=1e-3, seed=5)


def options(data: Path, **more: object) -> jobs.DataOptions:
    known = jobs.DataOptions("chest-xray", str(data), 32, str(data.parent / "cache"), shards=3, seed=4)
    return replace(known, **more)  # type: ignore[arg-type]


def test_rows_copy_what_is_asked_for_alone() -> None:
    whole = np.arange(20).reshape(10, 2)
    rows = Rows(whole, np.array([7, 1, 4]))
    assert len(rows) == 3
    assert rows[np.array([2, 0])].tolist() == [[8, 9], [14, 15]]
    assert rows[1:].tolist() == [[2, 3], [8, 9]]
    assert rows.part(np.array([2]))[:].tolist() == [[8, 9]]
    assert [row.tolist() for row in rows] == [[14, 15], [2, 3], [8, 9]]
    rows[:][0, 0] = 99
    assert whole[7, 0] == 14, "what was given is a copy"


@pytest.mark.parametrize("partition", ["iid", "dirichlet:0.5"])
def test_a_dealt_shard_is_what_an_edge_prepares(folder: Folder, partition: str) -> None:
    data = folder(count=16, split="train")
    (data / "train" / "NORMAL" / "IM-0001-0003.png").write_text("a text file")
    task = ChestXray(Place("cpu", 1))
    wanted = options(data, partition=partition)
    shards = deal(task, wanted, Watch())
    assert len(shards) == 3
    for index, dealt in enumerate(shards):
        alone = task.prepare(wanted.of_shard(index + 1), Watch())
        assert dealt.num_examples == alone.num_examples
        assert replace(dealt.summary, unreadable=0, duplicates=0) == replace(
            alone.summary, unreadable=0, duplicates=0
        )
        assert_same_rows(dealt, alone)


def assert_same_rows(dealt: Dataset, alone: Dataset) -> None:
    for mine, theirs in (
        (dealt.content.train, alone.content.train),
        (dealt.content.validation, alone.content.validation),
    ):
        assert np.array_equal(mine.images[:], theirs.images)
        assert mine.labels.tolist() == theirs.labels.tolist()
        assert mine.patients.tolist() == theirs.patients.tolist()


def test_whom_the_data_hold_out_validates_in_a_dealt_shard_as_well(folder: Folder) -> None:
    data = folder(count=12)
    rows = [
        f"{kind}/{path.name},{label},{('train', 'train', 'val')[index // 2 % 3]}"
        for label, kind in enumerate(("NORMAL", "PNEUMONIA"))
        for index, path in enumerate(sorted((data / kind).iterdir()))
    ]
    table = data / "table.csv"
    table.write_text("\n".join(["path,label,split", *rows]))
    task = ChestXray(Place("cpu", 1))
    shards = deal(task, options(table), Watch())
    for index, dealt in enumerate(shards):
        assert_same_rows(dealt, task.prepare(options(table).of_shard(index + 1), Watch()))
    held_out = {patient for shard in shards for patient in shard.content.validation.patients}
    assert held_out >= {"IM-0002", "IM-0005", "person2_virus", "person5_virus"}, (
        "a part without any draws its own"
    )


def test_all_shards_share_one_copy(folder: Folder) -> None:
    shards = deal(ChestXray(Place("cpu", 1)), options(folder(count=8)), Watch())
    wholes = {id(shard.content.train.images._whole) for shard in shards}
    assert len(wholes) == 1


def test_a_shard_whose_images_are_all_broken_cannot_train(folder: Folder) -> None:
    data = folder(count=8)
    task = ChestXray(Place("cpu", 1))
    first = task.prepare(options(data), Watch()).content
    names = {*first.train.patients, *first.validation.patients}
    for file in data.rglob("*.png"):
        if any(file.name.startswith(f"{name.split('/')[-1]}-") or name in file.name for name in names):
            file.write_text("a text file")
    assert [shard.num_examples > 0 for shard in deal(task, options(data), Watch())] == [False, True, True]


def test_training_a_dealt_shard_gives_the_same_bytes(folder: Folder, tmp_path: Path) -> None:
    data = folder(count=12)
    task = ChestXray(Place("cpu", 1))
    model = task.initialise("hilum-cnn", 32, 0, None)
    write_params(tmp_path / "model", model.params, model.metadata)
    worker = Worker(Place("cpu", 1), io.BytesIO())
    found = []
    for resident in (False, True):
        request = jobs.Train(
            options(data, resident=resident, shard=2), str(tmp_path / "model"), PLAN, str(tmp_path / "out"), 1, ""
        )  # fmt: skip
        reply = worker.answer(request, Watch())
        assert isinstance(reply, jobs.Trained), reply
        found.append((reply, (tmp_path / "out").read_bytes()))
    assert found[0] == found[1]


def test_a_dealing_worker_tells_of_every_shard(folder: Folder) -> None:
    reply = Worker(Place("cpu", 1), io.BytesIO()).answer(jobs.Deal(options(folder(count=8))), Watch())
    assert isinstance(reply, jobs.Dealt)
    assert sum(summary.images for summary in reply.summaries) == 16
    assert reply.examples == tuple(summary.train_images for summary in reply.summaries)
    assert jobs.decode(jobs.encode(reply)) == reply


class Plain:
    """A task that knows nothing of dealing."""

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def prepare(self, options: jobs.DataOptions, watch: Watch) -> Dataset:
        watch.check()
        self.prepared.append(options.shard)
        return Dataset(DataSummary(1, 1, 1, 0), options.shard)


def test_a_task_without_dealing_prepares_shard_by_shard() -> None:
    task = Plain()
    shards = deal(task, jobs.DataOptions("t", None, 8, "c", shards=5), Watch())  # type: ignore[arg-type]
    assert [shard.num_examples for shard in shards] == [1, 2, 3, 4, 5]
    assert [shards[4].num_examples, shards[3].num_examples, shards[0].num_examples] == [5, 4, 1]
    assert task.prepared == [1, 2, 3, 4, 5, 1], f"the last {KEPT} are kept"


def test_a_cancelled_request_does_not_spoil_shards_prepared_later() -> None:
    over: list[bool] = []
    shards = deal(Plain(), jobs.DataOptions("t", None, 8, "c", shards=5), Watch(lambda: bool(over)))  # type: ignore[arg-type]
    over.append(True)
    assert shards[2].num_examples == 3


def test_views_are_kept_and_bounds_are_bounds() -> None:
    made: list[int] = []

    def make(index: int) -> Dataset:
        made.append(index)
        return Dataset(DataSummary(0, 0, 0, 0), index)

    shards = Shards(3, make)
    assert [shards[1].num_examples, shards[1].num_examples] == [1, 1]
    assert made == [1]
    with pytest.raises(IndexError):
        shards[3]


def test_together_shards_train_and_validate_as_each_did(folder: Folder, tmp_path: Path) -> None:
    data = folder(count=16)
    task = ChestXray(Place("cpu", 1))
    worker = Worker(Place("cpu", 1), io.BytesIO())
    whole = worker._dataset(options(data, resident=True, shard=0), Watch())
    shards = list(deal(task, options(data), Watch()))
    assert whole.num_examples == sum(shard.num_examples for shard in shards)
    for part in ("train", "validation"):
        patients = [set(getattr(shard.content, part).patients) for shard in shards]
        assert set(getattr(whole.content, part).patients) == set().union(*patients)
    assert not set(whole.content.train.patients) & set(whole.content.validation.patients)
    assert np.array_equal(whole.content.train.images[:1], shards[0].content.train.images[:1])


def test_a_task_that_cannot_put_shards_together_says_so() -> None:
    with pytest.raises(ConfigError, match="cannot put its sites' data together"):
        together(Plain(), [])  # type: ignore[arg-type]
