"""The proxy over real sockets: what comes through, and what each fault looks like from either side."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fl_sim.line import PROFILES, Line
from fl_sim.proxy import FaultProxy
from tests.brokers import until

PATIENCE_S = 10.0


class Far:
    """A server that keeps its connections for the test to read and write."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(PATIENCE_S)
        self.address: tuple[str, int] = self.listening.getsockname()[:2]
        self.kept: list[socket.socket] = []

    def accept(self) -> socket.socket:
        found, _ = self.listening.accept()
        found.settimeout(PATIENCE_S)
        self.kept.append(found)
        return found

    def close(self) -> None:
        for each in (self.listening, *self.kept):
            each.close()


@pytest.fixture
def far() -> Iterator[Far]:
    server = Far()
    yield server
    server.close()


@pytest.fixture
def proxy(far: Far) -> Iterator[FaultProxy]:
    with FaultProxy(far.address) as started:
        yield started


@contextlib.contextmanager
def caller(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_S) as near:
        yield near


def receive(source: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = source.recv(size - len(got))
        assert piece, f"ended after {len(got)} of {size} bytes"
        got += piece
    return got


def silent(source: socket.socket, for_s: float = 0.2) -> bool:
    """Whether neither bytes nor an end come for so long."""
    source.settimeout(for_s)
    try:
        source.recv(1)
    except TimeoutError:
        return True
    finally:
        source.settimeout(PATIENCE_S)
    return False


@pytest.mark.parametrize("line", [PROFILES["lan"], PROFILES["clinic"], Line(80_000, 80_000, 5, 5, 0.01)])
def test_megabytes_pass_unchanged_both_ways(far: Far, line: Line) -> None:
    data = os.urandom(700_000)
    with FaultProxy(far.address, line) as proxy, caller(proxy) as near:
        there = far.accept()
        sending = [threading.Thread(target=each.sendall, args=(data,)) for each in (near, there)]
        for thread in sending:
            thread.start()
        assert receive(there, len(data)) == data
        assert receive(near, len(data)) == data
        for thread in sending:
            thread.join()
        counts = proxy.counts()
        assert (counts.up_bytes, counts.down_bytes, counts.connections) == (len(data), len(data), 1)


def test_nothing_comes_before_its_time(far: Far) -> None:
    with FaultProxy(far.address, Line(up_kbit_s=80, delay_ms=100)) as proxy, caller(proxy) as near:
        there, began = far.accept(), time.monotonic()
        near.sendall(bytes(5_000))
        receive(there, 5_000)
        assert time.monotonic() >= began + 0.59  # 0.5 s at 10 kB/s and 0.1 s on the way


def test_a_slow_line_holds_its_sender_back(far: Far) -> None:
    """What cannot leave is not hoarded: the sender's own buffers fill."""
    with FaultProxy(far.address, Line(up_kbit_s=8)) as proxy, caller(proxy) as near:
        far.accept()
        near.settimeout(0.3)
        with pytest.raises(TimeoutError):
            near.sendall(bytes(64 << 20))
        assert proxy.counts().up_bytes < 4 << 20


def test_an_end_is_passed_on_behind_the_last_byte(proxy: FaultProxy, far: Far) -> None:
    with caller(proxy) as near:
        there = far.accept()
        near.sendall(b"last words")
        near.close()
        assert receive(there, 10) == b"last words"
        assert there.recv(1) == b""
    until(lambda: proxy.connected() == 0, "the proxy forgets it")


def test_a_cut_resets_both_sides_and_leaves_the_door_open(proxy: FaultProxy, far: Far) -> None:
    with caller(proxy) as near:
        there = far.accept()
        near.sendall(b"x")
        receive(there, 1)
        assert proxy.cut() == 1
        for end in (near, there):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    assert proxy.counts().cut == 1
    with caller(proxy) as again:
        again.sendall(b"y")
        assert receive(far.accept(), 1) == b"y"


def test_half_open_is_silence_and_no_end(proxy: FaultProxy, far: Far) -> None:
    with caller(proxy) as near:
        there = far.accept()
        near.sendall(b"x")
        receive(there, 1)
        assert proxy.half_open() == 1
        near.sendall(b"into the void")
        there.sendall(b"likewise")
        assert silent(near)
        assert silent(there)
        near.close()
        assert silent(there), "the other side does not hear of the end"
        assert proxy.counts().dropped_bytes == 21
        with caller(proxy) as again:
            again.sendall(b"y")
            assert receive(far.accept(), 1) == b"y"
        there.close()
        until(lambda: not proxy._paths, "it is forgotten when both have ended")


def test_nobody_listens_while_it_refuses(proxy: FaultProxy, far: Far) -> None:
    with caller(proxy) as near:
        there = far.accept()
        with proxy.refusing():
            with pytest.raises(ConnectionRefusedError), caller(proxy):
                pass
            near.sendall(b"still here")
            assert receive(there, 10) == b"still here"
        with caller(proxy) as again:
            again.sendall(b"y")
            assert receive(far.accept(), 1) == b"y"


def test_a_stalled_line_loses_nothing(proxy: FaultProxy, far: Far) -> None:
    with caller(proxy) as near:
        there = far.accept()
        near.sendall(b"x")
        receive(there, 1)
        with proxy.stalled():
            near.sendall(b"later")
            assert silent(there)
        assert receive(there, 5) == b"later"


def test_a_new_shape_holds_for_what_is_connected(proxy: FaultProxy, far: Far) -> None:
    with caller(proxy) as near:
        there = far.accept()
        proxy.shape(Line(up_kbit_s=8))
        began = time.monotonic()
        near.sendall(bytes(500))
        receive(there, 500)
        assert time.monotonic() >= began + 0.49
        proxy.shape(PROFILES["lan"])
        near.sendall(bytes(1 << 20))
        receive(there, 1 << 20)


def test_a_target_that_is_away_is_seen_as_a_reset(proxy: FaultProxy, far: Far) -> None:
    far.listening.close()
    with (
        pytest.raises(ConnectionResetError),
        caller(proxy) as near,
    ):  # it may be so quick that connecting fails
        near.recv(1)
    until(lambda: proxy.counts().refused == 1, "it is counted")


def test_frames_are_doubled_and_come_again(far: Far) -> None:
    packet, copy = b"\x32\x07\x00\x01a\x00\x07hi", b"\x30\x05\x00\x01ahi"
    with FaultProxy(far.address, mqtt=True) as proxy, caller(proxy) as near:
        there = far.accept()
        there.sendall(packet)
        assert receive(near, len(packet)) == packet
        proxy.double(True)
        there.sendall(packet[:3])
        there.sendall(packet[3:])
        assert receive(near, len(packet + copy)) == packet + copy, "also if no other frame overtakes it"
        assert proxy.replay() == 1
        assert receive(near, len(copy)) == copy
        proxy.double(False)
        there.sendall(packet)
        assert receive(near, len(packet)) == packet
        assert silent(near)


def test_only_mqtt_can_be_doubled(proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match="mqtt=True"):
        proxy.double(True)


def test_closing_leaves_no_thread_and_no_port(far: Far) -> None:
    proxy = FaultProxy(far.address).start()
    with caller(proxy) as near:
        far.accept()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)
    assert not proxy._thread.is_alive()
    with pytest.raises(ConnectionRefusedError), caller(proxy):
        pass
    proxy.close()


def test_a_taken_port_is_an_error_and_leaves_nothing(far: Far) -> None:
    proxy = FaultProxy(far.address, port=far.address[1])
    with pytest.raises(OSError, match="in use"):
        proxy.start()
    assert not proxy._thread.is_alive()
