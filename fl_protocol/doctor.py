"""What a doctor finds, and what it means: pure judgements on facts that both sides gather, and how they are shown.

A finding is one line: a verdict, what was seen, and what to do about it. The process ends with 0 if nothing failed,
with 2 if anything failed that is to be mended on this machine, else with 3: the broker, or who serves behind it.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fl_protocol.broker import BrokerOptions, connect_failure
from fl_protocol.console import clean, size
from fl_protocol.errors import BrokerUnavailable, ConfigError, HilumError
from fl_protocol.network import Connected
from fl_protocol.tensors import chunk_bytes_for

OK, WARN, FAIL = "ok", "warn", "fail"
HERE, THERE = ConfigError.exit_code, BrokerUnavailable.exit_code
"""Exit codes by who can mend it: whoever sits at this machine, or whoever runs the broker or the job."""
SMALL_CHUNK = 64 * 1024
FEW_IN_FLIGHT = 4
LITTLE_SPACE = 256 * 1024 * 1024
EARLIEST_CLOCK_S = 1_735_689_600.0
"""The first of 2025: this program is younger, so a clock before that has not been set since the machine was started."""
DRIFT_S = 60.0
DAY_S = 86_400.0
SOON_DAYS = 14


@dataclass(frozen=True)
class Finding:
    """One line. ``exit_code`` is what a failure means for the process."""

    check: str
    verdict: str
    detail: str
    advice: str = ""
    exit_code: int = 0


def ok(check: str, detail: str) -> Finding:
    return Finding(check, OK, detail)


def warn(check: str, detail: str, advice: str = "") -> Finding:
    return Finding(check, WARN, detail, advice)


def fail(check: str, detail: str, advice: str, exit_code: int) -> Finding:
    return Finding(check, FAIL, detail, advice, exit_code)


def failed(check: str, error: HilumError) -> Finding:
    """What an error says: its last part is how to mend it."""
    detail, colon, advice = str(error).rpartition(": ")
    return fail(check, detail if colon else advice, advice if colon else "", error.exit_code)


def exit_code(findings: Sequence[Finding]) -> int:
    """0, or whose fault it is; what can be mended here comes first."""
    codes = [finding.exit_code for finding in findings if finding.verdict == FAIL]
    return HERE if HERE in codes else max(codes, default=0)


# --- the way to the broker --------------------------------------------------------------------------------------


def judge_lookup(options: BrokerOptions, addresses: Sequence[str]) -> Finding:
    """The host has a name that this machine can resolve."""
    shown = ", ".join(addresses[:3]) + (f" and {len(addresses) - 3} more" if len(addresses) > 3 else "")
    return ok(
        "name",
        f"{options.host} is {shown}" if options.host not in addresses else f"{options.host} is an address",
    )


def judge_unreachable(check: str, options: BrokerOptions, error: OSError) -> Finding:
    """Looking up, connecting or shaking hands failed."""
    reason, fatal = connect_failure(error, options, first=True)
    if fatal is not None:
        return failed(check, fatal)
    advice = {
        "name": "check --broker and this machine's name server",
        "tcp": "start the broker, or check --broker and the firewalls on the way",
    }.get(check, "check --broker and --tls")
    seen = reason if options.host in reason else f"{options.where}: {reason}"
    return fail(check, seen, advice, THERE)


def judge_certificate(options: BrokerOptions, version: str, days_left: float | None) -> Finding:
    """The broker's certificate is good; for how long?"""
    if days_left is None:
        return ok("tls", version)
    until = f"{version}, the certificate of {options.host} is good for {days_left:.0f} more days"
    return (
        warn("tls", until, "let whoever runs the broker renew it")
        if days_left < SOON_DAYS
        else ok("tls", until)
    )


def judge_connection(options: BrokerOptions, connected: Connected) -> Finding:
    """CONNACK came."""
    who = f" as {options.username!r}" if options.username else ""
    return ok("mqtt", f"{options.where} lets us in{who} and speaks MQTT {connected.protocol}")


def judge_limits(connected: Connected) -> list[Finding]:
    """What the broker announces, against what transfers need."""
    told = connected.limits
    found = [_packets(connected)]
    if told.receive_maximum is not None and told.receive_maximum < FEW_IN_FLIGHT:
        found.append(warn(
            "in flight", f"the broker takes {told.receive_maximum} messages before it wants to have answered one",
            "long links will be slow: raise its receive maximum (mosquitto: max_inflight_messages) to 20",
        ))  # fmt: skip
    elif told.receive_maximum is not None:
        found.append(ok("in flight", f"{told.receive_maximum} messages at a time"))
    if not told.retains:
        found.append(fail("retained", "the broker keeps no retained messages, and models are retained",
                          "set retain_available true on the broker, or use another", THERE))  # fmt: skip
    if told.max_qos < 1:
        found.append(
            fail("qos", "the broker takes QoS 0 only, which loses messages", "raise its max_qos to 1", THERE)
        )
    if not told.wildcards:
        found.append(
            fail("wildcards", "the broker refuses wildcard subscriptions", "use another broker", THERE)
        )
    return found


