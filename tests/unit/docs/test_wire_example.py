"""The frame that docs/protocol.md takes apart byte by byte is the frame that the code makes."""

from __future__ import annotations

import re
from pathlib import Path

from fl_protocol.codec import encode
from fl_protocol.messages import Chunk

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"


def test_the_example_frame_is_real() -> None:
    text = PAGE.read_text("utf-8")
    block = re.search(r"(?s)first bytes of the frame of chunk 42, ([0-9,]+) bytes.*?```\n(.*?)```", text)
    assert block is not None
    lines = block[2].splitlines()
    shown = bytes.fromhex("".join(re.split(r" {4,}(?=[\"m])", line)[0].replace(" ", "") for line in lines))
    frame = encode(Chunk(42, bytes(262_144)))
    assert len(frame) == int(block[1].replace(",", ""))
    assert frame.startswith(shown)
    assert len(shown) == 29, "the whole head is shown"
