"""Several folders as one federation of natural sites: a folder of links, which every task that knows sites can read.

    <out>/sites/<name>/train/...    what the site trains and validates on
    <out>/sites/<name>/test/...     its part of the pooled test

A folder with a test part of its own is linked as it is. Of another, TEST_SHARE of each class's patients are held out
for the test, drawn by the seed, and every image is linked one by one. Nothing is copied.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from fl_protocol.errors import ConfigError
from fl_tasks.folder import list_images
from fl_tasks.jobs import TRAIN
from fl_tasks.partition import split_validation

TEST_SHARE = 0.2
TEST_SEED = 0x7E57
"""Added to the run's seed, so that the test is not drawn as validation patients are."""


def gather(folders: Sequence[str], out: Path, seed: int) -> list[str]:
    """Lay ``folders`` out as sites below ``out``, anew; returns the sites' names in the order of their shards.

    Raises ConfigError for two folders of one name, DataError for one that holds no images.
    """
    named = {name_of(folder): Path(folder).expanduser().resolve() for folder in folders}
    if len(named) < len(folders):
        raise ConfigError(
            "two --data folders have the same name: a site is named after its folder, so rename one"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, folder in named.items():
        if (folder / "test").is_dir():
            (out / name).symlink_to(folder, target_is_directory=True)
        else:
            _split(folder, out / name, seed)
    return sorted(named)


def name_of(folder: str) -> str:
    """A folder's own name as a client's: small letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^a-z0-9_-]+", "-", Path(folder).expanduser().resolve().name.lower())[:64] or "site"


def _split(folder: Path, target: Path, seed: int) -> None:
    """Links to every image of ``folder``, those of the test's patients apart."""
    images = list_images(str(folder), TRAIN)
    labels, patients = [image.label for image in images], [image.patient for image in images]
    kept, held_out = split_validation(labels, patients, seed + TEST_SEED, TEST_SHARE)
    for part, rows in (("train", kept), ("test", held_out)):
        for row in rows:
            link = target / part / images[row].name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(images[row].path.resolve())
