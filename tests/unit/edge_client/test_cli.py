"""What fl-edge says to a person who mistypes, and to one who does not."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from edge_client import cli
from fl_protocol import commandline
from fl_protocol.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FL_BROKER", "FL_DATA", "FL_PASSWORD", "FL_JOB", "FL_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "xrays" / name).mkdir(parents=True)
        (tmp_path / "xrays" / name / f"{name}-1.png").write_bytes(b"looks like one")
    return str(tmp_path / "xrays")


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert commandline.exit_code(cli.app, "fl-edge", [*arguments]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("fl-edge: ")
    return err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--shard", "0/3"), "--shard"),
        (("--shard", "4/3"), "--shard"),
        (("--shard", "x"), "K/N"),
        (("--partition", "dirichlet"), "dirichlet:0.5"),
        (("--partition", "dirichlet:-1"), "--partition"),
        (("--client-id", "A B"), "--client-id"),
        (("--job", ""), "--job"),
        (("--device", "gpu"), "auto, cpu, cuda"),
        (("--threads", "0"), "--threads"),
        (("--seed", "-1"), "--seed"),
        (("--connect-timeout", "nan"), "--connect-timeout"),
        (("--data", "nowhere"), "nowhere does not exist"),
        (("--broker", "mqtt://hub"), "HOST or HOST:PORT"),
        (("--ca", "none.crt"), "none.crt"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], folder: str, arguments: tuple[str, ...], named: str
) -> None:
    assert named in refused(capsys, 2, "join", "--broker", "localhost:1", "--data", folder, *arguments)


def test_a_broker_must_be_named(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    assert "--broker" in refused(capsys, 2, "join", "--data", folder)


def test_a_folder_must_hold_images_of_both_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "--data" in refused(capsys, 2, "join", "--broker", "localhost")
    (tmp_path / "half" / "NORMAL").mkdir(parents=True)
    (tmp_path / "half" / "NORMAL" / "a.png").write_bytes(b"x")
    assert "PNEUMONIA" in refused(capsys, 2, "join", "--broker", "localhost", "--data", "half")


def test_no_broker_is_one_line_and_exit_3(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    said = refused(capsys, 3, "join", "--broker", address, "--data", folder, "--connect-timeout", "0.3")
    assert address in said
    assert "--broker" in said
    assert not list(Path("hilum-edge").rglob("*.tmp"))


def test_predicting_with_no_model_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.safetensors" in refused(capsys, 2, "predict", "--model", "none.safetensors", "x.png")


def test_a_table_for_people() -> None:
    rows: list[dict[str, Any]] = [
        {"file": "a.png", "class": "NORMAL", "probability": 0.975, "probabilities": {}},
        {"file": "long-name.png", "error": "it is cut"},
    ]
    assert cli.table(rows).splitlines() == [
        "a.png          NORMAL  97.5%",
        "long-name.png  it is cut",
    ]


def test_shards() -> None:
    assert cli.parse_shard(None) == (1, 1)
    assert cli.parse_shard("2/3") == (2, 3)
    with pytest.raises(ConfigError, match="K/N"):
        cli.parse_shard("1/3\n")


@pytest.mark.parametrize(
    ("host", "shards", "name"),
    [
        ("Ward-7.hospital.example", (1, 1), "ward-7"),
        ("Röntgen PC", (2, 3), "r-ntgen-pc-shard2"),
        ("...", (1, 1), "edge"),
        ("x" * 80, (1, 1), "x" * 50),
    ],
)
def test_the_default_client_id(host: str, shards: tuple[int, int], name: str) -> None:
    assert cli.default_client(host, *shards) == name


def test_the_help_names_every_option_and_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert commandline.exit_code(cli.app, "fl-edge", ["join", "--help"]) == 0
    out = capsys.readouterr().out
    for option in (
        "--broker",
        "--data",
        "--shard",
        "--partition",
        "--connect-timeout",
        "--password-file",
        "--plugin",
    ):
        assert option in out
        assert "FL_" + option[2:].upper().replace("-", "_") in out