def _packets(connected: Connected) -> Finding:
    limit = connected.max_packet_bytes
    try:
        chunk = chunk_bytes_for(limit)
    except ConfigError as error:
        detail, _, advice = str(error).rpartition(": ")
        return fail("packets", detail, f"{advice} to 1048576", THERE)
    if limit is None:
        return ok("packets", f"no limit announced; models travel in chunks of {chunk // 1024} KiB")
    told = f"up to {size(limit)}, so models travel in chunks of {chunk // 1024} KiB"
    if chunk < SMALL_CHUNK:
        return warn("packets", told, "transfers will be slow: raise the broker's max_packet_size to 1048576")
    return ok("packets", told)


def judge_dropped(dropped: int | None) -> list[Finding]:
    """mosquitto counts what overflowed its queues; where that may not be read there is nothing to say."""
    if dropped is None:
        return []
    if dropped:
        return [warn("queue", f"the broker has dropped {dropped:,} messages since it started",
                     "raise its max_queued_messages to 4000 and its max_queued_bytes")]  # fmt: skip
    return [ok("queue", "the broker has dropped no message since it started")]


# --- this machine -------------------------------------------------------------------------------------------------


def judge_disk(folder: Path, option: str, error: OSError | None, free: int, needed: int) -> Finding:
    """Whether ``folder`` can be written, and has room for ``needed`` bytes (0: nobody knows yet)."""
    if error is not None:
        why = error.strerror or str(error)
        return fail("disk", f"{folder} cannot be written ({why})", f"give another {option}", HERE)
    told = f"{folder} can be written, {size(free)} free"
    if needed:
        told += f", about {size(needed)} needed"
    if free < needed:
        return fail("disk", told, f"make room, or give another {option}", HERE)
    if free < max(2 * needed, LITTLE_SPACE):
        return warn("disk", told, "make room: that is little")
    return ok("disk", told)


def judge_clock(now_s: float, theirs_s: float | None = None) -> Finding:
    """Only a remark: no round depends on the time of day. Certificates do."""
    if now_s < EARLIEST_CLOCK_S:
        return warn(
            "clock", "this machine's clock was never set", "certificates will seem not yet valid: set it"
        )
    if not theirs_s:
        return ok("clock", "set; no round depends on it")
    drift_s = now_s - theirs_s
    if abs(drift_s) <= DRIFT_S:
        return ok("clock", f"within {max(1.0, abs(drift_s)):.0f} s of the aggregator's")
    way = "ahead of" if drift_s > 0 else "behind"
    return warn(
        "clock",
        f"{_span(abs(drift_s))} {way} the aggregator's",
        "harmless to rounds; certificates want it set",
    )


def _span(seconds: float) -> str:
    for unit, name in ((DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


# --- how it is shown ----------------------------------------------------------------------------------------------

_COLOURS = {OK: "32", WARN: "33", FAIL: "31"}
CHECK_WIDTH, VERDICT_WIDTH = 11, 6


def line(finding: Finding) -> str:
    """One line: verdict, check, what was seen, and what to do."""
    words = clean(finding.detail, 400) + (f"; {clean(finding.advice, 400)}" if finding.advice else "")
    return f"{finding.verdict:<{VERDICT_WIDTH}}{finding.check:<{CHECK_WIDTH}}{words}"


def coloured(finding: Finding, width: int) -> str:
    """The same for a terminal: wrapped behind its columns, the verdict in colour, the advice bold."""
    hang = " " * (VERDICT_WIDTH + CHECK_WIDTH)
    room = max(30, width - len(hang))
    rows = textwrap.wrap(clean(finding.detail, 400), room) or [""]
    told = f"\x1b[{_COLOURS[finding.verdict]}m{finding.verdict:<{VERDICT_WIDTH}}\x1b[0m{finding.check:<{CHECK_WIDTH}}"
    told += f"\n{hang}".join(rows)
    advice = textwrap.wrap(clean(finding.advice, 400), room - 2)
    return told + "".join(
        f"\n{hang}\x1b[1m{'> ' if not at else '  '}{row}\x1b[0m" for at, row in enumerate(advice)
    )


def as_json(findings: Sequence[Finding]) -> str:
    """An array with an object a finding: check, verdict, detail, advice."""
    rows: list[dict[str, Any]] = [
        {"check": f.check, "verdict": f.verdict, "detail": f.detail, "advice": f.advice} for f in findings
    ]
    return json.dumps(rows, indent=1)


def summary(findings: Sequence[Finding], what: str) -> str:
    """The last line: whether ``what`` (a join, a start) would work."""
    failures, warnings = ([f for f in findings if f.verdict == verdict] for verdict in (FAIL, WARN))
    if failures:
        return f"{what} would not work: " + ", ".join(dict.fromkeys(f.check for f in failures))
    return f"{what} would work" + (
        f", with {len(warnings)} remark{'s' * (len(warnings) > 1)}" if warnings else ""
    )


def present(findings: Iterable[Finding], what: str, stream: TextIO, *, to_json: bool = False) -> int:
    """Show findings as they come, and return the exit code."""
    seen: list[Finding] = []
    on_terminal = stream.isatty()
    for finding in findings:
        seen.append(finding)
        if not to_json:
            width = shutil.get_terminal_size().columns
            print(coloured(finding, width) if on_terminal else line(finding), file=stream, flush=True)
    print(as_json(seen) if to_json else summary(seen, what), file=stream, flush=True)
    return exit_code(seen)
