"""Messages become events only under the topic that is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client import events as ev
from edge_client.frames import chunk_frame, event_of
from fl_protocol.codec import decode
from fl_protocol.errors import DecodeError
from fl_protocol.messages import Ack, Chunk, Message, Ping
from fl_protocol.topics import Kind, Topic
from tests.unit.edge_client.sessions import MODEL, MODEL2


def test_topics_add_what_the_session_needs() -> None:
    model = Topic("default", Kind.MODEL, digest=MODEL.digest)
    block = Topic("default", Kind.BLOCK, digest=MODEL.digest, block=1, index=70)
    ack = Topic("default", Kind.ACK, client="a", transfer="1-ab")
    assert event_of(model, MODEL) == ev.ManifestArrived(MODEL.digest, MODEL)
    assert event_of(block, Chunk(70, b"x")) == ev.ChunkArrived(MODEL.digest, 70, b"x")
    assert event_of(ack, Ack(b"", 1)) == ev.AckArrived("1-ab", Ack(b"", 1))
    assert event_of(Topic("default", Kind.CONTROL, client="a"), Ping("ab")) == Ping("ab")


@pytest.mark.parametrize(("kind", "message"), [(Kind.MODEL, MODEL2), (Kind.BLOCK, Chunk(71, b"x"))])
def test_what_lies_under_another_name_is_refused(kind: Kind, message: Message) -> None:
    with pytest.raises(DecodeError, match="under another"):
        event_of(Topic("default", kind, digest=MODEL.digest, block=1, index=70), message)


def test_a_chunk_is_read_from_its_place(tmp_path: Path) -> None:
    file = tmp_path / "update"
    file.write_bytes(bytes(range(100)))
    assert decode(chunk_frame(str(file), 10, 5, 3), Kind.CHUNK) == Chunk(3, bytes(range(10, 15)))
