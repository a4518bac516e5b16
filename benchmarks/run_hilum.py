"""Measure Hilum: a real mosquitto, ``fl-agg start`` and N ``fl-edge join``, as processes on this machine.

Prints one ``RESULT {json}`` line. benchmarks/README.md says what the work is and what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import measure, simulated, workloads  # noqa: E402 - run as a script, the repository is not on the path
from fl_protocol.errors import ConfigError, HilumError  # noqa: E402
from fl_protocol.modelfile import read_header  # noqa: E402
from fl_tasks.params import file_params  # noqa: E402

MIN_FREE_MB = 1500
POLL_S = 0.05
TOLERANCE = 1e-3
MARK = ".hilum-bench"
"""Says that a scratch folder is ours to empty."""
LIMITS = ("max_", "message_size_limit", "set_tcp_nodelay", "sys_interval")


def main() -> int:
    options = arguments()
    try:
        check(options)
        result = measured(options)
    except HilumError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("RESULT " + json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--work",
        choices=["W1", "W2", "W3"],
        default="W1",
        help="W1: no training; W2: a small CNN; W3: simulated",
    )
    add("--size", choices=workloads.SIZES, default="0.25", help="model of W1 in MB")
    add("--clients", type=int, default=2)
    add("--rounds", type=int, default=10)
    add("--sample", type=int, default=10, help="W3: clients in a round")
    add(
        "--parts",
        type=int,
        default=simulated.PARTS,
        help="W3: parts of the data; client k holds part k modulo these",
    )
    add("--workers", type=int, default=2, help="W3: processes that train")
    add("--guard", type=float, default=300.0, help="give up after so many seconds")
    add("--tmp", type=Path, required=True, help="scratch folder; emptied first")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Raises ConfigError for what cannot run here."""
    for name in ("clients", "rounds", "sample", "parts", "workers"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} must be at least 1")
    if sys.platform != "linux":
        raise ConfigError("the benchmark reads Linux's /proc: run it on Linux")
    if options.work != "W3":
        program("mosquitto")
    if options.tmp.exists() and any(options.tmp.iterdir()) and not (options.tmp / MARK).exists():
        raise ConfigError(f"--tmp {options.tmp} holds something else: give an empty folder, or a new one")


def program(name: str) -> str:
    """The program beside this interpreter, or on the path."""
    beside = Path(sys.executable).parent / name
    found = (
        str(beside) if beside.exists() else shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    )
    if found is None:
        raise ConfigError(f"{name} is not installed: install it, and hilum beside this Python")
    return found


