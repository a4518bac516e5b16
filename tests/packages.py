"""Packages made on the spot, found by their entry points as installed ones are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def make_package(
    folder: Path, name: str, points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]
) -> Path:
    """A folder for ``sys.path`` that holds the files and the metadata of a package offering ``points`` (group, name,
    target).
    """
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{point} = {target}\n" for point, target in each.items())
        for group, each in points.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder
