"""Topics there and back, and which strings are none."""

from __future__ import annotations

import re

import pytest

from fl_protocol import topics
from fl_protocol.errors import ConfigError, DecodeError
from fl_protocol.topics import Kind, Topic, parse
from tests.payloads import digest_of

D = digest_of("a model")

TEXTS = [
    ("fl/1/job/pub/agg", Topic("job", Kind.AGG)),
    ("fl/1/job/pub/round", Topic("job", Kind.ROUND)),
    (f"fl/1/job/pub/model/{D}", Topic("job", Kind.MODEL, digest=D)),
    (f"fl/1/job/pub/block/{D}/2/130", Topic("job", Kind.BLOCK, digest=D, block=2, index=130)),
    ("fl/1/job/up/site-1/state", Topic("job", Kind.STATE, client="site-1")),
    ("fl/1/job/up/site_1/event", Topic("job", Kind.EVENT, client="site_1")),
    ("fl/1/job/up/a/offer/1-abc", Topic("job", Kind.OFFER, client="a", transfer="1-abc")),
    ("fl/1/job/up/a/chunk/1-abc/0", Topic("job", Kind.CHUNK, client="a", transfer="1-abc", lane=0)),
    ("fl/1/job/dn/a/control", Topic("job", Kind.CONTROL, client="a")),
    ("fl/1/job/dn/a/ack/1-abc", Topic("job", Kind.ACK, client="a", transfer="1-abc")),
    ("fl/1/job/op/run", Topic("job", Kind.RUN)),
    ("fl/1/job/op/round/12", Topic("job", Kind.LINE, number=12)),
    ("fl/1/job/op/command", Topic("job", Kind.COMMAND)),
    ("fl/1/job/op/answer", Topic("job", Kind.ANSWER)),
]


@pytest.mark.parametrize(("text", "topic"), TEXTS)
def test_there_and_back(text: str, topic: Topic) -> None:
    assert str(topic) == text
    assert parse(text) == topic


def test_every_kind_is_in_the_table_above_and_in_the_docstring() -> None:
    assert {topic.kind for _, topic in TEXTS} == set(Kind)
    shapes = re.findall(r"^fl/1/<job>/(\S+)", topics.__doc__ or "", re.MULTILINE)
    written = [re.sub(r"<(\w+)>", r"{\1}", shape) for shape in shapes]
    assert [w.replace("{b}", "{block}").replace("{i}", "{index}") for w in written] == [k.value for k in Kind]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fl/1",
        "fl/1/",
        "fl/2/job/pub/agg",
        "xfl/1/job/pub/agg",
        "fl/1/job",
        "fl/1//pub/agg",
        "fl/1/job/pub/agg/",
        "fl/1/job/pub/agg/more",
        "fl/1/JOB/pub/agg",
        "fl/1/job\n/pub/agg",
        "fl/1/job/pub/agg\n",
        f"fl/1/{'j' * 65}/pub/agg",
        f"fl/1/job/pub/model/{D[:-1]}",
        f"fl/1/job/pub/model/{D.upper()}",
        f"fl/1/job/pub/block/{D}/00/1",
        f"fl/1/job/pub/block/{D}/-1/1",
        f"fl/1/job/pub/block/{D}/1/10000000",
        f"fl/1/job/pub/block/{D}/\u0661/1",
        "fl/1/job/up/+/state",
        "fl/1/job/up/#",
        "fl/1/job/up/a/chunk/t/zero",
        "fl/1/job/up/a/../state",
        "fl/1/job/" + "x/" * 300,
    ],
)
def test_what_is_no_topic(text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse(text)
    assert caught.value.reason == "unknown_topic"
    assert len(caught.value.detail) <= 80


@pytest.mark.parametrize("name", ["a", "site-1", "x_y", "z" * 64])
def test_names_that_may_stand_in_a_topic(name: str) -> None:
    assert topics.checked_name(name, "--client-id") == name


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "a/b", "+", "#", "z" * 65, "a\n", "\u00e4", topics.AGGREGATOR]
)
def test_names_that_may_not(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--client-id .* use 1 to 64"):
        topics.checked_name(name, "--client-id")


def _matches(topic_filter: str, topic: str) -> bool:
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]+")
    return re.fullmatch(pattern, topic) is not None


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        (topics.aggregator_filters("job"), {Kind.AGG, Kind.STATE, Kind.EVENT, Kind.OFFER, Kind.CHUNK}),
        (topics.client_filters("job", "a"), {Kind.AGG, Kind.ROUND, Kind.MODEL, Kind.CONTROL, Kind.ACK}),
        (topics.watcher_filters("+"), {Kind.AGG, Kind.ROUND, Kind.STATE}),
        (
            topics.operator_filters("job"),
            {
                Kind.AGG,
                Kind.ROUND,
                Kind.STATE,
                Kind.EVENT,
                Kind.OFFER,
                Kind.ACK,
                Kind.RUN,
                Kind.LINE,
                Kind.ANSWER,
            },
        ),
        ([topics.command_filter("job")], {Kind.COMMAND}),
        ([topics.manifest_filter("job")], {Kind.MODEL}),
        ([topics.block_filter("job", D, 2)], {Kind.BLOCK}),
    ],
)
def test_filters_hear_these_kinds_and_no_other(filters: list[str], heard: set[Kind]) -> None:
    found = {topic.kind for text, topic in TEXTS if any(_matches(each, text) for each in filters)}
    assert found == heard


def test_client_hears_only_its_own_downlink() -> None:
    mine = topics.client_filters("job", "a")
    assert not any(_matches(each, "fl/1/job/dn/b/control") for each in mine)
    assert not any(_matches(each, "fl/1/job/dn/b/ack/t") for each in mine)


def test_aggregator_hears_who_asks_for_its_job() -> None:
    text = str(Topic("job", Kind.CONTROL, client=topics.AGGREGATOR))
    assert text in topics.aggregator_filters("job")
