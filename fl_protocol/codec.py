"""Messages to frames and back. A frame is a msgpack map: ``v`` schema version, ``t`` message tag, then its fields.

Decoding is total: it returns a message or raises DecodeError. msgpack allocates for a declared length before it
has seen the items, so no length may exceed what the frame could hold; it runs no code and knows no extension types.
"""

from __future__ import annotations

from typing import Any, get_args

import msgpack

from fl_protocol.errors import DecodeError
from fl_protocol.messages import Chunk, Message
from fl_protocol.schema import build, plain
from fl_protocol.topics import Kind

SCHEMA_VERSION = 1
MAX_FRAME_BYTES = 1024 * 1024
MAX_ITEMS = 10_000
"""Longest list in any message (a cohort, the tensors of a model)."""
MAX_TEXT_BYTES = 16_000
"""Longest text in any message (metadata, 4,000 characters), in UTF-8."""

TAGS: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Message)}

ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.AGG: frozenset({"AggregatorState"}),
    Kind.ROUND: frozenset({"RoundState"}),
    Kind.MODEL: frozenset({"Manifest"}),
    Kind.BLOCK: frozenset({"Chunk"}),
    Kind.STATE: frozenset({"ClientState", "Probe"}),
    Kind.EVENT: frozenset({"Hello", "Pong", "Progress", "Decline", "Scored", "Probe"}),
    Kind.OFFER: frozenset({"Offer", "Probe"}),
    Kind.CHUNK: frozenset({"Chunk", "Probe"}),
    Kind.CONTROL: frozenset({"Welcome", "Refusal", "Ping", "Cancel", "Rejection", "Probe", "Echo"}),
    Kind.ACK: frozenset({"Ack", "Echo"}),
    Kind.RUN: frozenset({"RunInfo"}),
    Kind.LINE: frozenset({"RoundLine"}),
    Kind.COMMAND: frozenset({"Command"}),
    Kind.ANSWER: frozenset({"Answer"}),
}
"""Which messages may stand on which topic."""


def encode(message: Message) -> bytes:
    """The frame of ``message``."""
    if isinstance(message, Chunk):
        body: dict[str, Any] = {"index": message.index, "data": message.data}
    else:
        body = plain(message)
    return bytes(msgpack.packb({"v": SCHEMA_VERSION, "t": type(message).__name__, **body}))


def decode(frame: bytes, kind: Kind) -> Message:
    """The message in ``frame``, which came on a topic of ``kind``.

    Raises DecodeError with reason ``too_large``, ``not_msgpack``, ``unknown_version``, ``unknown_message``,
    ``wrong_topic``, ``missing_field``, ``bad_field`` or what :meth:`Manifest.check` says.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise DecodeError("too_large", f"{len(frame)} bytes")
    try:
        body = msgpack.unpackb(
            frame, raw=False, strict_map_key=True, max_bin_len=MAX_FRAME_BYTES, max_str_len=MAX_TEXT_BYTES,
            max_array_len=min(MAX_ITEMS, len(frame)), max_map_len=1024, max_ext_len=0,
        )  # fmt: skip
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise DecodeError("not_msgpack", str(error)[:80]) from None
    if not isinstance(body, dict):
        raise DecodeError("not_msgpack", "not a map")
    if body.get("v") != SCHEMA_VERSION or type(body.get("v")) is not int:
        raise DecodeError("unknown_version", _shown(body.get("v")))
    tag = body.get("t")
    if not isinstance(tag, str) or tag not in TAGS:
        raise DecodeError("unknown_message", _shown(tag))
    if tag not in ALLOWED[kind]:
        raise DecodeError("wrong_topic", f"{tag} on {kind.value}")
    return _checked(build(TAGS[tag], body))


def _shown(value: Any) -> str:
    """A hostile value for a person: never the inside of a list, whose nesting is deeper than Python's own stack."""
    return repr(value)[:40] if isinstance(value, int | float | str | None) else type(value).__name__


def _checked(message: Any) -> Message:
    manifest = getattr(message, "manifest", message)
    if hasattr(manifest, "leaves"):
        manifest.check()
    return message  # type: ignore[no-any-return]
