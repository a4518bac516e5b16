"""The task as its process uses it, on small folders (torch_task.py is tested here too, through it)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import log_loss

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import Plan
from fl_protocol.modelfile import read_header
from fl_tasks.augment import plain_batch
from fl_tasks.base import Cancelled, Model, Place, Watch
from fl_tasks.chest_xray import ChestXray
from fl_tasks.folder import list_images
from fl_tasks.jobs import DataOptions
from fl_tasks.params import file_params, write_params
from fl_tasks.partition import parts, split_validation
from fl_tasks.phantoms import draw
from fl_tasks.torch_task import Splits
from tests.radiographs import radiograph

Folder = Callable[..., Path]
PLAN = Plan(local_epochs=1, batch_size=4, learning_rate=1e-3, seed=5)


@pytest.fixture
def task() -> ChestXray:
    return ChestXray(Place("cpu", 1))


def options(data: Path, **more: object) -> DataOptions:
    known = DataOptions("chest-xray", str(data), 32, str(data.parent / "cache"))
    return replace(known, **more)  # type: ignore[arg-type]


def values(model: Model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.params.items()}


def test_the_summary_counts(task: ChestXray, folder: Folder) -> None:
    data = folder(count=20, split="train")
    (data / "train" / "NORMAL" / "IM-0000-0000.png").write_text("a text file")
    copied = data / "train" / "NORMAL" / "IM-0003-0006.png"
    for number in (98, 99):
        (data / "train" / "NORMAL" / f"IM-0003-00{number}.png").write_bytes(copied.read_bytes())
    dataset = task.prepare(options(data), Watch())
    summary = dataset.summary
    assert (summary.images, summary.patients, summary.unreadable, summary.duplicates) == (41, 20, 1, 2)
    assert summary.classes == {"NORMAL": 21, "PNEUMONIA": 20}
    assert summary.train_images + summary.val_images == 41
    assert 2 <= summary.val_images <= 8
    assert dataset.num_examples == summary.train_images
    assert dataset.problems == ("NORMAL/IM-0000-0000.png is no JPEG, PNG or DICOM image",)
    splits: Splits = dataset.content
    assert splits.validation is not None
    assert not set(splits.train.patients) & set(splits.validation.patients)


def test_the_seed_says_who_gets_which_patients(task: ChestXray, folder: Folder) -> None:
    data = folder(count=20)
    files = list_images(str(data), "train")
    labels, patients = [file.label for file in files], [file.patient for file in files]
    dealt = []
    for seed in (1, 2):
        splits: Splits = task.prepare(options(data, seed=seed, shard=2, shards=3), Watch()).content
        assert splits.validation is not None
        dealt.append({*splits.train.patients, *splits.validation.patients})
        assert dealt[-1] == {patients[row] for row in parts(labels, patients, 3, "iid", seed)[1]}
    assert dealt[0] != dealt[1]


def test_the_seed_says_which_patients_validate(task: ChestXray, folder: Folder) -> None:
    data = folder(count=20)
    held_out = []
    for seed in (1, 2):
        splits: Splits = task.prepare(options(data, seed=seed), Watch()).content
        assert splits.validation is not None
        files = list_images(str(data), "train")
        rows = split_validation([file.label for file in files], [file.patient for file in files], seed)[1]
        assert splits.validation.patients.tolist() == [files[row].patient for row in rows]
        held_out.append(set(splits.validation.patients))
    assert held_out[0] != held_out[1]


def test_evaluation_uses_everything_in_test(task: ChestXray, folder: Folder) -> None:
    folder(count=4, split="train")
    data = folder(count=6, split="test")
    summary = task.prepare(options(data, role="eval"), Watch()).summary
    assert (summary.images, summary.train_images, summary.val_images) == (12, 0, 0)


def test_shards_share_nothing(task: ChestXray, folder: Folder) -> None:
    data = folder(count=20)
    patients: list[set[str]] = []
    for shard in (1, 2, 3):
        splits: Splits = task.prepare(options(data, shard=shard, shards=3), Watch()).content
        assert splits.validation is not None
        patients.append({*splits.train.patients, *splits.validation.patients})
    assert sum(map(len, patients)) == len(set.union(*patients)) == 20


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": 16}, "image size 16 is not possible: use 32 to 1024"),
        ({"shard": 4, "shards": 3}, "shard 4/3 does not exist"),
        ({"shards": 0, "shard": 0}, "does not exist"),
        ({"shard": 1, "shards": 50}, "too few for 50 shards"),
        ({"partition": "odd"}, "use iid, dirichlet:ALPHA"),
        ({"role": "odd"}, "unknown role"),
    ],
)
def test_options_that_cannot_be(
    task: ChestXray, folder: Folder, change: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        task.prepare(options(folder(), **change), Watch())


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (
            ("NORMAL", "PNEUMONIA"),
            r"none of the 12 images in .* can be used \(NORMAL/IM-0000-0000.png is no JPEG",
        ),
        (("NORMAL",), "no image of class NORMAL .* can be read"),
    ],
)
def test_a_folder_without_usable_images(
    task: ChestXray, folder: Folder, spoilt: tuple[str, ...], says: str
) -> None:
    data = folder()
    for name in spoilt:
        for path in (data / name).iterdir():
            path.write_text("no image")
    with pytest.raises(DataError, match=says):
        task.prepare(options(data), Watch())


def test_preparing_can_be_given_up(task: ChestXray, folder: Folder) -> None:
    with pytest.raises(Cancelled):
        task.prepare(options(folder()), Watch(lambda: True))


def test_a_round_is_the_same_to_the_bit(task: ChestXray, folder: Folder) -> None:
    dataset = task.prepare(options(folder(count=10)), Watch())
    model = task.initialise("hilum-cnn", 32, 1, None)
    start = Model(values(model), model.metadata)
    deltas = []
    for one in (task, task, ChestXray(Place("cpu", 1))):
        update = one.train(start, PLAN, dataset, Watch())
        deltas.append({name: array.copy() for name, array in update.delta.items()})
        assert update.num_examples == dataset.num_examples
        assert set(update.metrics) == {"train_loss", "local_steps", "val_loss", "val_accuracy", "val_auroc"}
    assert set(deltas[0]) == set(start.params)
    for other in deltas[1:]:
        assert all(np.array_equal(deltas[0][name], other[name]) for name in other)
    assert any(np.abs(array).max() > 1e-4 for array in deltas[0].values())


def test_the_delta_is_trained_minus_global(task: ChestXray, folder: Folder) -> None:
    dataset = task.prepare(options(folder()), Watch())
    model = task.initialise("hilum-cnn", 32, 1, None)
    start = Model(values(model), model.metadata)
    delta = dict(task.train(start, PLAN, dataset, Watch()).delta.items())
    moved = Model({name: start.params[name] + delta[name] for name in delta}, model.metadata)
    resident = task._resident
    assert resident is not None
    now = resident[1].state_dict()
    assert all(np.allclose(moved.params[name], now[name].numpy(), atol=1e-6) for name in delta)
    still = task.train(start, replace(PLAN, local_epochs=0), dataset, Watch())
    assert not any(array.any() for array in still.delta.values())


def test_what_is_told_of_validation_is_of_the_trained_model_on_those_held_out(
    task: ChestXray, folder: Folder
) -> None:
    dataset = task.prepare(options(folder(count=12)), Watch())
    first = task.initialise("hilum-cnn", 32, 1, None)
    start = Model(values(first), first.metadata)
    update = task.train(start, PLAN, dataset, Watch())
    moved = {name: start.params[name] + array for name, array in update.delta.items()}
    splits: Splits = dataset.content
    assert splits.validation is not None
    held_out = splits.validation.images[np.arange(len(splits.validation))]
    said = task.probabilities(Model(moved, first.metadata), held_out)
    expected = log_loss(splits.validation.labels, said, labels=[0, 1])
    assert update.metrics["val_loss"] == pytest.approx(expected, rel=1e-4)
    scored = task.evaluate(Model(moved, first.metadata), dataset, Watch(), detail=False)
    assert scored.metrics["loss"] == pytest.approx(expected, rel=1e-4)
    assert scored.counts == {
        "examples": len(said),
        "patients": dataset.summary.patients - len(set(splits.train.patients)),
    }


@pytest.mark.parametrize("model", ["hilum-cnn", "shufflenet_v2_x0_5"])
def test_a_probability_is_of_its_image_alone_without_chance(
    task: ChestXray, folder: Folder, model: str
) -> None:
    """Neither augmented nor with dropout, nor normalised by what else is in the batch."""
    splits: Splits = task.prepare(options(folder()), Watch()).content
    images = splits.train.images[np.arange(len(splits.train))]
    first = task.initialise(model, 32, 1, None)
    start = Model(values(first), first.metadata)
    together = task.probabilities(start, images)
    assert np.array_equal(together, task.probabilities(start, images))
    alone = np.concatenate([task.probabilities(start, image[None]) for image in images])
    assert together == pytest.approx(alone, abs=1e-5)
    with torch.inference_mode():
        logits = task.module(start)(plain_batch(torch.from_numpy(images)))
    assert together == pytest.approx(torch.softmax(logits, dim=1).numpy(), abs=1e-5)
    mild = task.probabilities(Model(start.params, {**first.metadata, "temperature": "2"}), images)
    assert mild == pytest.approx(torch.softmax(logits / 2, dim=1).numpy(), abs=1e-5)


def test_the_report_is_told_at_the_temperature_of_the_model(task: ChestXray, folder: Folder) -> None:
    dataset = task.prepare(options(folder(), role="eval"), Watch())
    first = task.initialise("hilum-cnn", 32, 1, None)
    warm = Model(values(first), {**first.metadata, "temperature": "2"})
    score = task.evaluate(warm, dataset, Watch(), detail=True)
    assert score.detail is not None and score.detail["temperature"] == 2.0
    plain = task.evaluate(Model(warm.params, first.metadata), dataset, Watch(), detail=True)
    assert score.metrics == plain.metrics, "figures are of the model as it is"
    assert plain.detail is not None and plain.detail["temperature"] == 1.0


def test_batchnorm_statistics_travel_and_counters_do_not(task: ChestXray, folder: Folder) -> None:
    dataset = task.prepare(options(folder()), Watch())
    model = task.initialise("shufflenet_v2_x0_5", 32, 1, None)
    start = Model(values(model), model.metadata)
    delta = task.train(start, PLAN, dataset, Watch()).delta
    assert delta["conv1.1.running_mean"].any()
    assert delta["conv1.1.running_mean"].dtype == np.float32
    assert not [name for name in delta if "num_batches" in name]


@pytest.mark.parametrize("model", ["hilum-cnn", "mobilenet_v3_small"])
def test_one_image_is_enough_to_train(task: ChestXray, folder: Folder, model: str) -> None:
    data = folder(count=1)
    dataset = task.prepare(options(data, shard=1, shards=2), Watch())
    assert dataset.num_examples == 1
    first = task.initialise(model, 32, 1, None)
    update = task.train(Model(values(first), first.metadata), PLAN, dataset, Watch())
    assert all(np.isfinite(array).all() for array in update.delta.values())
    assert "val_auroc" not in update.metrics


def test_learning_from_phantoms(task: ChestXray, tmp_path: Path) -> None:
    from fl_tasks.phantoms import write_phantoms

    data = write_phantoms(tmp_path / "phantoms", train=200, test=60)
    train = task.prepare(options(data, image_size=32), Watch())
    test = task.prepare(options(data, image_size=32, role="eval"), Watch())
    first = task.initialise("hilum-cnn", 32, 1, None)
    start = Model(values(first), first.metadata)
    before = task.evaluate(start, test, Watch(), detail=False)
    assert before.detail is None
    update = task.train(start, replace(PLAN, local_epochs=6, batch_size=8), train, Watch())
    after = Model({name: start.params[name] + array for name, array in update.delta.items()}, first.metadata)
    score = task.evaluate(after, test, Watch(), detail=True)
    assert score.metrics["auroc"] > max(0.8, before.metrics["auroc"])
    assert score.detail is not None
    assert score.detail["auroc_interval"][0] < score.metrics["auroc"] <= score.detail["auroc_interval"][1]
    assert (score.detail["images"], score.detail["classes"]) == (60, ["NORMAL", "PNEUMONIA"])


def test_metadata_say_all_that_prediction_needs(task: ChestXray) -> None:
    metadata = task.initialise("hilum-cnn", 40, 1, None).metadata
    assert metadata["task"] == "chest-xray"
    assert (metadata["model"], metadata["image_size"]) == ("hilum-cnn", "40")
    assert json.loads(metadata["classes"]) == ["NORMAL", "PNEUMONIA"]
    assert json.loads(metadata["preprocessing"])["version"] == 1


def test_init_takes_the_values_and_names_what_does_not_fit(task: ChestXray, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    first = task.initialise("hilum-cnn", 32, 1, None)
    write_params(path, first.params, {})
    taken = task.initialise("hilum-cnn", 32, 2, path)
    assert np.array_equal(taken.params["head.weight"], file_params(read_header(path))["head.weight"])
    assert taken.metadata["model"] == "hilum-cnn"
    with pytest.raises(DataError, match=r"w\.safetensors does not fit model resnet18: tensor .* is "):
        task.initialise("resnet18", 32, 1, path)
    spoilt = {**values(taken), "head.bias": np.zeros(3, np.float32)}
    write_params(path, spoilt, {})
    with pytest.raises(DataError, match=r"tensor head\.bias has shape \[3\], not \[2\]"):
        task.initialise("hilum-cnn", 32, 1, path)
    with pytest.raises(DataError, match="does not exist"):
        task.initialise("hilum-cnn", 32, 1, tmp_path / "absent")


def test_a_model_that_does_not_say_what_it_is(task: ChestXray, folder: Folder) -> None:
    dataset = task.prepare(options(folder(), role="eval"), Watch())
    with pytest.raises(DataError, match="does not say which model"):
        task.evaluate(Model({}, {"image_size": "32"}), dataset, Watch(), detail=False)


def test_devices() -> None:
    assert ChestXray(Place("cpu")).device() == "cpu"
    with pytest.raises(ConfigError, match="unknown device"):
        ChestXray(Place("tpu")).device()
    if not torch.cuda.is_available():
        assert ChestXray(Place("auto")).device() == "cpu"
        with pytest.raises(ConfigError, match="use --device cpu"):
            ChestXray(Place("cuda")).device()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_a_round_on_the_gpu_gives_its_memory_back(folder: Folder) -> None:
    task = ChestXray(Place("cuda"))
    dataset = task.prepare(options(folder()), Watch())
    first = task.initialise("hilum-cnn", 32, 1, None)
    update = task.train(Model(values(first), first.metadata), PLAN, dataset, Watch())
    assert all(np.isfinite(array).all() for array in update.delta.values())
    assert torch.cuda.memory_allocated() < 2**20


def test_a_folder_a_site_is_dealt_by_file(task: ChestXray, folder: Folder) -> None:
    folder("all/south", count=6)
    data = folder("all/north", count=4, split="train").parent
    how = options(data, partition="by-file", shards=2)
    north, south = (task.prepare(replace(how, shard=shard), Watch()) for shard in (1, 2))
    assert (north.summary.images, south.summary.images) == (8, 12)
    assert all(patient.startswith("north/") for patient in north.content.train.patients)
    with pytest.raises(DataError, match="the data name 2 sites, not 3"):
        task.prepare(options(data, partition="by-file", shards=3), Watch())
    assert [part.site for part in task.deal(how, Watch())] == ["north", "south"]
    assert {part.site for part in task.deal(options(data, shards=2), Watch())} == {""}
    mixed = task.prepare(options(data, shards=3), Watch()).content.train.patients
    assert {patient.partition("/")[0] for patient in mixed} == {"north", "south"}


def test_a_table_says_who_validates_and_who_is_where(task: ChestXray, folder: Folder) -> None:
    data = folder(count=6)
    rows = ["path,label,patient,site,split"]
    for label, kind in enumerate(("NORMAL", "PNEUMONIA")):
        for index, path in enumerate(sorted((data / kind).iterdir())):
            split = ("train", "train", "train", "val", "test", "test")[index]
            rows.append(f"{kind}/{path.name},{label},p{label}{index},{'ab'[index % 2]},{split}")
    table = data / "table.csv"
    table.write_text("\n".join([*rows, "NORMAL/gone.png,0,p9,a,train"]))
    dataset = task.prepare(options(table), Watch())
    splits: Splits = dataset.content
    assert splits.validation is not None
    assert set(splits.validation.patients) == {"p03", "p13"}
    assert (len(splits.train), dataset.problems) == (6, ("NORMAL/gone.png does not exist",))
    assert task.prepare(options(table, role="eval"), Watch()).summary.images == 4
    at_b = task.prepare(options(table, partition="by-file", shards=2, shard=2), Watch()).content
    assert {*at_b.train.patients, *at_b.validation.patients} == {"p01", "p11", "p03", "p13"}


def test_what_test_shares_with_train_is_a_remark(task: ChestXray, folder: Folder) -> None:
    folder(count=6, split="test")
    data = folder(count=6, split="train")
    problems = task.prepare(options(data), Watch()).problems
    assert "12 training images are in the test part too, such as NORMAL/IM-0000-0000.png" in problems[0]
    assert "6 patients are in the training and in the test part" in problems[1]
    for path in (data / "test" / "PNEUMONIA").iterdir():
        path.unlink()
    assert (
        task.prepare(options(data), Watch()).problems == ()
    )  # a test part that is no good is another's affair


def test_a_site_of_black_images_is_told_so(task: ChestXray, folder: Folder) -> None:
    data = folder(count=3)
    for path in data.rglob("*.png"):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)
    with pytest.raises(
        DataError, match=r"none of the 6 images .* shows nothing: it has one grey or colour only"
    ):
        task.prepare(options(data), Watch())


def test_three_images_are_enough_to_train_and_one_class_is_too_little(
    task: ChestXray, folder: Folder
) -> None:
    data = folder(count=2)
    next((data / "NORMAL").iterdir()).unlink()
    dataset = task.prepare(options(data), Watch())
    assert dataset.num_examples >= 1
    model = task.initialise("hilum-cnn", 32, 1, None)
    task.train(Model(values(model), model.metadata), PLAN, dataset, Watch())
    for path in (data / "NORMAL").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="has images of one class only"):
        task.prepare(options(data), Watch())


def test_dicom_trains_and_predicts_like_any_other(task: ChestXray, tmp_path: Path) -> None:
    for label, kind in enumerate(("NORMAL", "PNEUMONIA")):
        for index in range(4):
            pixels = 200 * draw(label, np.random.default_rng([label, index])).astype(np.uint16)
            radiograph(tmp_path / "d" / kind / f"{index}.dcm", pixels, PatientID=f"{kind}{index // 2}")
    (tmp_path / "d" / "NORMAL" / "ct.dcm").write_bytes(b"no dicom")
    dataset = task.prepare(options(tmp_path / "d"), Watch())
    assert (dataset.summary.images, dataset.summary.patients, dataset.summary.unreadable) == (8, 4, 1)
    assert "NORMAL/ct.dcm is no DICOM file" in dataset.problems
