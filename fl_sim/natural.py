"""Several folders as one federation of natural sites: a folder of links, which every task that knows sites can read.

    <out>/sites/<name>/train/...    what the site trains and validates on
    <out>/sites/<name>/test/...     its part of the pooled test

A folder with a test part of its own is linked as it is. Of another, TEST_SHARE of each class's patients are held out
for the test, drawn by the seed, and every image is linked one by one. Nothing is copied.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from fl_protocol.errors import ConfigError
from fl_protocol.topics import AGGREGATOR
from fl_tasks.folder import list_images
from fl_tasks.jobs import TRAIN
from fl_tasks.partition import split_validation
from fl_tasks.partition_kind import BY_FILE, IID

TEST_SHARE = 0.2
TEST_SEED = 0x7E57
"""Added to the run's seed, so that the test is not drawn as validation patients are."""


def gather(folders: Sequence[str], out: Path, seed: int) -> list[str]:
    """Lay ``folders`` out as sites below ``out``, anew; returns the sites' names in the order of their shards.

    Raises ConfigError for two folders of one name, or where nothing can be written, DataError for one without images.
    """
    named = {name_of(folder): Path(folder).expanduser().resolve() for folder in folders}
    if len(named) < len(folders):
        raise ConfigError(
            "two --data folders have the same name: a site is named after its folder, so rename one"
        )
    shutil.rmtree(out, ignore_errors=True)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {out} ({error.strerror}): give another --out") from None
    for name, folder in named.items():
        if (folder / "test").is_dir():
            (out / name).symlink_to(folder, target_is_directory=True)
        else:
            _split(folder, out / name, seed)
    return sorted(named)


def laid_out(
    folders: Sequence[str], clients: int, partition: str, out: Path, seed: int
) -> tuple[str | None, int, str]:  # fmt: skip
    """What is dealt out, to how many, and how: several folders are a site each, gathered below ``out``."""
    if len(folders) < 2:
        return (folders[0] if folders else None), clients, partition
    if partition not in (IID, BY_FILE):
        raise ConfigError("several --data folders are the sites themselves: leave --partition out")
    names = gather(folders, out / "sites", seed)
    return str(out / "sites"), len(names), BY_FILE


def name_of(folder: str) -> str:
    """A folder's own name as a client's."""
    return as_client(Path(folder).expanduser().resolve().name)


def as_client(name: str) -> str:
    """A name of any letters as a client's: small ones, digits, ``_`` and ``-``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or name
    found = re.sub(r"[^a-z0-9_-]+", "-", plain.lower()).strip("-")[:64] or "site"
    return found if found != AGGREGATOR else "site"


def as_clients(names: Sequence[str]) -> tuple[str, ...]:
    """The same of many, each once: of two that come out alike the later one is numbered."""
    found: dict[str, None] = {}
    for name in names:
        wanted = as_client(name)
        numbered = (f"{wanted[:60]}-{number}" for number in count(2))
        found[wanted if wanted not in found else next(each for each in numbered if each not in found)] = None
    return tuple(found)


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
