"""What the tests of this folder share: edges with lines of their own, and what of a run must not depend on its faults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fl_protocol import messages as msg
from fl_protocol.codec import decode
from fl_protocol.network import Received
from fl_protocol.topics import Kind, Topic
from fl_sim.line import PROFILES, Line
from fl_sim.proxy import FaultProxy
from tests.brokers import Broker, Peer
from tests.e2e.processes import Program, Programs

LONG = bool(os.environ.get("HILUM_LONG"))


def undisturbed_run(programs: Programs, *arguments: object, count: int = 3) -> Programs:
    """The same run beside it with nothing that disturbs; ended, and closed whatever happens."""
    calm = Programs(programs.folder / "calm", programs.broker, f"{programs.job}-calm")
    calm.folder.mkdir()
    try:
        end_well(calm.agg(*arguments), *edges(calm, count))
    finally:
        calm.close()
    return calm


def line_to(broker: Broker, line: Line = PROFILES["lan"], *, mqtt: bool = False) -> FaultProxy:
    """A line from a site to the broker."""
    return FaultProxy((broker.options.host, broker.options.port), line, mqtt=mqtt)


def edges(programs: Programs, count: int = 3, of: int = 0, **env: str) -> list[Program]:
    """Edges 1 to ``count``, each with its shard of so many, or ``of`` so many."""
    return [programs.edge(f"edge{k}", "--shard", f"{k}/{of or count}", env=env) for k in range(1, count + 1)]


def end_well(agg: Program, *others: Program) -> None:
    """All end by themselves."""
    assert agg.wait(90) == 0, agg.told()
    for edge in others:
        assert edge.wait() == 0, edge.told()


def story(programs: Programs) -> list[tuple[Any, ...]]:
    """What must not depend on any fault."""
    return [
        (r["round"], r["outcome"], r["accepted"], r["num_examples"], r["client_examples"], r["model_sha256"])
        for r in programs.rounds()
    ]


def final_model(programs: Programs) -> bytes:
    """The bytes of the newest global model."""
    return (programs.run_dir / "global.safetensors").read_bytes()


def trainings(file: Path) -> list[str]:
    """One word for every training that ended (ECHO_TRAININGS): equal words are the same work done twice."""
    return file.read_text().split() if file.exists() else []


def temporary(*folders: Path) -> list[Path]:
    """What should have been removed or renamed."""
    return [path for folder in folders for path in folder.rglob("*.tmp")]


def retained(broker: Broker, job: str, kind: Kind, client: str = "") -> Any:
    """The message that the broker retains there, or None."""
    topic = str(Topic(job, kind, client=client))
    with Peer(broker.options, "reader", filters=[topic]) as peer:
        peer.connected()
        end = f"end/{os.getpid()}"
        peer.transport.subscribe([end])
        peer.settle()
        peer.transport.publish(end, b"")
        while (found := peer.next(Received)).topic != end:
            if found.topic == topic:
                return decode(found.payload, kind)
    return None


def is_farewell(message: Any) -> bool:
    """Whether an edge said itself that it leaves: its last will would say that it is lost."""
    return isinstance(message, msg.ClientState) and message.state == msg.LEFT
