"""What facts mean: verdicts, advice, exit codes, and how they look."""

from __future__ import annotations

import io
import json
import re
import socket
from pathlib import Path

import pytest

from fl_protocol import doctor as dr
from fl_protocol.broker import BrokerOptions
from fl_protocol.errors import AccessRefused, DataError
from fl_protocol.network import Connected, Limits
from fl_protocol.visit import write_trial

HERE = BrokerOptions("hub.example")


def verdicts(found: list[dr.Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in found}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([dr.ok("a", "x"), dr.warn("b", "y")], 0),
        ([dr.ok("a", "x"), dr.fail("b", "y", "z", dr.THERE)], 3),
        ([dr.fail("b", "y", "z", dr.THERE), dr.fail("a", "y", "z", dr.HERE)], 2),
        ([], 0),
    ],
)
def test_the_exit_code_says_who_can_mend_it_and_this_machine_comes_first(
    found: list[dr.Finding], code: int
) -> None:
    assert dr.exit_code(found) == code


def test_an_error_is_what_was_seen_and_what_to_do() -> None:
    finding = dr.failed("mqtt", AccessRefused("hub:1883 asks for a login: give --username"))
    assert finding == dr.Finding("mqtt", "fail", "hub:1883 asks for a login", "give --username", 3)
    assert (
        dr.failed("data", DataError("x has no class folders: it must look like DIR/A, or DIR/B")).exit_code
        == 2
    )
    assert dr.failed("run", AccessRefused("no colon here")).detail == "no colon here"


@pytest.mark.parametrize(
    ("check", "error", "detail", "advice"),
    [
        ("name", socket.gaierror(socket.EAI_NONAME, "unknown"), "no host is called hub.example", "check --broker"),
        ("tcp", ConnectionRefusedError(111, "Connection refused"), "Connection refused", "start the broker"),
        ("tcp", TimeoutError("timed out"), "timed out", "firewalls"),
        ("tls", ConnectionResetError(104, "reset"), "reset", "check --broker and --tls"),
    ],
)  # fmt: skip
def test_a_way_that_is_barred_is_the_brokers_affair(
    check: str, error: OSError, detail: str, advice: str
) -> None:
    finding = dr.judge_unreachable(check, HERE, error)
    assert (finding.check, finding.verdict, finding.exit_code) == (check, "fail", 3)
    assert detail in finding.detail and advice in finding.advice


@pytest.mark.parametrize(
    ("packet", "verdict", "told"),
    [(None, "ok", "256 KiB"), (1048576, "ok", "256 KiB"), (131072, "ok", "64 KiB"), (16384, "warn", "8 KiB"),
     (2000, "fail", "2000 bytes")],
)  # fmt: skip
def test_packets_are_judged_by_the_chunks_that_fit(packet: int | None, verdict: str, told: str) -> None:
    (finding,) = dr.judge_limits(Connected("5", packet))
    assert (finding.verdict, told in finding.detail) == (verdict, True), finding
    assert verdict == "ok" or "1048576" in finding.advice


def test_what_a_broker_cannot_do_fails_by_name() -> None:
    good = dr.judge_limits(Connected("5", None, Limits(receive_maximum=20)))
    assert verdicts(good) == {"packets": "ok", "in flight": "ok"}
    bad = dr.judge_limits(Connected("5", None, Limits(1, retains=False, max_qos=0, wildcards=False)))
    assert verdicts(bad) == {"packets": "ok", "in flight": "warn", "retained": "fail", "qos": "fail", "wildcards": "fail"}  # fmt: skip
    assert dr.exit_code(bad) == 3


def test_dropped_messages_are_told_where_they_can_be_seen() -> None:
    assert dr.judge_dropped(None) == []
    assert [f.verdict for f in (*dr.judge_dropped(0), *dr.judge_dropped(7))] == ["ok", "warn"]


@pytest.mark.parametrize(
    ("free", "needed", "verdict"), [(10**9, 10**8, "ok"), (10**9, 6 * 10**8, "warn"), (10**6, 10**7, "fail"), (10**7, 0, "warn")]
)  # fmt: skip
def test_a_disk_needs_room(free: int, needed: int, verdict: str) -> None:
    assert dr.judge_disk(Path("w"), "--workdir", None, free, needed).verdict == verdict


def test_a_folder_that_cannot_be_written_is_ours_to_mend() -> None:
    finding = dr.judge_disk(Path("w"), "--out", PermissionError(13, "Permission denied"), 10**9, 0)
    assert (finding.verdict, finding.exit_code, finding.advice) == ("fail", 2, "give another --out")
    assert "Permission denied" in finding.detail


def test_a_trial_of_a_folder_leaves_nothing(tmp_path: Path) -> None:
    assert write_trial(tmp_path / "a" / "b") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert isinstance(write_trial(tmp_path / "file" / "b"), OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "kept").mkdir()
    assert write_trial(tmp_path / "kept") is None
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "told"),
    [(2e9, None, "ok", "no round"), (2e9, 2e9 - 3, "ok", "within 3 s"), (2e9, 2e9 - 7200, "warn", "2 hours ahead of"),
     (2e9, 2e9 + 9 * 86400, "warn", "9 days behind"), (5e8, None, "warn", "never set")],
)  # fmt: skip
def test_a_clock_is_a_remark_and_never_a_failure(
    ours: float, theirs: float | None, verdict: str, told: str
) -> None:
    finding = dr.judge_clock(ours, theirs)
    assert finding.verdict == verdict and told in finding.detail


def test_a_certificate_that_ends_soon_is_remarked_on() -> None:
    assert dr.judge_certificate(HERE, "TLSv1.3", 3.0).verdict == "warn"
    assert dr.judge_certificate(HERE, "TLSv1.3", 90.0).verdict == "ok"


FOUND = [
    dr.ok("name", "a is b"),
    dr.warn("clock", "2 hours ahead"),
    dr.fail("data", "no folder\x1b[2J", "give one " * 20, 2),
]


def test_each_finding_is_one_line_and_the_last_says_what_would_happen() -> None:
    out = io.StringIO()
    assert dr.present(iter(FOUND), "a join", out) == 2
    lines = out.getvalue().splitlines()
    assert len(lines) == 4 and "\x1b" not in out.getvalue()
    assert [line.split()[:2] for line in lines[:3]] == [["ok", "name"], ["warn", "clock"], ["fail", "data"]]
    assert lines[-1] == "a join would not work: data"
    assert dr.summary(FOUND[:2], "a start") == "a start would work, with 1 remark"


def test_json_is_one_array_of_four_fields() -> None:
    out = io.StringIO()
    assert dr.present(iter(FOUND), "a join", out, to_json=True) == 2
    rows = json.loads(out.getvalue())
    assert [row["check"] for row in rows] == ["name", "clock", "data"]
    assert all(set(row) == {"check", "verdict", "detail", "advice"} for row in rows)


def test_a_terminal_sees_no_line_wider_than_it_is_and_nothing_a_peer_could_draw() -> None:
    shown = dr.coloured(FOUND[2], 80)
    bare = re.sub(r"\x1b\[\d*m", "", shown)
    assert "\x1b" not in bare and max(map(len, bare.splitlines())) <= 80
    assert bare.splitlines()[1].startswith(" " * 17 + "> give one")
