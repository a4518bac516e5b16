from __future__ import annotations

from pathlib import Path

import numpy as np

from fl_tasks.folder import NOTE, is_phantoms, list_images
from fl_tasks.phantoms import draw, write_phantoms


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpeg")}


def test_a_seed_gives_the_same_folder(tmp_path: Path) -> None:
    one = bytes_of(write_phantoms(tmp_path / "a", 12, 6))
    assert one == bytes_of(write_phantoms(tmp_path / "b", 12, 6))
    assert set(one) == set(bytes_of(write_phantoms(tmp_path / "c", 12, 6, seed=1)))
    assert one != bytes_of(tmp_path / "c")


def test_the_folder_is_one_the_task_reads_with_patients_apart(tmp_path: Path) -> None:
    data = str(write_phantoms(tmp_path / "a", 12, 6))
    train, test = list_images(data, "train"), list_images(data, "eval")
    assert (len(train), len(test)) == (12, 6)
    assert {image.label for image in train} == {image.label for image in test} == {0, 1}
    assert len({image.patient for image in train}) < len(train)
    assert not {image.patient for image in train} & {image.patient for image in test}


def test_it_says_that_it_is_synthetic(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "a", 2, 2)
    assert is_phantoms(folder)
    assert "synthetic" in (folder / NOTE).read_text()
    assert not is_phantoms(tmp_path)


def test_a_whole_folder_is_kept_and_a_part_is_completed(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "a", 4, 2)
    whole = bytes_of(folder)
    first = next(folder.rglob("*.jpeg"))
    stamp = first.stat().st_mtime_ns
    write_phantoms(folder, 4, 2)
    assert first.stat().st_mtime_ns == stamp
    first.unlink()
    (folder / NOTE).unlink()
    assert bytes_of(write_phantoms(folder, 4, 2)) == whole


def test_pneumonia_is_cloudier_but_no_single_number_tells() -> None:
    lungs = [
        np.array([draw(label, np.random.default_rng([label, i]))[40:80, 25:50].mean() for i in range(80)])
        for label in (0, 1)
    ]
    assert lungs[1].mean() > lungs[0].mean()
    assert max(lungs[0]) > np.median(lungs[1])
