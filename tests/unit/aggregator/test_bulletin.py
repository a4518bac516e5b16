"""What operators read: retained, bounded, told a little at a time, and cleared when it is of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aggregator.bulletin import EVERY_S, KEPT, LINES_A_TIME, LOOK_S, MOST_NAMES, Bulletin, line_of
from fl_protocol import messages as msg
from fl_protocol.codec import decode
from fl_protocol.topics import Kind, parse
from tests.federations import record

ACCEPTS = (msg.PAUSE, msg.STOP)


class Broker:
    """What is retained for operators, and a bulletin that tells a run of so many rounds."""

    def __init__(self, folder: Path, instance: str = "ab") -> None:
        self.folder, self.rounds = folder, 0
        self.retained: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.bulletin = self.another(instance)

    def another(self, instance: str) -> Bulletin:
        self.bulletin = Bulletin("job", instance, self._publish)
        self.bulletin.connected()
        if (info := self.info()) is not None:
            self.bulletin.heard(info)
        return self.bulletin

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert retain and parse(topic).kind in (Kind.RUN, Kind.LINE)
        self.sent.append(topic)
        if payload:
            self.retained[topic] = payload
        else:
            self.retained.pop(topic, None)

    def begin(self, name: str) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "config.json").write_text('{"rounds": 5}')
        self.bulletin.begin(self.folder / name, self._record)

    def _record(self, number: int) -> dict[str, Any] | None:
        return record(number) if number <= self.rounds else None

    def tell(self, rounds: int, now: float = 0.0, times: int = 1) -> None:
        self.rounds = rounds
        for _ in range(times):
            self.bulletin.tell(now, rounds, ACCEPTS)

    def info(self) -> msg.RunInfo | None:
        frame = self.retained.get("fl/1/job/op/run")
        found = decode(frame, Kind.RUN) if frame else None
        assert found is None or isinstance(found, msg.RunInfo)
        return found

    def lines(self) -> dict[int, msg.RoundLine]:
        found = {}
        for topic, frame in self.retained.items():
            if (where := parse(topic)).kind is Kind.LINE:
                line = decode(frame, Kind.LINE)
                assert isinstance(line, msg.RoundLine)
                found[where.number] = line
        return dict(sorted(found.items()))


def test_the_run_and_a_line_for_every_round(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    broker.tell(0)
    assert broker.info() == msg.RunInfo("ab", "mine", b'{"rounds": 5}', ACCEPTS)
    broker.tell(2)
    assert broker.info() == msg.RunInfo("ab", "mine", b'{"rounds": 5}', ACCEPTS, first=1, newest=2)
    assert list(broker.lines()) == [1, 2]
    assert json.loads(broker.lines()[2].line) == record(2) and broker.lines()[2].run == "mine"


def test_nothing_is_told_twice_and_it_is_not_looked_all_the_time(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    broker.tell(2, now=10.0)
    assert not broker.bulletin.is_due(10.0 + EVERY_S - 0.01) and broker.bulletin.is_due(10.0 + EVERY_S)
    before = len(broker.sent)
    broker.tell(2, now=20.0)
    assert len(broker.sent) == before
    assert not broker.bulletin.is_due(20.0) and broker.bulletin.is_due(20.0 + LOOK_S)
    broker.bulletin.hurry()
    assert broker.bulletin.is_due(20.0)


def test_a_long_run_is_laid_out_the_newest_first_a_little_at_a_time_and_no_more_than_so_many(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    broker.tell(1000)
    assert list(broker.lines()) == list(range(1000 - LINES_A_TIME + 1, 1001))
    broker.tell(1000, times=KEPT)
    assert list(broker.lines()) == list(range(1000 - KEPT + 1, 1001))
    broker.tell(1002)
    assert list(broker.lines()) == list(range(1002 - KEPT + 1, 1003)), "the oldest are cleared"


def test_what_was_told_is_laid_out_again_after_a_reconnect_and_what_is_too_old_by_then_is_cleared(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    broker.tell(KEPT, times=KEPT)
    broker.retained.pop("fl/1/job/op/round/7")
    broker.bulletin.connected()
    broker.tell(KEPT + 5, times=KEPT)
    assert list(broker.lines()) == list(range(6, KEPT + 6))
    broker.retained.clear()
    broker.bulletin.connected()
    broker.tell(KEPT + 5, times=KEPT)
    assert len(broker.lines()) == KEPT and broker.info() is not None


def test_a_run_begun_afresh_clears_what_an_earlier_process_left(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    broker.tell(9)
    broker.another("cd")
    broker.begin("mine")
    broker.tell(2)
    assert list(broker.lines()) == [1, 2]
    assert broker.info() == msg.RunInfo("cd", "mine", b'{"rounds": 5}', ACCEPTS, first=1, newest=2)


def test_another_run_of_the_same_process_clears_the_one_before_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.begin("001")
    broker.tell(9)
    broker.begin("002")
    broker.tell(1)
    assert list(broker.lines()) == [1] and broker.lines()[1].run == "002"


def test_nobody_makes_us_clear_for_ever(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    lie = msg.RunInfo("ef", "x", b"", (), first=1, newest=10**7)
    for _ in range(3):
        broker.bulletin.heard(lie)
        broker.tell(0)
    assert len(broker.sent) <= KEPT + 1


def test_at_the_end_what_is_missing_is_told_and_nothing_is_accepted(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.begin("mine")
    broker.rounds = 50
    broker.bulletin.finish(50)
    assert list(broker.lines()) == list(range(1, 51))
    info = broker.info()
    assert info is not None and info.accepts == () and info.newest == 50


def test_the_line_of_a_large_cohort_is_cut_until_it_fits(tmp_path: Path) -> None:
    names = [f"client-{number:05d}" for number in range(5000)]
    figures = {f"figure-{number}": 0.123456789 for number in range(16)}
    large = record(
        1, cohort=names, accepted=names, stragglers=names[:10], sites=dict.fromkeys(names, figures),
        client_examples=dict.fromkeys(names, 7),
    )  # fmt: skip
    line = line_of(large)
    found = json.loads(line)
    assert len(line) <= msg.MAX_LINE_BYTES
    assert found["cohort"] == names[: len(found["cohort"])] and 100 < len(found["cohort"]) < MOST_NAMES
    assert len(found["sites"]) == len(found["client_examples"]) == len(found["cohort"])
    assert found["cut"] == dict.fromkeys(("cohort", "accepted", "client_examples", "sites"), 5000)
    assert found["stragglers"] == names[:10] and found["num_examples"] == 20
    assert json.loads(line_of(record(1, cohort=names))) == record(1, cohort=names[:MOST_NAMES]) | {
        "cut": {"cohort": 5000}
    }
