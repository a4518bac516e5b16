"""One client: progress of training, of an upload, and the speed of its link."""

from __future__ import annotations

import pytest

from fl_web.dashboard.clients import Client, Uploading, round_in
from tests.dashboard_frames import MANIFEST, OFFER, SIZE, TRANSFER, held, progress, state, verdict

COHORT = frozenset({"a"})


def test_training_and_upload_come_along() -> None:
    client = Client(state("training"), 0.0)
    client.advanced(progress(0.25), 1.0)
    assert client.row(COHORT, "a", 1)["fraction"] == 0.25
    assert client.row(COHORT, "a", 2)["fraction"] is None
    client.told(state("uploading", 1), 2.0, live=True)
    client.offered(OFFER, 2.0)
    client.acknowledged(TRANSFER, held(5), 3.0)
    row = client.row(COHORT, "a", 1)
    assert row["upload"] == pytest.approx(5 * MANIFEST.chunk_bytes / SIZE, abs=1e-3)
    assert row["speed_bps"] == pytest.approx(5 * MANIFEST.chunk_bytes)
    client.acknowledged(TRANSFER, verdict("accepted"), 4.0)
    row = client.row(COHORT, "a", 1)
    assert (row["upload"], row["verdict"], row["fraction"]) == (1.0, "accepted", None)
    assert client.row(COHORT, "a", 2)["verdict"] == ""


def test_an_offer_told_again_goes_on_and_acks_out_of_order_change_nothing() -> None:
    client = Client(state("uploading"), 0.0)
    client.offered(OFFER, 0.0)
    client.acknowledged(TRANSFER, held(6), 1.0)
    client.offered(OFFER, 2.0)
    client.acknowledged(TRANSFER, held(3), 3.0)
    assert client.upload is not None and client.upload.held_bytes == 6 * MANIFEST.chunk_bytes
    client.acknowledged("9-ffff", held(9), 3.0)
    assert client.upload.held_bytes == 6 * MANIFEST.chunk_bytes


def test_more_bits_than_chunks_are_all_of_it() -> None:
    upload = Uploading("1-x", 1000, 2, 600, 0.0)
    upload.acknowledged(b"\xff" * 1000, 1.0)
    assert upload.share == 1.0


def test_the_speed_is_of_late() -> None:
    upload = Uploading("1-x", 10**6, 100, 10_000, 0.0)
    assert upload.speed(0.0) is None
    for second in range(1, 31):
        upload.acknowledged(((1 << second) - 1).to_bytes(13, "little"), float(second))
    for tenth in range(1, 21):
        upload.acknowledged(((1 << (30 + tenth)) - 1).to_bytes(13, "little"), 30 + tenth / 10)
    assert upload.speed(32.0) == pytest.approx(100_000, rel=0.2)


def test_old_words_and_old_wills_are_not_believed() -> None:
    client = Client(state("ready", seq=5), 0.0)
    assert not client.told(state("training", seq=4), 1.0, live=True)
    assert not client.told(state("lost", seq=9, instance="c2"), 1.0, live=True)
    assert client.told(state("lost", seq=6), 1.0, live=True) and not client.present
    assert client.told(state("ready", instance="c2"), 2.0, live=True) and client.present


def test_a_verdict_that_takes_long_does_not_make_a_link_slow() -> None:
    client = Client(state("uploading"), 0.0)
    client.offered(OFFER, 0.0)
    client.acknowledged(TRANSFER, held(20), 1.0)
    before = client.speed_bps
    client.acknowledged(TRANSFER, verdict("accepted"), 60.0)
    assert client.speed_bps == before and client.upload is not None and client.upload.share == 1.0
    small = Client(state("uploading"), 0.0)
    small.offered(OFFER, 0.0)
    small.acknowledged(TRANSFER, verdict("accepted"), 2.0)
    assert small.speed_bps == SIZE / 2


@pytest.mark.parametrize(("transfer", "number"), [("12-ab", 12), ("x-1", 0), ("", 0), ("9" * 40, 0)])
def test_the_round_of_a_transfer(transfer: str, number: int) -> None:
    assert round_in(transfer) == number
