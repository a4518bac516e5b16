"""Between the wire and the session: which event a message is, and the frame of a chunk."""

from __future__ import annotations

import os
from typing import Any

from edge_client import events as ev
from fl_protocol.codec import encode
from fl_protocol.errors import DecodeError
from fl_protocol.messages import Ack, Chunk
from fl_protocol.tensors import Manifest
from fl_protocol.topics import Topic


def event_of(topic: Topic, message: Any) -> ev.Event:
    """The session's event for a message on ``topic``."""
    if isinstance(message, Manifest):
        if message.digest != topic.digest:
            raise DecodeError("bad_digest", "a manifest under another name")
        return ev.ManifestArrived(topic.digest, message)
    if isinstance(message, Chunk):
        if message.index != topic.index:
            raise DecodeError("bad_chunk", "a chunk under another number")
        return ev.ChunkArrived(topic.digest, message.index, message.data)
    if isinstance(message, Ack):
        return ev.AckArrived(topic.transfer, message)
    return message  # type: ignore[no-any-return]


def chunk_frame(file: str, at: int, length: int, index: int) -> bytes:
    """The frame of one chunk, read when its turn has come."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return encode(Chunk(index, os.pread(fd, length, at)))
    finally:
        os.close(fd)
