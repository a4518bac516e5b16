"""The history: run directories below one folder, read within bounds. No name in a request reaches beyond that folder."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_web.dashboard.lines import differing, is_synthetic, parsed, round_of, settings_of, thinned

MAX_RUNS, MAX_FOLDERS, MAX_DEPTH = 500, 5000, 4
MAX_LINE, MAX_LINES, MAX_FILE = 1024 * 1024, 20_000, 256 * 1024 * 1024
MAX_POINTS = 1000
MAX_CONFIG = 1024 * 1024
COMPARED = 6
WORD = re.compile(r"(?!\.)[\w .+=,@()~-]{1,100}", re.ASCII)
ROUNDS, CONFIG, REPORT = "rounds.jsonl", "config.json", "report.html"
FILES = {
    "best.safetensors": "best model",
    "global.safetensors": "newest model",
    ROUNDS: "rounds",
    CONFIG: "settings",
    "evaluation.json": "evaluation",
    REPORT: "report",
}
"""What may be had of a run, and what it is."""


@dataclass(frozen=True)
class Summary:
    """A run in the list."""

    name: str
    rounds: int
    ended_at: float
    task: str
    model: str
    strategy: str
    synthetic: bool
    best: float | None
    metric: str
    files: tuple[str, ...]


class Runs:
    """What lies below ``root``. Nothing is kept but the summaries of files that have not changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: OrderedDict[tuple[str, int, int], Summary] = OrderedDict()

    def listed(self) -> list[Summary]:
        """The newest MAX_RUNS, newest first."""
        found = [(self._changed_at(folder), folder) for folder in self._folders()]
        newest = sorted(found, key=lambda each: (-each[0], str(each[1])))[:MAX_RUNS]
        return [self._summary(folder, changed_at) for changed_at, folder in newest]

    def folder(self, name: str) -> Path | None:
        """The run directory ``name``, if it is one below the root, reached through no link."""
        words = name.split("/")
        if not 0 < len(words) <= MAX_DEPTH or not all(WORD.fullmatch(word) for word in words):
            return None
        try:
            root = self.root.resolve()
            path = root.joinpath(*words)
            return path if path.resolve() == path and _is_run(path) else None
        except (OSError, RuntimeError):
            return None

    def file(self, name: str, file: str) -> Path | None:
        """One of the FILES of a run; never what a link points at."""
        folder = self.folder(name)
        if folder is None or file not in FILES:
            return None
        path = folder / file
        return path if path.is_file() and not path.is_symlink() else None

    def compared(self, names: list[str]) -> dict[str, Any] | None:
        """Rounds and settings of several runs side by side; None if one of them is no run."""
        folders = [self.folder(name) for name in names[:COMPARED]]
        if not folders or None in folders:
            return None
        settings = [_settings(folder) for folder in folders if folder is not None]
        runs = [
            {
                "name": name,
                "synthetic": is_synthetic(told),
                "rounds": thinned(list(rounds_in(folder / ROUNDS)), MAX_POINTS),
                "files": [each for each in FILES if (folder / each).is_file()],
            }
            for name, folder, told in zip(names, folders, settings, strict=False)
            if folder is not None
        ]
        return {
            "runs": runs,
            "differing": differing(settings),
            "settings": settings[0] if len(settings) == 1 else {},
        }

    def _folders(self) -> Iterator[Path]:
        """Run directories, not deeper than MAX_DEPTH; what is inside one is not looked into further."""
        todo, looked = [(self.root, 0)], 0
        while todo and looked < MAX_FOLDERS:
            folder, depth = todo.pop(0)
            looked += 1
            if depth and _is_run(folder):
                yield folder
                continue
            if depth < MAX_DEPTH:
                todo += [(each, depth + 1) for each in _children(folder)]

    def _changed_at(self, folder: Path) -> float:
        name = ROUNDS if (folder / ROUNDS).is_file() else CONFIG
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            return 0.0

    def _summary(self, folder: Path, changed_at: float) -> Summary:
        name = folder.relative_to(self.root).as_posix()
        try:
            size = (folder / ROUNDS).stat().st_size
        except OSError:
            size = 0
        key = name, size, int(changed_at * 1000)
        found = self._known.get(key) or _summarised(folder, name, changed_at)
        self._known[key] = found
        while len(self._known) > MAX_RUNS:
            self._known.popitem(last=False)
        return found


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                it.name for it in entries if it.is_dir(follow_symlinks=False) and WORD.fullmatch(it.name)
            ]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (ROUNDS, CONFIG))


def _summarised(folder: Path, name: str, changed_at: float) -> Summary:
    settings, count, best, metric = _settings(folder), 0, None, ""
    for line in rounds_in(folder / ROUNDS):
        count += 1
        for source, prefix in ((line["metrics"], ""), (line["client_metrics"], "client_eval_")):
            value = source.get("auroc" if not prefix else "eval_auroc")
            if value is not None:
                best, metric = (value if best is None else max(best, value)), f"{prefix}auroc"
                break
    said = {key: settings.get(key, {}).get("value", "") for key in ("task", "model", "strategy")}
    files = tuple(each for each in FILES if (folder / each).is_file() and not (folder / each).is_symlink())
    return Summary(name, count, changed_at, said["task"], said["model"], said["strategy"], is_synthetic(settings), best,
                   metric, files)  # fmt: skip


def _settings(folder: Path) -> dict[str, dict[str, str]]:
    try:
        with (folder / CONFIG).open("rb") as file:
            body = file.read(MAX_CONFIG + 1)
    except OSError:
        return {}
    return settings_of(parsed(body)) if len(body) <= MAX_CONFIG else {}


def rounds_in(path: Path) -> Iterator[dict[str, Any]]:
    """The rounds of a rounds.jsonl, as long as lines and file are of a sane size; what is no round is left out."""
    taken = 0
    try:
        with path.open("rb") as file:
            for _ in range(MAX_LINES):
                line = file.readline(MAX_LINE + 1)
                taken += len(line)
                if not line or len(line) > MAX_LINE or taken > MAX_FILE:
                    return
                found = round_of(parsed(line))
                if found is not None:
                    yield found
    except OSError:
        return
