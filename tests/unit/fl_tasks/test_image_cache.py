from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fl_tasks import image_cache
from fl_tasks.base import Cancelled
from fl_tasks.folder import ImageFile, list_images
from fl_tasks.image_cache import Loaded, count_duplicates, load_images


def nothing() -> None:
    return


def forbidden() -> None:
    raise Cancelled


@pytest.fixture
def files(folder: Callable[..., Path]) -> list[ImageFile]:
    return list_images(str(folder(count=3)), "train")


def same(one: Loaded, other: Loaded) -> bool:
    return (
        np.array_equal(one.images, other.images)
        and one.kept.tolist() == other.kept.tolist()
        and one.problems == other.problems
    )


def test_the_second_time_no_file_is_opened(files: list[ImageFile], tmp_path: Path) -> None:
    files[1].path.write_bytes(b"broken")
    first = load_images(files, 32, tmp_path / "cache", nothing)
    assert first.kept.tolist() == [0, 2, 3, 4, 5]
    assert first.problems == ((files[1].name, "is no JPEG, PNG or DICOM image"),)
    again = load_images(files, 32, tmp_path / "cache", forbidden)
    assert same(first, again)


def test_another_size_or_a_touched_file_is_read_anew(files: list[ImageFile], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_images(files, 32, cache, nothing)
    with pytest.raises(Cancelled):
        load_images(files, 48, cache, forbidden)
    os.utime(files[0].path, ns=(1, 1))
    touched = list_images(str(files[0].path.parents[1]), "train")
    with pytest.raises(Cancelled):
        load_images(touched, 32, cache, forbidden)


def test_what_the_key_holds_tells_files_apart(
    files: list[ImageFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    load_images(files, 32, cache, nothing)
    with pytest.raises(Cancelled):  # overwritten within one tick of the clock
        load_images([replace(files[0], size=files[0].size + 1), *files[1:]], 32, cache, forbidden)
    elsewhere = files[0].path.parent / "copy" / files[0].path.name
    with pytest.raises(Cancelled):  # another folder's file of that name, size and time
        load_images([replace(files[0], path=elsewhere), *files[1:]], 32, cache, forbidden)
    with pytest.raises(Cancelled):
        load_images(files[1:] + files[:1], 32, cache, forbidden)
    monkeypatch.setattr(image_cache, "VERSION", image_cache.VERSION + 1)
    with pytest.raises(Cancelled):
        load_images(files, 32, cache, forbidden)


def test_a_damaged_cache_file_is_replaced(files: list[ImageFile], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = load_images(files, 32, cache, nothing)
    (held,) = cache.iterdir()
    for damage in (b"", held.read_bytes()[:200]):
        held.write_bytes(damage)
        assert same(first, load_images(files, 32, cache, nothing))
        assert same(first, load_images(files, 32, cache, forbidden))


def test_a_folder_that_cannot_be_written_costs_only_time(files: list[ImageFile], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert len(load_images(files, 32, tmp_path / "file", nothing).images) == 6


def test_several_at_once_share_a_cache(files: list[ImageFile], tmp_path: Path) -> None:
    found: list[Loaded] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_images(files, 32, tmp_path / "cache", nothing)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(same(found[0], other) for other in found)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_cache_is_bounded(
    files: list[ImageFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    load_images(files, 32, cache, nothing)
    (oldest,) = cache.iterdir()
    os.utime(oldest, (1, 1))
    abandoned = cache / ".x.npz.1.tmp"
    abandoned.write_bytes(b"x")
    os.utime(abandoned, (1, 1))
    under_way = cache / ".y.npz.2.tmp"
    under_way.write_bytes(b"y")
    os.utime(under_way, (time.time(), time.time()))
    monkeypatch.setattr(image_cache, "MAX_BYTES", oldest.stat().st_size + 10)
    load_images(files, 33, cache, nothing)
    assert not oldest.exists()
    assert not abandoned.exists()
    assert under_way.exists()
    assert len(list(cache.glob("*.npz"))) == 1


def test_what_was_used_last_stays(
    files: list[ImageFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    for age, size in enumerate((32, 33, 34), 1):
        load_images(files, size, cache, nothing)
        (made,) = (path for path in cache.iterdir() if path.stat().st_mtime > 1e6)
        os.utime(made, (age, age))
    load_images(files, 32, cache, forbidden)  # it is read, and so the newest
    held = [path.stat().st_size for path in cache.iterdir()]
    monkeypatch.setattr(image_cache, "MAX_BYTES", sum(held) + 1000)  # 35 pixels a side are more than 33
    load_images(files, 35, cache, nothing)
    load_images(files, 32, cache, forbidden)
    load_images(files, 34, cache, forbidden)
    with pytest.raises(Cancelled):
        load_images(files, 33, cache, forbidden)


def test_duplicates_are_counted_beyond_the_first() -> None:
    images = np.zeros((5, 4, 4), np.uint8)
    images[3] = 1
    assert count_duplicates(images) == 3
    assert count_duplicates(images[3:]) == 0
