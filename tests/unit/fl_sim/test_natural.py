from __future__ import annotations

from pathlib import Path

import pytest

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.topics import checked_name
from fl_sim.natural import as_clients, gather, laid_out, name_of
from fl_tasks.folder import list_images
from fl_tasks.jobs import EVAL, TRAIN


def hospital(folder: Path, patients: int, *parts: str) -> Path:
    for part in parts or ("",):
        for kind, stem in (("NORMAL", "IM-{:04d}-{}"), ("PNEUMONIA", "person{}_virus_{}")):
            (folder / part / kind).mkdir(parents=True)
            for patient in range(patients):
                for image in range(2):
                    name = stem.format(patient, f"{patient}{image}") + ".png"
                    (folder / part / kind / name).write_bytes(b"x")
    return folder


def test_a_folder_with_a_test_part_is_linked_as_it_is(tmp_path: Path) -> None:
    whole = hospital(tmp_path / "General", 5, "train", "test")
    other = hospital(tmp_path / "Other", 5)
    assert gather([str(whole), str(other)], tmp_path / "sites", 0) == ["general", "other"]
    assert (tmp_path / "sites" / "general").resolve() == whole
    assert len(list_images(str(tmp_path / "sites" / "general"), EVAL)) == 20


def test_patients_are_held_out_where_there_is_no_test_part(tmp_path: Path) -> None:
    gather([str(hospital(tmp_path / "a", 20)), str(hospital(tmp_path / "b", 20))], tmp_path / "sites", 3)
    site = str(tmp_path / "sites" / "a")
    train, test = list_images(site, TRAIN), list_images(site, EVAL)
    assert (len(train), len(test)) == (64, 16), "a fifth of the patients of each class"
    assert not {image.patient for image in train} & {image.patient for image in test}
    assert {image.label for image in test} == {0, 1}


def test_the_same_seed_holds_out_the_same_patients(tmp_path: Path) -> None:
    folders = [str(hospital(tmp_path / name, 20)) for name in "ab"]
    found = []
    for seed in (1, 1, 2):
        gather(folders, tmp_path / "sites", seed)
        found.append([image.name for image in list_images(str(tmp_path / "sites" / "a"), EVAL)])
    assert found[0] == found[1] != found[2]


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [str(hospital(tmp_path / where / "xrays", 3)) for where in "ab"]
    with pytest.raises(ConfigError, match="same name"):
        gather(folders, tmp_path / "sites", 0)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no class folders"):
        gather([str(tmp_path / "empty"), str(hospital(tmp_path / "b", 3))], tmp_path / "sites", 0)


def test_names_are_those_of_clients() -> None:
    assert name_of("/x/St. Mary's (2)/") == "st-mary-s-2"
    assert name_of("/x/...") == "site"


def test_sites_of_any_name_are_clients_of_their_own() -> None:
    given = ["St. Mary", "Zürich", "st-mary", "北京", "", "_aggregator", "x" * 80, "x" * 70]
    names = as_clients(given)
    assert names[:6] == ("st-mary", "zurich", "st-mary-2", "site", "site-2", "site-3")
    assert len({*names}) == len(given)
    assert [checked_name(name, "a site") for name in names] == [*names]


def test_several_folders_are_sites_and_one_is_dealt_out(tmp_path: Path) -> None:
    folders = [str(hospital(tmp_path / name, 4, "train", "test")) for name in ("North", "south")]
    assert laid_out([], 8, "iid", tmp_path / "out", 0) == (None, 8, "iid")
    assert laid_out(folders[:1], 8, "iid", tmp_path / "out", 0) == (folders[0], 8, "iid")
    sites = str(tmp_path / "out" / "sites")
    assert laid_out(folders, 8, "iid", tmp_path / "out", 0) == (sites, 2, "by-file")
    with pytest.raises(ConfigError, match="leave --partition out"):
        laid_out(folders, 8, "dirichlet:1", tmp_path / "out", 0)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot write to .*taken.*another --out"):
        laid_out(folders, 8, "iid", tmp_path / "taken", 0)
