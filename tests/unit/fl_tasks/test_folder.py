from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fl_protocol.errors import DataError
from fl_tasks import sources
from fl_tasks.folder import list_images, quick_check


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not read here")
    return root


def test_a_split_is_preferred_to_the_root_and_test_never_trains(tmp_path: Path) -> None:
    for split in ("train", "test", "val"):
        touch(tmp_path, f"{split}/NORMAL/{split}.jpeg", f"{split}/PNEUMONIA/{split}.PNG")
    assert {image.path.stem for image in list_images(str(tmp_path), "train")} == {"train"}
    assert {image.path.stem for image in list_images(str(tmp_path), "eval")} == {"test"}


def test_a_folder_of_classes_serves_both_roles(tmp_path: Path) -> None:
    touch(tmp_path, "NORMAL/IM-1-1.jpg", "PNEUMONIA/b.jpeg", "PNEUMONIA/a.png")
    for role in ("train", "eval"):
        images = list_images(str(tmp_path), role)
        assert [(image.name, image.label) for image in images] == [
            ("NORMAL/IM-1-1.jpg", 0), ("PNEUMONIA/a.png", 1), ("PNEUMONIA/b.jpeg", 1),
        ]  # fmt: skip
        assert [image.patient for image in images] == [
            "IM-1",
            "file:PNEUMONIA/a.png",
            "file:PNEUMONIA/b.jpeg",
        ]


def test_other_files_are_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path, "NORMAL/a.png", "NORMAL/notes.txt", "NORMAL/._a.png", "NORMAL/deep/b.png", "PNEUMONIA/a.png"
    )
    (tmp_path / "NORMAL" / "folder.png").mkdir()
    assert quick_check(str(tmp_path)) == 2


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "does not exist: give a folder with DIR/train/NORMAL"),
        (["x.txt"], "has no class folders: it must look like DIR/train/NORMAL"),
        (["NORMAL/x.txt", "PNEUMONIA/x.txt"], "holds no image: put JPEG, PNG or DICOM files into"),
        (["NORMAL/x.png"], r"has images of one class only: put .* of the other into .*PNEUMONIA"),
        (
            ["PNEUMONIA/x.png", "NORMAL/x.txt"],
            r"has images of one class only: put .* of the other into .*NORMAL",
        ),
    ],
)
def test_an_unusable_folder_says_how_to_mend_it(tmp_path: Path, files: list[str], says: str) -> None:
    root = touch(tmp_path / "data", *files)
    with pytest.raises(DataError, match=says) as caught:
        quick_check(str(root))
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_file_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data DIR"):
        quick_check(None)
    with pytest.raises(DataError, match="is not a folder"):
        quick_check(str(touch(tmp_path, "x.zip") / "x.zip"))


def test_real_counts(real_data: Path) -> None:
    data = str(real_data / "chest_xray")
    train, test = list_images(data, "train"), list_images(data, "eval")
    assert (len(train), len(test)) == (4759, 283)
    patients = [
        {image.patient for image in images if image.label == label}
        for images in (train, test)
        for label in (0, 1)
    ]
    assert [len(found) for found in patients] == [1211, 2273, 93, 102]
    assert not {image.patient for image in train} & {image.patient for image in test}


def test_the_check_loads_no_torch_and_no_decoder() -> None:
    code = "import sys, fl_tasks.folder; print([m for m in ('torch', 'PIL', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sites_have_a_test_part_if_each_has_one(tmp_path: Path) -> None:
    for name in ("north", "south"):
        for part in ("train", "test"):
            (tmp_path / name / part / "NORMAL").mkdir(parents=True)
    assert sources.has_test_part(str(tmp_path))
    shutil.rmtree(tmp_path / "south" / "test")
    assert not sources.has_test_part(str(tmp_path)), "or its training images would be the test"
