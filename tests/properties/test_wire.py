"""Whatever is encoded is decoded to the same; whatever else arrives is a message or a DecodeError."""

from __future__ import annotations

import random
import re
import tracemalloc
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_protocol import messages as msg
from fl_protocol.codec import ALLOWED, TAGS, decode, encode
from fl_protocol.errors import DecodeError
from fl_protocol.tensors import FLOAT32, HASH_BYTES, LEAF_BYTES, Group, Manifest, TensorSpec
from fl_protocol.topics import INDEX, NAME, Kind, Topic, parse

# --- messages, from their dataclasses -----------------------------------------------------------------------

names = st.from_regex(NAME, fullmatch=True)
digests = st.from_regex(re.compile("[0-9a-f]{64}"), fullmatch=True)
instances = st.from_regex(re.compile("[0-9a-f]{1,32}"), fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(st.text(max_size=20), finite, max_size=4)
whole = st.integers(0, 10**9)

layouts = st.lists(
    st.builds(TensorSpec, st.text(max_size=20), st.lists(st.integers(1, 9), max_size=4).map(tuple)),
    min_size=1, max_size=5, unique_by=lambda spec: spec.name,
)  # fmt: skip


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    tensors = tuple(draw(layouts))
    size = 4 * sum(spec.num_values for spec in tensors)
    num_leaves = -(-size // LEAF_BYTES)
    leaves = draw(st.binary(min_size=HASH_BYTES * num_leaves, max_size=HASH_BYTES * num_leaves))
    return Manifest(
        (Group(draw(st.sampled_from(["model", "delta"])), FLOAT32, tensors),), size, 2 ** draw(st.integers(12, 18)),
        leaves, draw(whole), draw(st.none() | digests),
        draw(st.none() | st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4)),
    )  # fmt: skip


BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "index": st.integers(0, 10**7),
    "instance": instances, "echo": st.none() | instances, "base": digests, "cohort": st.lists(names, max_size=5).map(tuple),
    "state": st.sampled_from(msg.CLIENT_STATES), "fraction": st.floats(0.0, 1.0), "loss": st.none() | finite,
    "momentum": st.floats(0.0, 1.0), "weight_decay": st.floats(0.0, 1.0), "batch_size": st.integers(1, 65_536),
    "local_epochs": st.integers(0, 10_000), "image_size": st.integers(0, 65_536), "window": st.integers(0, 4096),
    "local_steps": st.none() | st.integers(1, 10**9), "attempt": st.integers(0, 10**6), "device": st.text(max_size=64),
    "classes": st.none() | st.dictionaries(st.text(max_size=9), whole, max_size=3), "verdict": st.none() | st.text(max_size=16),
    "last": st.none() | st.deferred(lambda: of(msg.LastRound)), "plan": st.none() | st.deferred(lambda: of(msg.Plan)),
    "summary": st.none() | st.deferred(lambda: of(msg.DataSummary)), "manifest": manifests(),
    "accepted": st.integers(0, 10_000), "stragglers": st.integers(0, 10_000), "quorum": st.integers(0, 10_000),
    "min_clients": st.integers(0, 10_000), "max_staleness": st.integers(0, 10**6),
    "evaluators": st.none() | st.lists(names, max_size=5).map(tuple), "scored_round": st.integers(0, 10**9),
    "accepts": st.lists(st.sampled_from(msg.ACTIONS), max_size=3).map(tuple), "id": instances, "run_id": st.none() | instances,
    "action": st.sampled_from(msg.ACTIONS), "first": st.integers(0, 10**7), "newest": st.integers(0, 10**7),
}  # fmt: skip
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(), "int": whole, "str": st.text(max_size=16), "bytes": st.binary(max_size=300),
    "float": st.floats(0.0, 1e6), "dict[str, float] | None": st.none() | metrics,
    "dict[str, float]": metrics,
    "dict[str, str] | None": st.none() | st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4),
}  # fmt: skip


