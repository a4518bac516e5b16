from __future__ import annotations

from pathlib import Path

import pytest

from fl_protocol.errors import DataError
from fl_tasks import sources
from fl_tasks.labels_csv import list_rows

GOOD = "path,label,patient\nnormal/a.png,NORMAL,p1\nb.jpeg,PNEUMONIA,p1\n"


def table(tmp_path: Path, text: str, *images: str, name: str = "x.csv", encoding: str = "utf-8") -> Path:
    for image in images:
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / image).write_bytes(b"not read here")
    (tmp_path / name).write_bytes(text.encode(encoding))
    return tmp_path / name


def test_rows_become_images(tmp_path: Path) -> None:
    found = list_rows(table(tmp_path, GOOD, "normal/a.png", "b.jpeg"), "train")
    assert [(image.name, image.label, image.patient, image.site, image.held_out) for image in found] == [
        ("b.jpeg", 1, "p1", "", False), ("normal/a.png", 0, "p1", "", False),
    ]  # fmt: skip
    assert [image.name for image in list_rows(tmp_path / "x.csv", "eval")] == ["b.jpeg", "normal/a.png"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Path;Label;Patient\nnormal/a.png;normal;p1\nb.jpeg;1;p1\n", "utf-8"),
        ("\ufeff" + GOOD.replace("\n", "\r\n") + "\r\n,,\r\n", "utf-8"),
        ('note,label,path\nx,0,normal\\a.png\n"two\nlines",Pneumonia,./b.jpeg\n', "utf-8"),
    ],
)  # fmt: skip
def test_what_spreadsheets_write(tmp_path: Path, text: str, encoding: str) -> None:
    found = list_rows(table(tmp_path, text, "normal/a.png", "b.jpeg", encoding=encoding), "train")
    assert [(image.name, image.label) for image in found] == [("b.jpeg", 1), ("normal/a.png", 0)]


def test_splits_and_sites(tmp_path: Path) -> None:
    text = (
        "path,label,site,split\na.png,0,north,train\nb.png,1,south,train\nc.png,1,south,val\n"
        "person3_virus_1.png,1,north,test\ne.png,0,,TEST\n"
    )
    path = table(tmp_path, text, "a.png", "b.png", "c.png", "person3_virus_1.png", "e.png")
    train = list_rows(path, "train")
    assert [(image.name, image.site, image.held_out) for image in train] == [
        ("a.png", "north", False), ("b.png", "south", False), ("c.png", "south", True),
    ]  # fmt: skip
    assert [image.patient for image in list_rows(path, "eval")] == ["file:e.png", "person3_virus"]
    assert sources.has_test_part(str(path))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("/etc/x.png,0,p", r"line 3: /etc/x\.png leaves the folder of the CSV: give paths below it"),
        ("../x.png,0,p", r"line 3: \.\./x\.png leaves the folder"),
        ("a/../../x.png,0,p", "leaves the folder"),
        ("..\\x.png,0,p", "leaves the folder"),
        ("C:\\x.png,0,p", "leaves the folder"),
        ("\\\\host\\share\\x.png,0,p", "leaves the folder"),
        ("a\0.png,0,p", "leaves the folder|no sound CSV"),
        (",0,p", "line 3: the path is empty"),
        ("notes.txt,0,p", r"line 3: notes\.txt is no JPEG, PNG or DICOM file by its name"),
        ("c.png,COVID,p", "line 3: label 'COVID' is unknown: use NORMAL or PNEUMONIA"),
        ("c.png,2,p", "label '2' is unknown"),
        ("c.png,-1,p", "label '-1' is unknown"),
        ("c.png,,p", "label '' is unknown"),
        ("c.png", "label '' is unknown"),
        ("a.png,1,p", r"line 3: a\.png was named before"),
        ("./a.png,1,p", r"a\.png was named before"),
        (f"c.png,0,{'x' * 200_000}", "is no sound CSV"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: str, says: str) -> None:
    path = table(tmp_path, f"path,label,patient\na.png,0,p\n{row}\nb.png,1,p\n", "a.png", "b.png")
    with pytest.raises(DataError, match=says) as caught:
        list_rows(path, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column path and no column label: its first line names the columns"),
        ("file,label\na.png,0\n", "has no column path"),
        ("path,label\n", "names no image for train"),
        ("path,label,split\na.png,0,test\n", "names no image for train"),
        ("path,label,split\na.png,0,training\n", "split 'training' is none of train, val and test"),
        ("path,label\na.png,0\n", "names images of one class only: add rows with label PNEUMONIA"),
        (
            "path,label\nu.png,0\nv.png,1\n",
            "none of the 2 files that .* names exists: paths start at its folder",
        ),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list_rows(table(tmp_path, text, "a.png"), "train")


def test_other_files_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list_rows(tmp_path / "absent.csv", "train")
    with pytest.raises(DataError, match="is not text in UTF-8"):
        list_rows(table(tmp_path, GOOD + "ü.png,0,p\n", "normal/a.png", encoding="latin-1"), "train")


def test_a_folder_may_hold_its_table(tmp_path: Path) -> None:
    table(tmp_path, GOOD, "normal/a.png", "b.jpeg", name="labels.csv")
    assert sources.quick_check(str(tmp_path)) == sources.quick_check(str(tmp_path / "labels.csv")) == 2
    assert not sources.has_test_part(str(tmp_path))
    (tmp_path / "NORMAL").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        sources.quick_check(str(tmp_path))  # class folders come first
