"""What can be wrong with the data of ``fl-sim``: one line that names it, or a federation that goes on without it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import phantoms
from tests.e2e.processes import ECHO_JOB, Programs, rounds
from tests.packages import make_package
from tests.radiographs import radiograph

SMALL = ("--rounds", 1, "--image-size", 32, "--model", "tiny-cnn", "--workers", 1)
NPZ = ("--task", "medmnist:pneumoniamnist", "--data", "arrays.npz")
XRAYS = ("--data", "xrays", "--eval-data", "xrays")


def blacken(folder: Path) -> None:
    for path in folder.rglob("*.jpeg"):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)


def one_class(folder: Path) -> None:
    shutil.rmtree(phantoms(folder / "xrays", 3) / "PNEUMONIA")


def all_black(folder: Path) -> None:
    blacken(phantoms(folder / "xrays", 3))


def a_black_test(folder: Path) -> None:
    phantoms(folder / "xrays" / "train", 6)
    blacken(phantoms(folder / "xrays" / "test", 2))


def three_images(folder: Path) -> None:
    phantoms(folder / "xrays", 2)
    (folder / "xrays" / "NORMAL" / "IM-0001-0001.jpeg").unlink()


def an_unknown_label(folder: Path) -> None:
    images = sorted(phantoms(folder / "xrays", 3).rglob("*.jpeg"))
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in images]
    (folder / "table.csv").write_text(
        "\n".join(["path,label", *rows[:-1], rows[-1].replace(",PNEU", ",COVID")])
    )


def arrays(folder: Path, **changes: np.ndarray) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 28, 28)).astype(np.uint8)
    labels = (np.arange(20) % 2).astype(np.uint8)
    parts = {f"{part}_{what}": value for part in ("train", "val", "test")
             for what, value in (("images", pixels), ("labels", labels))}  # fmt: skip
    np.savez(folder / "arrays.npz", **{**parts, **changes})  # type: ignore[arg-type]


def pickled(folder: Path) -> None:
    arrays(folder, train_labels=np.array([{}] * 20, dtype=object))


def a_pickled_test(folder: Path) -> None:
    arrays(folder, test_labels=np.array([{}] * 20, dtype=object))


def labels_beyond(folder: Path) -> None:
    arrays(folder, train_labels=np.full(20, 7, np.uint8))


def a_strategy_that_raises(folder: Path) -> None:
    source = (
        "from dataclasses import dataclass\nfrom aggregator.strategies.fedavg import FedAvg\n@dataclass(frozen=True)\n"
        "class Own(FedAvg):\n    def combine(self, piece, weights):\n        raise ValueError('not today')\n"
    )
    points = {"hilum.strategies": {"own": "acme:Own"}, "hilum.tasks": {"ours": "acme:nothing_like_that"}}
    make_package(folder / "site", "acme", points, {"acme.py": source})
    phantoms(folder / "xrays", 6)


@pytest.mark.parametrize(
    ("prepare", "words", "says"),
    [
        (one_class, ("run", "--data", "xrays"), "xrays has images of one class only: put .*PNEUMONIA"),
        (one_class, ("compare", *XRAYS), "xrays has images of one class only: put .*PNEUMONIA"),
        (all_black, ("run", "--data", "xrays", "--clients", 2), "none of the 6 images in xrays can be used .*shows nothing"),
        (a_black_test, ("run", "--data", "xrays", "--clients", 2),
         "none of the 4 images in the test part of xrays can be used .*shows nothing"),
        (a_black_test, ("compare", "--data", "xrays", "--clients", 2),
         "none of the 4 images in the test part of xrays can be used .*shows nothing"),
        (three_images, ("run", "--data", "xrays", "--clients", 4), "3 patients are too few for 4 shards: .*--clients"),
        (an_unknown_label, ("run", "--data", "table.csv"), "table.csv, line 7: label 'COVIDMONIA' is unknown: use NORMAL or"),
        (pickled, ("run", *NPZ, "--clients", 2), "arrays.npz holds pickled objects .train_labels.npy"),
        (a_pickled_test, ("compare", *NPZ, "--clients", 2), "arrays.npz holds pickled objects .test_labels.npy"),
        (labels_beyond, ("run", *NPZ, "--clients", 2), r"train_labels\[0\] is 7, which is none of the 2 classes"),
        (a_strategy_that_raises, ("run", "--data", "xrays", "--clients", 2, "--strategy", "own"),
         r"strategy 'own' of package acme \(acme:Own\) failed: ValueError: not today; mend or uninstall it"),
        (a_strategy_that_raises, ("compare", *XRAYS, "--clients", 2, "--strategy", "own"),
         r"strategy 'own' of package acme \(acme:Own\) failed: ValueError: not today; mend or uninstall it"),
        (a_strategy_that_raises, ("run", "--data", "xrays", "--clients", 2, "--task", "ours"),
         "task 'ours' of package acme .* cannot be loaded"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    programs: Programs, prepare: Callable[[Path], None], words: tuple[object, ...], says: str
) -> None:
    prepare(programs.folder)
    path = os.pathsep.join((str(programs.folder / "site"), programs.env["PYTHONPATH"]))
    program = programs.start("fl-sim", *words, *SMALL, "--out", "sim", env={"PYTHONPATH": path})
    assert program.wait(90) == 2, program.told()
    (line,) = program.err.splitlines()
    assert re.search(says, line), program.told()


def test_odd_sites_take_part_as_far_as_they_can_under_their_own_names(programs: Programs) -> None:
    """One class, three images, all black, a folder that is no class, a DICOM that lies: each told, none in the way."""
    sites = programs.folder / "sites"
    for name, count in (("St. Mary", 6), ("one class", 4), ("dark", 3), ("three", 2)):
        phantoms(sites / name / "train", count)
        phantoms(sites / name / "test", 1)
    shutil.rmtree(sites / "one class" / "train" / "PNEUMONIA")
    (sites / "three" / "train" / "NORMAL" / "IM-0001-0001.jpeg").unlink()
    blacken(sites / "dark" / "train")
    shutil.copytree(sites / "St. Mary" / "train" / "NORMAL", sites / "St. Mary" / "train" / "COVID")
    radiograph(sites / "St. Mary" / "train" / "NORMAL" / "lies.dcm", Rows=60_000, Columns=60_000)
    radiograph(sites / "three" / "test" / "NORMAL" / "lies.dcm", Rows=60_000, Columns=60_000)
    program = programs.start(
        "fl-sim", "run", "--data", sites, "--partition", "by-file", "--clients", 4, *SMALL, "--out", "sim"
    )
    assert program.wait(90) == 0, program.told()
    able = ["one-class", "st-mary", "three"]
    for said in (
        "without anything to train on, and away: dark", "dark/NORMAL/IM-0000-0001.jpeg shows nothing",
        "1 of 4 parts are of one class each", "COVID is no class of this task: its 6 images are left out",
        "St. Mary/NORMAL/lies.dcm says 60000 x 60000 pixels", "what is scored on: three/NORMAL/lies.dcm says 60000",
        f"clients={','.join(able)}", "accepted client=st-mary examples=",
    ):  # fmt: skip
        assert said in program.out, said + program.told()
    (record,) = rounds(programs.folder / "sim")
    assert (record["outcome"], record["cohort"]) == ("closed", able)
    assert {*record["sites"]} <= {*able} and "st-mary" in record["sites"]
    parts = json.loads((programs.folder / "sim" / "parts.json").read_text())
    assert [each["site"] for each in parts["sites"]] == ["st-mary", "dark", "one-class", "three"]
    page = (programs.folder / "sim" / "report.html").read_text()
    assert "st-mary" in page and "client-1" not in page


def test_several_folders_are_the_sites_of_a_run(programs: Programs) -> None:
    for name in ("North", "south"):
        phantoms(programs.folder / name / "train", 4)
        phantoms(programs.folder / name / "test", 1)
    several = ("--data", "North", "--data", "south")
    program = programs.start("fl-sim", "run", *several, *SMALL, "--out", "sim", "--json")
    assert program.wait(90) == 0, program.told()
    assert "auroc" in json.loads(program.out)["metrics"], "scored on the test parts of both"
    (record,) = rounds(programs.folder / "sim")
    assert record["cohort"] == ["north", "south"]


def test_a_site_that_diverges_says_so_and_the_round_goes_on_without_it(programs: Programs) -> None:
    program = programs.start(
        "fl-sim", "run", *ECHO_JOB, "--clients", 3, "--quorum", 2, "--rounds", 2, "--out", "sim",
        env={"ECHO_DIVERGES_AT": "3"},
    )  # fmt: skip
    assert program.wait(60) == 0, program.told()
    line = 'round=1 declined client=client-3 reason="the loss is not finite at step 3 of 9: lower --learning-rate"'
    assert line in program.out
    told = rounds(programs.folder / "sim")
    assert [record["outcome"] for record in told] == ["closed_short", "closed_short"]
    assert told[0]["rejected"][0]["client_id"] == "client-3"


def test_of_a_comparison_the_way_that_diverges_is_named(programs: Programs) -> None:
    phantoms(programs.folder / "xrays" / "train", 6)
    phantoms(programs.folder / "xrays" / "test", 2)
    program = programs.start(
        "fl-sim", "compare", "--data", "xrays", "--clients", 2, *SMALL, "--out", "sim", "--learning-rate", 1e6,
        "--local-epochs", 9,
    )  # fmt: skip
    assert program.wait(90) == 4, program.told()
    (line,) = program.err.splitlines()
    assert line.startswith("fl-sim: federated (all sites): round 1 was abandoned: 0 updates"), line
    assert "the loss is not finite" in program.out


def test_a_draw_that_leaves_a_site_nothing_is_told(programs: Programs) -> None:
    phantoms(programs.folder / "xrays", 6)
    program = programs.start(
        "fl-sim", "run", "--data", "xrays", "--clients", 6, "--partition", "dirichlet:0.01", *SMALL, "--out", "sim"
    )  # fmt: skip
    assert program.wait(90) == 0, program.told()
    assert "of 6 parts have one patient: the draw of dirichlet:0.01 leaves" in program.out
    assert rounds(programs.folder / "sim")[0]["outcome"] == "closed"
