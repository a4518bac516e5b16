"""What those who operate a job read of its run, retained: ``op/run``, and a line for each of the newest ended rounds.

No round waits for any of it: it is told when there is nothing else to do, a little at a time, and it is laid out again
after every reconnect. What an earlier run or process left is cleared.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from fl_protocol.codec import encode
from fl_protocol.messages import MAX_LINE_BYTES, RoundLine, RunInfo
from fl_protocol.topics import Kind, Topic

KEPT = 300
"""Ended rounds that lie on the broker, as many as the report draws one by one."""
EVERY_S, LOOK_S = 2.0, 0.25
"""How soon after having told something, and after having had nothing to tell, it is looked again."""
LINES_A_TIME, BYTES_A_TIME = 16, 1024 * 1024
MOST_NAMES = 1000
HIGHEST = 10**7 - 1
"""What a topic can name."""
LISTS = ("cohort", "accepted", "rejected", "stragglers", "stale", "client_examples", "sites")
"""The fields of a record that grow with the cohort."""

Record = dict[str, Any]


class Publish(Protocol):
    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> None: ...


class Bulletin:
    """What ``job`` tells its operators. ``begin`` says of which run."""

    def __init__(self, job: str, instance: str, publish: Publish) -> None:
        self._job, self._instance, self._publish = job, instance, publish
        self.topic = str(Topic(job, Kind.RUN))
        self._run, self._config = "", b""
        self._record: Callable[[int], Record | None] = lambda _: None
        self._told: set[int] = set()
        self._foreign: set[int] = set()
        """Rounds whose lines on the broker are of another run, or may be."""
        self._said: RunInfo | None = None
        self._listens = False
        self._next_at = 0.0

    def begin(self, path: Path, record: Callable[[int], Record | None]) -> None:
        """The run in ``path`` is told from now on; ``record`` finds that of an ended round."""
        self._foreign |= self._told
        self._told.clear()
        self._run, self._record = path.name[:64], record
        self._config = b""
        with contextlib.suppress(OSError):
            data = (path / "config.json").read_bytes()
            self._config = data if len(data) <= MAX_LINE_BYTES else b""
        self.hurry()

    def pause(self) -> None:
        """Between two runs: what is told stays, and nothing more can be."""
        self._record = lambda _: None

    def connected(self) -> None:
        """The broker may have lost everything, and what it has may be of an earlier process."""
        self._foreign |= self._told
        self._told.clear()
        self._said, self._listens = None, True

    def heard(self, info: RunInfo) -> None:
        """What an earlier process left on the broker; asked once a connection, so nobody makes us write for ever."""
        if self._listens and info.instance != self._instance and info.newest:
            self._listens = False
            newest = min(info.newest, HIGHEST)
            self._foreign |= set(range(max(info.first, newest - KEPT + 1, 1), newest + 1))
            self.hurry()

    def is_due(self, now: float) -> bool:
        """Whether it is time to look for what is not told yet."""
        return now >= self._next_at

    def hurry(self) -> None:
        """Something has changed that an operator waits for."""
        self._next_at = 0.0

    def tell(
        self, now: float, newest: int, accepts: Iterable[str], *, paused: bool = False, stopping: bool = False
    ) -> None:  # fmt: skip
        """Some of what is not told yet; ``newest`` is the last round that ended."""
        info = self._info(newest, accepts, paused, stopping)
        told = self._clear(info) + self._say(info) + self._lay_out(info)
        self._next_at = now + (EVERY_S if told else LOOK_S)

    def finish(self, newest: int) -> None:
        """The last chance: what has room at once, and that nothing is accepted any more."""
        info = self._info(newest, (), False, False)
        self._clear(info)
        self._lay_out(info, KEPT)
        self._say(info)

    def _info(self, newest: int, accepts: Iterable[str], paused: bool, stopping: bool) -> RunInfo:
        newest = min(newest, HIGHEST)
        first = max(1, newest - KEPT + 1) if newest else 0
        return RunInfo(
            self._instance, self._run, self._config, tuple(accepts), paused, stopping, first, newest
        )

    def _say(self, info: RunInfo) -> int:
        if info == self._said:
            return 0
        self._said = info
        self._publish(self.topic, encode(info), retain=True)
        return 1

    def _clear(self, info: RunInfo) -> int:
        """An empty retained message removes the one before it."""
        old = [n for n in self._told | self._foreign if not info.first <= n <= info.newest]
        for number in old:
            self._publish(self._line_topic(number), b"", retain=True)
        self._told.difference_update(old)
        self._foreign.clear()  # those that are left are replaced by ours
        return len(old)

    def _lay_out(self, info: RunInfo, most: int = LINES_A_TIME) -> int:
        """Tell lines that are missing, the newest first."""
        missing = [n for n in range(info.newest, max(0, info.first - 1), -1) if n not in self._told][:most]
        left = BYTES_A_TIME
        for number in missing:
            record = self._record(number)
            line = line_of(record) if record is not None else b""
            left -= len(line)
            if left < 0:
                break
            self._told.add(number)
            if line:
                frame = encode(RoundLine(line, self._run))
                self._publish(self._line_topic(number), frame, retain=True)
        return len(missing)

    def _line_topic(self, number: int) -> str:
        return str(Topic(self._job, Kind.LINE, number=number))


def line_of(record: Record) -> bytes:
    """The line of rounds.jsonl, with so many names in each list that it fits a frame; ``cut`` says how many there are."""
    most = MOST_NAMES
    while len(line := json.dumps(_cut(record, most), allow_nan=False).encode()) > MAX_LINE_BYTES:
        if not most:
            return b""
        most //= 2
    return line


def _cut(record: Record, most: int) -> Record:
    long = {name: record[name] for name in LISTS if len(record.get(name) or ()) > most}
    if not long:
        return record
    short = {name: _first(value, most) for name, value in long.items()}
    return record | short | {"cut": {name: len(value) for name, value in long.items()}}


def _first(value: Any, most: int) -> Any:
    return dict(list(value.items())[:most]) if isinstance(value, dict) else value[:most]
