"""From a request to a command and back: checked, published, and waited for."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any

from fl_protocol.errors import DecodeError
from fl_protocol.messages import ACTIONS, EVICT, LAUNCH, MORE, Answer, Command
from fl_protocol.schema import build, plain
from fl_protocol.topics import NAME
from fl_web.dashboard.watch import Watch

ANSWER_S = 8.0
MOST_WAITING = 32
OPTION = re.compile(r"--([a-z][a-z-]*)")


class Refused(Exception):
    """Why a command is not sent, for a person; ``status`` is HTTP's word for it."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Commands:
    """Commands under way, by their id."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._waiting: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[Answer], str]] = {}
        watch.on_answer = self._answered

    async def ask(self, job: str, command: Command) -> dict[str, Any]:
        """Publish ``command`` and wait for its answer. Raises Refused if there is none."""
        if len(self._waiting) >= MOST_WAITING:
            raise Refused("too many commands are under way: wait a moment", 503)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting[command.id] = loop, future, job
        try:
            self._watch.ask(job, command)
            answer = await asyncio.wait_for(future, ANSWER_S)
        except asyncio.TimeoutError:
            raise Refused(
                f"the aggregator did not answer within {ANSWER_S:g} s: it may be away, or an older one", 504
            ) from None
        finally:
            del self._waiting[command.id]
        return {"ok": answer.ok, "reason": answer.reason, "field": field_of(answer.reason)}

    def _answered(self, job: str, answer: Answer) -> None:
        """In the connection's thread."""
        found = self._waiting.get(answer.id)
        if found is not None and found[2] == job:
            found[0].call_soon_threadsafe(_settle, found[1], answer)


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def command_of(body: Any) -> tuple[str, Command]:
    """The job and the command that a request's JSON names. Raises Refused."""
    if not isinstance(body, Mapping):
        raise Refused("that is no command")
    job, action = body.get("job"), body.get("action")
    if not isinstance(job, str) or not NAME.fullmatch(job):
        raise Refused("that is no job")
    if action not in ACTIONS:
        raise Refused(f"there is no such action: there are {', '.join(ACTIONS)}")
    client, settings = body.get("client", ""), body.get("settings")
    if action == EVICT and not (isinstance(client, str) and NAME.fullmatch(client)):
        raise Refused("that is no client")
    wanted = {"id": secrets.token_hex(8), "action": action, "client": client if action == EVICT else "",
              "settings": settings if action in (LAUNCH, MORE) else None}  # fmt: skip
    try:
        command = build(Command, wanted)
    except DecodeError:
        raise Refused("a setting is too long, or no text") from None
    return job, build(Command, plain(command))


def field_of(reason: str) -> str:
    """The option that a refusal names first, as the form calls it: ``--batch-size 0 is too small`` is of batch_size."""
    found = OPTION.search(reason)
    return found[1].replace("-", "_") if found else ""