def of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Messages of a kind, field by field."""
    if cls is Manifest:
        return manifests()
    fields = {
        name: BY_NAME[name] if name in BY_NAME else BY_TYPE[item.type]
        for name, item in cls.__dataclass_fields__.items()
    }
    return st.builds(cls, **fields)


def home(tag: str) -> Kind:
    return next(kind for kind, tags in ALLOWED.items() if tag in tags)


@pytest.mark.parametrize("tag", TAGS)
@settings(max_examples=40)
@given(data=st.data())
def test_codec_there_and_back(tag: str, data: st.DataObject) -> None:
    message = data.draw(of(TAGS[tag]))
    assert decode(encode(message), home(tag)) == message


# --- frames of somebody else's ------------------------------------------------------------------------------


def decoded(frame: bytes, kind: Kind) -> msg.Message | None:
    """None for a DecodeError; anything else that is raised is a fault of ours."""
    try:
        message = decode(frame, kind)
    except DecodeError:
        return None
    assert type(message).__name__ in ALLOWED[kind]
    assert decode(encode(message), kind) == message
    return message


def examples() -> list[tuple[Kind, bytes]]:
    """A valid frame of every message, the same on every run."""
    found: list[tuple[Kind, bytes]] = []

    @settings(max_examples=1)
    @given(st.tuples(*(of(cls) for cls in get_args(msg.Message))))
    def collect(each: tuple[msg.Message, ...]) -> None:
        found.extend((home(type(message).__name__), encode(message)) for message in each)

    collect()
    return found


HEADERS = b"\xc6\xdd\xdf\xdb\xc9\xc7\xd9\xc4\x93\x83\xa5\xc0\xc1\xca\xcb\xcf\xd3\xff\x00\x7f\x80\x90\xa0"


def mutated(frame: bytes, chance: random.Random) -> bytes:
    """A frame with a few bytes changed, cut out, put in twice or replaced by headers of something large."""
    data = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        at, until = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        how = chance.randrange(6)
        if how == 0:
            del data[at : min(until, at + 8)]
        elif how == 1:
            data[at:at] = data[at : min(until, at + 16)]
        elif how == 2:
            data[at : at + 5] = bytes([chance.choice(HEADERS)]) + chance.randbytes(4)
        elif how == 3 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == 4:
            del data[at:]
        else:
            data[at:at] = bytes([chance.choice(HEADERS)])
    return bytes(data)


@pytest.mark.parametrize("kind", Kind)
def test_mutated_frames_are_messages_or_decode_errors(kind: Kind) -> None:
    chance = random.Random(f"mutations {kind.value}")
    frames = [frame for _, frame in examples()]
    native = [frame for home_kind, frame in examples() if home_kind is kind] or frames
    found = [decoded(mutated(chance.choice(native), chance), kind) for _ in range(2500)]
    found += [decoded(mutated(chance.choice(frames), chance), kind) for _ in range(500)]
    assert None in found, "the mutations break something"


@pytest.mark.parametrize("kind", Kind)
@settings(max_examples=150)
@given(frame=st.binary(max_size=200))
def test_random_bytes_are_no_message(kind: Kind, frame: bytes) -> None:
    assert decoded(frame, kind) is None


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_value_in_any_field_is_a_message_or_a_decode_error(tag: str, data: st.DataObject) -> None:
    fields = {name: data.draw(_values) for name in TAGS[tag].__dataclass_fields__ if data.draw(st.booleans())}
    base = msgpack.unpackb(encode(data.draw(of(TAGS[tag]))))
    decoded(bytes(msgpack.packb(base | fields)), home(tag))


@settings(max_examples=300)
@given(
    prefix=st.sampled_from(
        [b"", b"\x81\xa1v", b"\x82\xa1v\x01\xa1t", b"\x83\xa1v\x01\xa1t\xa5Offer\xa8manifest"]
    ),
    header=st.sampled_from([b"\xc6", b"\xdb", b"\xdd", b"\xdf", b"\xc9"]),
    size=st.integers(300_000_000, 2**32 - 1),
    levels=st.integers(1, 30),
)
def test_declared_sizes_cost_nothing(prefix: bytes, header: bytes, size: int, levels: int) -> None:
    frame = prefix + (header + size.to_bytes(4, "big")) * levels
    tracemalloc.start()
    try:
        assert decoded(frame, Kind.OFFER) is None
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "inner", [b"\x91", b"\x81\xa1v", b"\x81\xa1t", b"\x82\xa1v\x01\xa1t", b"\xdd\0\0\0\1"]
)
def test_nesting_of_any_depth_is_a_decode_error(inner: bytes) -> None:
    for depth in [*range(1, 40), *range(480, 520), *range(990, 1030), 5000, 100_000]:
        for kind in (Kind.OFFER, Kind.STATE):
            assert decoded(inner * depth + b"\x90", kind) is None
            assert decoded(b"\x82\xa1v\x01\xa1t" + inner * depth + b"\x90", kind) is None


# --- topics -------------------------------------------------------------------------------------------------

_indexes = st.from_regex(INDEX, fullmatch=True).map(int)
_PARTS: dict[str, st.SearchStrategy[Any]] = {
    "client": names, "transfer": names, "digest": digests, "block": _indexes, "index": _indexes, "lane": _indexes,
    "number": _indexes,
}  # fmt: skip


@pytest.mark.parametrize("kind", Kind)
@given(data=st.data(), job=names)
def test_topics_there_and_back(kind: Kind, data: st.DataObject, job: str) -> None:
    parts = {part: data.draw(_PARTS[part]) for part in re.findall(r"{(\w+)}", kind.value)}
    topic = Topic(job, kind, **parts)
    assert parse(str(topic)) == topic


_words = st.sampled_from(
    [
        "fl",
        "1",
        "job",
        "pub",
        "up",
        "dn",
        "op",
        "run",
        "agg",
        "block",
        "chunk",
        "0",
        "7",
        "",
        "+",
        "#",
        "a" * 64,
        "\n",
    ]
)


@settings(max_examples=500)
@given(
    text=st.text(max_size=100)
    | st.lists(_words, max_size=10).map("/".join)
    | st.lists(_words, max_size=8).map(lambda words: "/".join(["fl", "1", *words]))
)
def test_any_text_is_a_topic_or_a_decode_error(text: str) -> None:  # fmt: skip
    try:
        topic = parse(text)
    except DecodeError:
        return
    assert str(topic) == text