# --- a run ------------------------------------------------------------------------------------------------------


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run the work, bounded by the guard, and return the result."""
    shutil.rmtree(options.tmp, ignore_errors=True)
    options.tmp.mkdir(parents=True)
    (options.tmp / MARK).touch()
    isolated, bytes_before = measure.private_loopback(), measure.lo_bytes_tx()
    of_server = "trainer" if options.work == "W3" else "server_task"
    watch = measure.Processes(options.tmp.resolve(), {"client": "trainer", "server": of_server})
    why: str | None = None
    rounds = simulated.Rounds(options.tmp / "simulator.log")
    try:
        if options.work == "W3":
            why = wait(options, watch, start_simulation(options, watch), "simulator", rounds.look)
        else:
            why = wait(options, watch, start_all(options, watch), "aggregator")
        seconds = time.time() - watch.started_at
        tx, foreign = measure.lo_bytes_tx() - bytes_before, watch.foreign_cores()
    finally:
        watch.end()
    result = {
        "ok": True, "why": None, "isolated_net": isolated,
        **(rounds.as_result(watch) if options.work == "W3" else rounds_of(options, watch)), "whole_run_s": round(seconds, 2),
        "cpu_total_s": round(sum(watch.cpu_by_role().values()), 1),
        "cpu_by_role_s": {role: round(cpu_s, 2) for role, cpu_s in watch.cpu_by_role().items()},
        "foreign_cpu_cores": foreign, "lo_bytes_tx": tx, "lo_bytes_rx": tx, "peak_rss_mb": watch.peak_mb_by_role(),
        "processes_seen": watch.count_by_role(), "max_processes": watch.max_processes,
        "tree_peak_rss_mb": watch.tree_peak_rss_mb, "tree_peak_pss_mb": watch.tree_peak_pss_mb, **trainings(options),
    }  # fmt: skip
    if why is None:
        result["final_check"], why = final_check(options)
    if options.work != "W1" and "final_check" in result:
        result["accuracy"] = result["final_check"]
    if options.work == "W3" and result["rounds_total_s"]:
        result["updates_per_s"] = round(result["updates"] / result["rounds_total_s"], 2)
        result.update(sample=options.sample, workers=options.workers)
    result.update(ok=why is None, why=why)
    described = {"peer": "hilum", "work": options.work, "size": options.size, "clients": options.clients}
    return {**result, **described, "rounds": options.rounds}


def environment(folder: Path) -> dict[str, str]:
    env = dict(
        os.environ, PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1",
    )  # fmt: skip
    env[workloads.EVENTS_VARIABLE] = str(folder / "trainings.jsonl")
    return env


def start_simulation(options: argparse.Namespace, watch: measure.Processes) -> subprocess.Popen[bytes]:
    """Start ``fl-sim run`` of the work."""
    folder = options.tmp.resolve()
    env = environment(folder) | {simulated.PARTS_VARIABLE: str(options.parts)}
    return watch.start("server", "simulator", simulated.command(program("fl-sim"), options, folder), env)


def start_all(options: argparse.Namespace, watch: measure.Processes) -> subprocess.Popen[bytes]:
    """Start broker, aggregator and edges; returns the aggregator."""
    port, folder = measure.free_port(), options.tmp.resolve()
    env = environment(folder)
    (folder / "mosquitto.conf").write_text("\n".join(broker_settings(port)) + "\n", "utf-8")
    watch.start("broker", "mosquitto", [program("mosquitto"), "-c", str(folder / "mosquitto.conf")], env)
    until = time.monotonic() + 10.0
    while not measure.answers(port):
        if time.monotonic() > until:
            raise ConfigError(f"mosquitto did not start: see {folder / 'mosquitto.log'}")
        time.sleep(0.02)
    common = [
        "--broker",
        f"127.0.0.1:{port}",
        "--job",
        "bench",
        "--plugin",
        "benchmarks.workloads",
        "--device",
        "cpu",
    ]
    clients = str(options.clients)
    task = workloads.ECHO if options.work == "W1" else workloads.CNN
    model = f"w1-{options.size}" if options.work == "W1" else workloads.W2_MODEL
    aggregator = watch.start(
        "server", "aggregator",
        [program("fl-agg"), "start", *common, "--task", task, "--model", model, "--rounds", str(options.rounds),
         "--min-clients", clients, "--quorum", clients, "--out", str(folder / "run")], env,
    )  # fmt: skip
    for k in range(1, options.clients + 1):
        command = [program("fl-edge"), "join", *common, "--client-id", f"edge-{k}", "--shard", f"{k}/{clients}",
                   "--workdir", str(folder / f"edge-{k}"), "--threads", "1"]  # fmt: skip
        watch.start("client", f"edge-{k}", command, env)
    return aggregator


def broker_settings(port: int) -> Iterator[str]:
    """A listener on lo, and the limits of broker/mosquitto.conf; nothing is kept on disk."""
    yield f"listener {port} 127.0.0.1"
    yield from (
        "allow_anonymous true",
        "persistence false",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
    )
    if os.geteuid() == 0:
        yield "user root"
    ours = ROOT / "broker" / "mosquitto.conf"
    if ours.exists():
        lines = (line.strip() for line in ours.read_text("utf-8").splitlines())
        yield from (line for line in lines if line.startswith(LIMITS))


def wait(
    options: argparse.Namespace, watch: measure.Processes, started: subprocess.Popen[bytes], name: str,
    look: Callable[[], None] = lambda: None,
) -> str | None:  # fmt: skip
    """Until the aggregator (or simulator) has ended. Returns why the run does not count, or None."""
    until = watch.started_at + options.guard
    poll_s = simulated.POLL_S if options.work == "W3" else POLL_S
    while started.poll() is None:
        look()
        if time.time() > until:
            return f"wall-clock guard {options.guard:g} s"
        if measure.memory_available_mb() < MIN_FREE_MB:
            return f"memory guard (<{MIN_FREE_MB} MB available)"
        time.sleep(poll_s)
    look()
    if started.returncode != 0:
        log = (options.tmp / f"{name}.log").read_text("utf-8", "replace").strip()
        return f"the {name} ended with {started.returncode}: {log.splitlines()[-1] if log else ''}"
    return None


# --- the result -------------------------------------------------------------------------------------------------


def records(options: argparse.Namespace) -> list[dict[str, Any]]:
    path = options.tmp / "run" / "rounds.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def rounds_of(options: argparse.Namespace, watch: measure.Processes) -> dict[str, Any]:
    """Times from one announcement to the next; the last round ends when its model is on disk and being published."""
    ended = records(options)
    if not ended:
        return {"rounds_done": 0, "round_s": [], "round_median_s": None, "rounds_total_s": None, "startup_s": None,
                "cpu_per_round_s": None}  # fmt: skip
    begins = [datetime.fromisoformat(record["started_at"]).timestamp() for record in ended]
    instants = [*begins, begins[-1] + ended[-1]["duration_s"]]
    each = [after - before for before, after in pairwise(instants)]
    steady = instants[1:] if len(each) > 1 else instants
    cpu_s = watch.cpu_by_role(steady[0], steady[-1])
    count = len(steady) - 1
    return {
        "rounds_done": len(ended), "outcomes": sorted({record["outcome"] for record in ended}),
        "round_s": [round(seconds, 4) for seconds in each], "round_median_s": round(statistics.median(each), 4),
        "rounds_total_s": round(instants[-1] - instants[0], 3), "startup_s": round(begins[0] - watch.started_at, 2),
        "cpu_per_round_s": round(sum(cpu_s.values()) / count, 3),
        "cpu_per_round_by_role_s": {role: round(seconds / count, 4) for role, seconds in cpu_s.items()},
        "aggregator_bytes_down": sum(record["bytes_down"] for record in ended),
        "aggregator_bytes_up": sum(record["bytes_up"] for record in ended),
    }  # fmt: skip


def trainings(options: argparse.Namespace) -> dict[str, Any]:
    """W2: how many updates were trained, and what the training loops alone took."""
    path = options.tmp / "trainings.jsonl"
    if not path.exists():
        return {}
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {
        "updates": len(found), "train_wall_sum_s": round(sum(each["wall"] for each in found), 3),
        "train_cpu_sum_s": round(sum(each["cpu"] for each in found), 3),
    }  # fmt: skip


def final_check(options: argparse.Namespace) -> tuple[float, str | None]:
    """W1: by how much the first tensor grew. W2: accuracy. And why that cannot be right, or None."""
    final = file_params(read_header(options.tmp / "run" / "global.safetensors"))
    if options.work != "W1":
        found = round(workloads.accuracy(final), 4)
        updates = (options.clients if options.work == "W2" else options.sample) * options.rounds
        trained = trainings(options)["updates"]
        return found, None if trained == updates else f"{trained} trainings, not {updates}"
    first = workloads.weights(options.size)
    grown = {name: final[name] - first[name] for name in first}
    wrong = [name for name, by in grown.items() if abs(by - options.rounds).max() > TOLERANCE]
    return round(float(grown["t000"].mean()), 4), f"wrong weights: {', '.join(wrong)}" if wrong else None


if __name__ == "__main__":
    sys.exit(main())
