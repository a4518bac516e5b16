"""Sites that are small, one-sided or wrong: each takes part as far as it can, and is told what it cannot."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_protocol.errors import DataError
from fl_protocol.messages import Plan
from fl_tasks import local_round
from fl_tasks.base import Dataset, Diverged, Place, Watch
from fl_tasks.chest_xray import ChestXray
from fl_tasks.jobs import DataOptions
from fl_tasks.local_round import Done, Given
from fl_tasks.params import write_params
from fl_tasks.remarks import remarks_on

Folder = Callable[..., Path]
PLAN = Plan(local_epochs=1, batch_size=4, learning_rate=1e-3, seed=5)


@pytest.fixture
def task() -> ChestXray:
    return ChestXray(Place("cpu", 1))


def options(data: Path, **more: object) -> DataOptions:
    known = DataOptions("chest-xray", str(data), 32, str(data.parent / "cache"))
    return replace(known, **more)  # type: ignore[arg-type]


def trained(task: ChestXray, dataset: Dataset, folder: Path, plan: Plan = PLAN) -> Done:
    """One round of the site, from files to files."""
    model = task.initialise("hilum-cnn", 32, 0, None)
    write_params(folder / "m", model.params, model.metadata)
    given = Given(folder / "m", None, {})
    return local_round.train(task, dataset, plan, given, Watch(), out=folder / "u", kept_out=folder / "k")


def test_a_folder_of_one_class_is_sent_back(task: ChestXray, folder: Folder) -> None:
    data = folder(count=4)
    shutil.rmtree(data / "PNEUMONIA")
    with pytest.raises(DataError, match=r"images of one class only: put .* of the other into .*PNEUMONIA"):
        task.prepare(options(data), Watch())


def test_a_part_of_one_class_trains_and_is_not_judged_by_what_it_lacks(
    task: ChestXray, folder: Folder, tmp_path: Path
) -> None:
    data = folder(count=12)
    parts = [options(data, shard=k, shards=2, partition="dirichlet:0.001", seed=1) for k in (1, 2)]
    datasets = [task.prepare(part, Watch()) for part in parts]
    index = next(i for i, each in enumerate(datasets) if 0 in (each.summary.classes or {}).values())
    dataset = datasets[index]
    assert dataset.summary.val_images > 0
    assert [line.split(":")[0] for line in remarks_on(dataset.summary, parts[index])][-1].startswith(
        "every image here"
    )
    done = trained(task, dataset, tmp_path)
    assert done.num_examples == dataset.num_examples
    assert {"eval_loss", "eval_accuracy", "eval_ece", "eval_examples"} <= set(done.metrics)
    assert not {"eval_auroc", "eval_sensitivity", "eval_specificity", "val_auroc"} & set(done.metrics)


def test_three_images_are_a_site(task: ChestXray, folder: Folder, tmp_path: Path) -> None:
    data = folder(count=2)
    (data / "NORMAL" / "IM-0000-0001.png").unlink()
    dataset = task.prepare(options(data), Watch())
    assert (dataset.summary.images, dataset.num_examples) == (3, 3)
    assert remarks_on(dataset.summary, options(data)) == (
        "too few patients to hold one out: this site trains, but the global model is not scored here",
    )
    done = trained(task, dataset, tmp_path)
    assert done.metrics["local_steps"] == 1
    assert not any(name.startswith(("eval_", "val_")) for name in done.metrics)


def test_labels_that_the_task_does_not_know_are_left_out_and_named(task: ChestXray, folder: Folder) -> None:
    data = folder(count=4, split="train")
    shutil.copytree(data / "train" / "NORMAL", data / "train" / "COVID")
    (data / "train" / "notes").mkdir()
    dataset = task.prepare(options(data), Watch())
    assert dataset.summary.images == 8
    assert dataset.problems == (
        "COVID is no class of this task: its 4 images are left out; it knows NORMAL or PNEUMONIA",
    )
    shutil.rmtree(data / "train" / "NORMAL")
    shutil.rmtree(data / "train" / "PNEUMONIA")
    with pytest.raises(DataError, match=r"has no class folders: it must look like .*NORMAL"):
        task.prepare(options(data), Watch())


def test_black_images_are_left_out_and_a_folder_of_them_is_sent_back(task: ChestXray, folder: Folder) -> None:
    data = folder(count=4)
    files = sorted(data.rglob("*.png"))
    black = Image.fromarray(np.zeros((48, 48), np.uint8))
    black.save(files[0])
    dataset = task.prepare(options(data), Watch())
    assert dataset.summary.unreadable == 1
    assert re.search("shows nothing", dataset.problems[0])
    for file in files:
        black.save(file)
    with pytest.raises(DataError, match=r"none of the 8 images in .* can be used \(.* shows nothing"):
        task.prepare(options(data), Watch())


def test_a_loss_that_is_no_number_ends_the_round_of_this_site(
    task: ChestXray, folder: Folder, tmp_path: Path
) -> None:
    dataset = task.prepare(options(folder(count=6)), Watch())
    wild = replace(PLAN, learning_rate=1e30, local_epochs=9)
    with pytest.raises(Diverged, match=r"not finite.*lower --learning-rate"):
        trained(task, dataset, tmp_path, wild)
    assert not (tmp_path / "u").exists()


def test_a_draw_that_leaves_a_part_nobody_gives_it_one_patient_and_says_so(
    task: ChestXray, folder: Folder
) -> None:
    data = folder(count=12)
    parts = [options(data, shard=k, shards=8, partition="dirichlet:0.001", seed=2) for k in range(1, 9)]
    datasets = [task.prepare(part, Watch()) for part in parts]
    assert sum(each.summary.images for each in datasets) == 24
    alone = [i for i, each in enumerate(datasets) if each.summary.patients == 1]
    assert alone, "two patients' classes among eight parts leave most of them nothing"
    for index in alone:
        assert remarks_on(datasets[index].summary, parts[index])[0].startswith(
            f"part {index + 1} of 8 has one patient"
        )
        assert datasets[index].num_examples > 0
