"""The tasks of small images, as their process uses them (array_files.py and site_data.py are tested through them)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import Plan
from fl_tasks import sources
from fl_tasks.base import Cancelled, Model, Place, Watch
from fl_tasks.catalogue import ARRAY_TASKS
from fl_tasks.defaults import defaults_for
from fl_tasks.jobs import EVAL, DataOptions
from fl_tasks.params import write_params
from fl_tasks.predict import predict
from fl_tasks.registry import get_task
from fl_tasks.torch_task import Splits

PNEUMONIA = "medmnist:pneumoniamnist"


def write(
    path: Path,
    task: str,
    count: int = 40,
    *,
    side: int = 28,
    keys: str = "medmnist",
    change: dict[str, np.ndarray] | None = None,
) -> Path:
    """A file of noise with a bright bar whose place is the class; ``change`` replaces arrays."""
    about, rng = ARRAY_TASKS[task], np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    forms = {"medmnist": ("{}_images", "{}_labels"), "keras": ("x_{}", "y_{}")}[keys]
    for split in ("train", "val", "test") if keys == "medmnist" else ("train", "test"):
        labels = np.arange(count) % len(about.classes)
        shape = (count, side, side) + ((3,) if about.channels == 3 else ())
        images = rng.integers(0, 90, shape).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 3] += 120
        arrays[forms[0].format(split)] = images
        arrays[forms[1].format(split)] = labels.astype(np.uint8)[:, None] if keys == "medmnist" else labels
    np.savez_compressed(path, **(arrays | (change or {})))  # type: ignore[arg-type]
    return path


def options(task: str, data: Path, **more: object) -> DataOptions:
    return replace(DataOptions(task, str(data), 0, str(data.parent / "cache")), **more)  # type: ignore[arg-type]


def prepared(task: str, data: Path, **more: object) -> Splits:
    content: Splits = get_task(task, Place("cpu", 1)).prepare(options(task, data, **more), Watch()).content
    return content


def test_validation_is_what_the_file_sets_aside(tmp_path: Path) -> None:
    data = write(tmp_path / "p.npz", PNEUMONIA)
    dataset = get_task(PNEUMONIA, Place("cpu", 1)).prepare(options(PNEUMONIA, data), Watch())
    summary = dataset.summary
    assert (summary.images, summary.train_images, summary.val_images, summary.patients) == (80, 40, 40, 80)
    assert summary.classes == {"normal": 40, "pneumonia": 40}
    with np.load(data) as held:
        assert np.array_equal(dataset.content.train.images, held["train_images"])
        assert np.array_equal(dataset.content.validation.images, held["val_images"])
        test = prepared(PNEUMONIA, data, role=EVAL).train
        assert np.array_equal(test.images[np.arange(40)], held["test_images"])
        assert np.array_equal(test.labels, held["test_labels"][:, 0])


def test_without_a_part_set_aside_some_of_the_training_images_validate(tmp_path: Path) -> None:
    data = write(tmp_path / "m.npz", "mnist", 200, keys="keras")
    splits = prepared("mnist", data)
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (170, 30)


@pytest.mark.parametrize("partition", ["iid", "dirichlet:0.5", "shards:2", "quantity:1"])
def test_dealt_at_once_or_one_by_one_is_the_same(tmp_path: Path, partition: str) -> None:
    data = write(tmp_path / "m.npz", "mnist", 200, keys="keras")
    task = get_task("mnist", Place("cpu", 1))
    from fl_tasks.dealing import deal

    how = options("mnist", data, shards=5, partition=partition)
    together = deal(task, replace(how, resident=True), Watch())
    rows: list[str] = []
    for shard in range(1, 6):
        alone = task.prepare(how.of_shard(shard), Watch())
        one, other = alone.content, together[shard - 1].content
        assert alone.summary == together[shard - 1].summary
        for a, b in ((one.train, other.train), (one.validation, other.validation)):
            assert np.array_equal(a.images, b.images[np.arange(len(b))]) and np.array_equal(
                a.labels, b.labels
            )
            rows += a.patients.tolist()
    assert len(rows) == len(set(rows)) == 200


@pytest.mark.parametrize("task", [PNEUMONIA, "medmnist:pathmnist", "cifar10"])
def test_it_learns_and_predicts_with_one_preprocessing(tmp_path: Path, task: str) -> None:
    about = ARRAY_TASKS[task]
    keys = "keras" if task == "cifar10" else "medmnist"
    data = write(tmp_path / "d.npz", task, 20 * len(about.classes), side=about.side, keys=keys)
    runs, size = get_task(task, Place("cpu", 1)), defaults_for(task).image_size
    first = runs.initialise("tiny-cnn", size, 1, None)
    start = Model({name: array.copy() for name, array in first.params.items()}, first.metadata)
    plan = Plan(local_epochs=3, batch_size=16, learning_rate=3e-3, seed=1)
    update = runs.train(start, plan, runs.prepare(options(task, data), Watch()), Watch())
    trained = Model({n: start.params[n] + d for n, d in update.delta.items()}, start.metadata)
    test = runs.prepare(options(task, data, role=EVAL), Watch())
    before, score = (runs.evaluate(model, test, Watch(), detail=True) for model in (start, trained))
    assert score.metrics["loss"] < before.metrics["loss"] and score.metrics["auroc"] > 0.7
    json.dumps(score.detail, allow_nan=False)

    write_params(tmp_path / "m.safetensors", trained.params, trained.metadata)
    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for path, pixels in zip(paths, test.content.train.images, strict=False):
        Image.fromarray(pixels).save(path)
    rows = predict(tmp_path / "m.safetensors", paths, "cpu")
    losses = [-np.log(row["probabilities"][about.classes[label]])
              for row, label in zip(rows, test.content.train.labels, strict=False)]  # fmt: skip
    few = replace(test, content=Splits(test.content.train.part(np.arange(6))))
    assert np.mean(losses) == pytest.approx(
        runs.evaluate(trained, few, Watch(), detail=False).metrics["loss"], abs=1e-5
    )


def test_a_file_of_another_size_is_resized(tmp_path: Path) -> None:
    data = write(tmp_path / "p.npz", PNEUMONIA, side=64)
    splits = prepared(PNEUMONIA, data)
    assert splits.train.images[np.arange(2)].shape == (2, 28, 28)
    with np.load(data) as held:
        wanted = Image.fromarray(held["train_images"][0]).resize((28, 28), Image.Resampling.BILINEAR)
    assert np.array_equal(splits.train.images[np.arange(1)][0], np.asarray(wanted))
    with pytest.raises(ConfigError, match="image size 8 is not possible"):
        prepared(PNEUMONIA, data, image_size=8)


LABELS = np.zeros(40, np.int64)


@pytest.mark.parametrize(
    ("task", "change", "says"),
    [
        (PNEUMONIA, {"train_labels": LABELS + 2}, r"train_labels\[0\] is 2, which is none of the 2 classes .* \(0 to 1\)"),
        (PNEUMONIA, {"train_labels": LABELS - 1}, r"is -1, which is none of"),
        (PNEUMONIA, {"train_labels": LABELS[:7]}, "does not have one label for each of the 40 images"),
        (PNEUMONIA, {"train_labels": LABELS + 0.5}, "holds fractions"),
        (PNEUMONIA, {"train_labels": np.zeros((40, 14), np.uint8)}, "has 14 labels an image: Hilum learns one"),
        (PNEUMONIA, {"train_images": np.zeros((40, 28, 28), np.float32)}, "is not uint8 of shape"),
        (PNEUMONIA, {"train_images": np.zeros((40, 784), np.uint8)}, "is not uint8 of shape"),
        (PNEUMONIA, {"train_images": np.zeros((40, 28, 28, 3), np.uint8)}, "has 3 channels; .*pneumoniamnist has 1"),
        ("medmnist:pathmnist", {"train_images": np.zeros((40, 28, 28), np.uint8)}, "has 1 channel; .*pathmnist has 3"),
        (PNEUMONIA, {"train_images": np.zeros((40, 2, 2), np.uint8)}, "images of 2 x 2 pixels: use 8 to 1024"),
        (PNEUMONIA, {"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": LABELS[:0]}, "has 0 images"),
        (PNEUMONIA, {"train_images": np.zeros((40, 28, 28), np.uint8), "val_images": np.zeros((40, 28, 28), np.uint8)},
         "none of the 80 images .* shows anything"),
        (PNEUMONIA, {"train_images": np.array([None])}, "holds pickled objects"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, task: str, change: dict[str, np.ndarray], says: str
) -> None:
    data = write(tmp_path / "d.npz", task, change=change)
    with pytest.raises(DataError, match=says) as caught:
        prepared(task, data)
    assert "\n" not in str(caught.value)


def test_images_that_show_nothing_are_named_and_left_out(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 28, 28)).astype(np.uint8)
    images[[3, 5]] = 0
    data = write(tmp_path / "d.npz", PNEUMONIA, change={"train_images": images})
    dataset = get_task(PNEUMONIA, Place("cpu", 1)).prepare(options(PNEUMONIA, data), Watch())
    assert dataset.problems == ("image 3 has one grey or colour only", "image 5 has one grey or colour only")
    assert (dataset.summary.unreadable, dataset.num_examples) == (2, 38)


def test_missing_keys_and_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", train_images=np.zeros((2, 28, 28), np.uint8), pixels=LABELS)
    with pytest.raises(
        DataError, match=r"has no images and labels for train: it needs .*; it has pixels, train_images"
    ):
        prepared(PNEUMONIA, tmp_path / "d.npz")
    with pytest.raises(DataError, match="does not exist"):
        prepared(PNEUMONIA, tmp_path / "absent.npz")
    with pytest.raises(DataError, match=r"is no \.npz file: this task reads arrays"):
        prepared(PNEUMONIA, tmp_path)
    with pytest.raises(DataError, match=r"no data given: name an \.npz file"):
        sources.quick_check(None, task="mnist")


def test_a_first_look_is_enough_to_refuse(tmp_path: Path) -> None:
    data = str(write(tmp_path / "d.npz", PNEUMONIA))
    assert sources.quick_check(data) == sources.quick_check(data, EVAL, PNEUMONIA) == 40
    assert sources.has_test_part(data)
    with pytest.raises(DataError, match="is a file of arrays: task chest-xray takes a folder"):
        sources.quick_check(data, task="chest-xray")
    np.savez(tmp_path / "o.npz", x_train=np.zeros((4, 28, 28), np.uint8), y_train=np.array([None] * 4))
    with pytest.raises(DataError, match="pickled objects"):
        sources.quick_check(str(tmp_path / "o.npz"))
    assert not sources.has_test_part(str(tmp_path / "o.npz"))
    assert not sources.has_test_part(str(tmp_path))


def test_reading_can_be_given_up(tmp_path: Path) -> None:
    data = write(tmp_path / "d.npz", PNEUMONIA)
    with pytest.raises(Cancelled):
        get_task(PNEUMONIA, Place("cpu", 1)).prepare(options(PNEUMONIA, data), Watch(lambda: True))


def test_real_files_have_the_counts_of_their_papers(real_data: Path) -> None:
    splits = prepared(PNEUMONIA, real_data / "pneumoniamnist.npz")
    assert np.bincount(splits.train.labels).tolist() == [1214, 3494]
    assert splits.validation is not None and np.bincount(splits.validation.labels).tolist() == [135, 389]
    test = prepared(PNEUMONIA, real_data / "pneumoniamnist.npz", role=EVAL).train
    assert np.bincount(test.labels).tolist() == [234, 390]
    digits = prepared("mnist", real_data / "mnist_small.npz", role=EVAL).train
    assert np.bincount(digits.labels).tolist() == [100] * 10
    colours = prepared("cifar10", real_data / "cifar10_small.npz", role=EVAL).train
    assert (
        colours.images[np.arange(1)].shape == (1, 32, 32, 3)
        and np.bincount(colours.labels).tolist() == [100] * 10
    )
