"""Brokers for the whole folder; programs that end with their test; one finished run of each task to look at."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from fl_tasks.phantoms import draw
from tests.broker.test_access import issue, openssl, password_file
from tests.brokers import Broker, mosquitto, running, shipped_mosquitto
from tests.browsers import chromium
from tests.e2e.processes import Program, Programs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts real processes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One open broker for all tests; jobs keep them apart."""
    with running(mosquitto(tmp_path_factory.mktemp("broker"), "max_queued_messages 4000")) as found:
        yield found


@pytest.fixture(scope="session")
def broker_address(broker: Broker) -> str:
    return broker.options.where


@pytest.fixture(scope="session")
def login_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker without TLS that asks for a password: NAME-secret."""
    folder = tmp_path_factory.mktemp("login-broker")
    lines = f"password_file {password_file(folder / 'passwords')}", "allow_anonymous false"
    plain = mosquitto(folder, *lines)
    plain.config = plain.config.replace("allow_anonymous true\n", "")
    plain.options = plain.options.__class__(plain.options.host, plain.options.port, username="aggregator")
    with running(plain) as found:
        yield found


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates for the broker, the aggregator and two sites."""
    folder = tmp_path_factory.mktemp("papers")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60", "-subj", "/CN=authority",
            "-keyout", folder / "ca.key", "-out", folder / "ca.crt",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name in ("server", "aggregator", "site-a", "site-b"):
        issue(folder, name)
    return folder


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory, papers: Path) -> Iterator[Broker]:
    """broker/mosquitto.conf and broker/acl as a deployment switches them on: passwords, TLS, rights."""
    folder = tmp_path_factory.mktemp("secure")
    password_file(folder / "passwords")
    for name in ("server.crt", "server.key"):
        (folder / name).write_bytes((papers / name).read_bytes())
    with running(shipped_mosquitto(folder, secure=True)) as found:
        yield found


@pytest.fixture(scope="session")
def closed_port() -> Iterator[int]:
    """A port on which nobody listens: held, so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a file's tests; a profile keeps each apart. Its loop in our thread must not outlive the file."""
    with chromium() as found:
        yield found


@pytest.fixture
def programs(tmp_path: Path, broker_address: str) -> Iterator[Programs]:
    """Programs in a folder and a job of this test's own."""
    started = Programs(tmp_path, broker_address, f"test-{uuid.uuid4().hex[:12]}")
    try:
        yield started
    finally:
        started.close()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, broker_address: str) -> Path:
    """The run directory of an echo run of job ``echo`` and one round. Copy it."""
    programs = Programs(tmp_path_factory.mktemp("finished"), broker_address, "echo")
    try:
        agg = programs.agg("--rounds", 1, "--min-clients", 1)
        programs.edge("edge1")
        assert agg.wait() == 0, agg.told()
    finally:
        programs.close()
    return programs.run_dir


def phantoms(folder: Path, count: int, side: int = 40) -> Path:
    """``folder/{NORMAL,PNEUMONIA}`` with ``count`` drawn images of each class, each of another patient."""
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            stem = f"IM-{index:04d}-0001" if label == 0 else f"person{index}_virus_{index}"
            pixels = Image.fromarray(draw(label, np.random.default_rng([label, index]))).resize((side, side))
            pixels.save(folder / name / f"{stem}.jpeg")
    return folder


def odd_images(folder: Path) -> None:
    """Beside good images: a truncated JPEG, a text, and 16-bit, RGB and 1x1 images, each of another patient."""
    normal = folder / "NORMAL"
    whole = next(iter(sorted(normal.glob("*.jpeg")))).read_bytes()
    (normal / "IM-0900-0001.jpeg").write_bytes(whole[: len(whole) // 2])
    (normal / "IM-0901-0001.jpeg").write_text("not an image\n")
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 65_535, (30, 30)).astype(np.uint16)).save(normal / "IM-0902-0001.png")
    Image.fromarray(rng.integers(0, 255, (30, 30, 3)).astype(np.uint8)).save(normal / "IM-0903-0001.png")
    Image.fromarray(np.full((1, 1), 99, np.uint8)).save(normal / "IM-0904-0001.png")


@dataclass
class XrayRun:
    """A finished run of the real task, with one edge whose folder has odd images and one with texts alone."""

    folder: Path
    agg: Program
    odd: Program
    texts: Program

    @property
    def model(self) -> Path:
        return self.folder / "run" / "global.safetensors"


@pytest.fixture(scope="session")
def xray_run(tmp_path_factory: pytest.TempPathFactory, broker_address: str) -> Iterator[XrayRun]:
    folder = tmp_path_factory.mktemp("xray")
    odd_images(phantoms(folder / "odd", 5))
    for file in phantoms(folder / "texts", 2).rglob("*.jpeg"):
        file.write_text("a text, whatever its name says\n")
    programs = Programs(folder, broker_address, "xray")
    join = ("fl-edge", "join", "--broker", broker_address, "--job", "xray", "--device", "cpu", "--threads", 1)
    try:
        agg = programs.start(
            "fl-agg", "start", "--broker", broker_address, "--job", "xray", "--rounds", 1, "--min-clients", 1,
            "--image-size", 32, "--out", programs.run_dir, name="agg",
        )  # fmt: skip
        texts = programs.start(*join, "--data", "texts", "--client-id", "texts", name="texts")
        texts.wait()
        odd = programs.start(*join, "--data", "odd", "--client-id", "odd", name="odd")
        agg.wait(60)
        odd.wait()
        yield XrayRun(folder, agg, odd, texts)
    finally:
        programs.close()
