"""Dashboards for tests: the program itself, and whoever asks it by HTTP; an aggregator that only answers commands."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import httpx

from fl_protocol.codec import decode, encode
from fl_protocol.errors import ConfigError
from fl_protocol.messages import Answer, Command, Message
from fl_protocol.network import Connected, Received
from fl_protocol.topics import Kind, command_filter
from tests.brokers import Broker, Peer
from tests.e2e.processes import Program, Programs


class Dashboard:
    """``fl-agg dashboard`` on a free port, and its token."""

    def __init__(self, programs: Programs, *arguments: object, broker: str = "") -> None:
        self.program: Program = programs.start(
            "fl-agg", "dashboard", "--broker", broker or programs.broker, "--listen", "127.0.0.1:0", "--runs", ".",
            *arguments, name="dashboard",
        )  # fmt: skip
        self.url = self.program.says(r"dashboard: (https?://\S+)")[1]
        token = re.search(r"token: (\S+)  \(asked", self.program.says("token: .*")[0])
        self.token = token[1] if token else ""

    def client(self, authority: str = "") -> httpx.Client:
        """Who asks; ``authority``: the file of the one who signed the page's certificate."""
        verify = ssl.create_default_context(cafile=authority) if authority else True
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=verify)

    def log_in(self, client: httpx.Client, token: str | None = None) -> httpx.Response:
        """Through the form, as a browser would."""
        return client.post(
            "/login",
            data={
                "token": self.token if token is None else token,
                "form_token": form_token(client.get("/login")),
            },
        )


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="(\w*)"|data-form-token="(\w*)"', page.text)
    assert found is not None, page.text
    return found[1] or found[2]


class Aggregator:
    """It publishes what a test tells it to, and answers commands by ``judge``, which raises ConfigError to refuse."""

    def __init__(self, broker: Broker, job: str, judge: Callable[[Command], None] = lambda _: None) -> None:
        self.job, self.asked = job, list[Command]()
        self._judge = judge
        self._peer = Peer(broker.options, f"aggregator-of-{job}", filters=[command_filter(job)])
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> Aggregator:  # noqa: PYI034 - Self needs Python 3.11
        self._peer.__enter__()
        self._peer.next(Connected)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        self._peer.__exit__(kind, error, trace)

    def tell(self, topic: str, message: Message | None, *, retain: bool = True) -> None:
        """Publish below the job; None clears the topic."""
        frame = encode(message) if message else b""
        self._peer.transport.publish(f"fl/1/{self.job}/{topic}", frame, retain=retain)

    def _answer(self) -> None:
        while not self._ended.is_set():
            try:
                event = self._peer.events.get(timeout=0.1)
            except Exception:  # noqa: BLE001 - nothing came
                continue
            if isinstance(event, Received):
                command = decode(event.payload, Kind.COMMAND)
                assert isinstance(command, Command)
                self.asked.append(command)
                try:
                    self._judge(command)
                    self.tell("op/answer", Answer(command.id, True), retain=False)
                except ConfigError as error:
                    self.tell("op/answer", Answer(command.id, False, str(error)), retain=False)


@contextmanager
def federation(
    broker: Broker, job: str, *clients: str, judge: Callable[[Command], None] = lambda _: None
) -> Iterator[Aggregator]:
    """An aggregator and clients that a test moves by hand; what it retained is cleared at the end."""
    from tests import dashboard_frames as f

    topics = ["pub/agg", "pub/round", "op/run", *(f"up/{name}/state" for name in clients)]
    with Aggregator(broker, job, judge) as aggregator:
        aggregator.tell("pub/agg", f.birth())
        for name in clients:
            aggregator.tell(f"up/{name}/state", f.state())
        try:
            yield aggregator
        finally:
            for topic in [*topics, *(f"op/round/{number}" for number in range(1, 10))]:
                aggregator.tell(topic, None)
