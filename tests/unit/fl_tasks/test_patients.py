from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fl_tasks.patients import patient_of


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("person80_virus_150", "person80_virus"),
        ("person80_bacteria_389", "person80_bacteria"),
        ("IM-0115-0001", "IM-0115"),
        ("NORMAL2-IM-0115-0001", "NORMAL2-IM-0115"),
        ("NORMAL2-IM-1128-0001-0002", "NORMAL2-IM-1128"),
        ("00000001_000", "00000001"),
        ("holiday", "file:own"),
        ("person80_fungus_1", "file:own"),
        ("12_3", "file:own"),
    ],
)
def test_names(stem: str, patient: str) -> None:
    assert patient_of(stem, "own") == patient


def test_the_manifests_agree(real_data: Path) -> None:
    for name in ("chest_xray_manifest.csv", "nih_chestxray14_manifest.csv"):
        with (real_data / name).open() as file:
            rows = [(Path(row["path"]).stem, row["patient"]) for row in csv.DictReader(file)]
        ours = [patient_of(stem, stem) for stem, _ in rows]
        assert len(set(zip(ours, (theirs for _, theirs in rows), strict=True))) == len(set(ours))
        assert len(set(ours)) == len({theirs for _, theirs in rows})
