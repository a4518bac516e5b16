"""The files around the code: package, image, compose, set-up commands. Each says the same as the others."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import entry_points, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
COMPOSE = shutil.which("docker-compose")
needs_compose = pytest.mark.skipif(
    COMPOSE is None, reason="docker-compose is not installed (make test, as root)"
)


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def code_lines(markdown: str) -> list[str]:
    """Every line inside a fenced block."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def compose(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Debian's docker-compose: it checks a file against the schema and needs no engine."""
    assert COMPOSE
    return subprocess.run(
        [COMPOSE, *command],
        cwd=folder,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        check=False,
    )


def compose_config(**environment: str) -> str:
    return compose(ROOT, "config", **environment).stdout


def service(config: str, name: str) -> str:
    """The resolved text of one service."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", config.partition("services:")[2], re.MULTILINE)
    assert found, f"no service {name}"
    return found[1]


@needs_compose
def test_compose_file_is_valid() -> None:
    done = compose(ROOT, "config", "-q")
    assert done.returncode == 0, done.stderr


@needs_compose
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("    image: eclipse", "    imagee: eclipse"), ("  stop_grace_period:", "  stop_grace_periods:")],
)
def test_a_typo_in_the_compose_file_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    content = text("docker-compose.yml")
    assert content.count(right) == 1
    (tmp_path / "docker-compose.yml").write_text(content.replace(right, wrong))
    done = compose(tmp_path, "config", "-q")
    assert done.returncode != 0
    assert wrong.split(":", maxsplit=1)[0].strip() in done.stderr


@needs_compose
def test_compose_has_a_broker_an_aggregator_and_three_shards() -> None:
    config = compose_config()
    shards = set(re.findall(r"\d/\d", "".join(service(config, f"edge{k}") for k in (1, 2, 3))))
    assert shards == {"1/3", "2/3", "3/3"}
    for name in ("aggregator", "edge1", "edge2", "edge3"):
        assert "FL_BROKER: mosquitto" in service(config, name)
    assert "image: eclipse-mosquitto:2\n" in service(config, "mosquitto")


@needs_compose
@pytest.mark.parametrize("name", ["mosquitto", "aggregator", "edge1", "edge2", "edge3"])
def test_each_service_is_confined_and_comes_back(name: str) -> None:
    config = service(compose_config(), name)
    user = re.search(r"user: (\d+):(\d+)", config)
    assert user
    assert "0" not in user.groups(), "never root"
    assert "read_only: true" in config
    assert "no-new-privileges:true" in config
    assert re.search(r"restart: (unless-stopped|on-failure)", config)
    assert "privileged: true" not in config
    assert "ports:" not in config, "nothing is open to the host's network by default"
    assert re.search(rf"- {name}:/\S+:rw", config), "state belongs in a named volume"


@needs_compose
def test_data_is_mounted_read_only_from_where_the_operator_says(tmp_path: Path) -> None:
    config = compose_config(HILUM_DATA=str(tmp_path))
    for name in ("aggregator", "edge1", "edge2", "edge3"):
        assert f"- {tmp_path}:/data:ro" in service(config, name)
    assert f"- {ROOT}/data:/data:ro" in service(compose_config(), "edge1")


@needs_compose
def test_health_is_asked_of_broker_and_aggregator() -> None:
    config = compose_config()
    assert "mosquitto_sub" in service(config, "mosquitto").partition("healthcheck:")[2]
    assert "fl-agg status | grep -q aggregator=online" in service(config, "aggregator")
    assert "fl-agg status | grep" in service(config, "edge1")
    assert "condition: service_healthy" in service(config, "edge1")


def broker_settings() -> dict[str, str]:
    """What broker/mosquitto.conf says, comments left out."""
    lines = [line for line in text("broker/mosquitto.conf").splitlines() if line and not line.startswith("#")]
    return dict(line.split(maxsplit=1) for line in lines)


@needs_compose
def test_compose_and_broker_settings_fit_each_other() -> None:
    settings = broker_settings()
    config = service(compose_config(), "mosquitto")
    assert settings["listener"] == "1883", "no address behind the port: the other containers must reach it"
    assert f"mosquitto:{settings['persistence_location'].rstrip('/')}:rw" in config
    assert f"- {ROOT}/broker:/mosquitto/config:ro" in config, "where the image looks for mosquitto.conf"


def test_broker_settings_serve_more_than_loopback(tmp_path: Path) -> None:
    """The shipped file, with another port and folder, in a real mosquitto: 127.0.0.2 is not the default address."""
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = broker_settings()
    config = text("broker/mosquitto.conf").replace(settings["persistence_location"], f"{tmp_path}/")
    config = config.replace(
        f"\nlistener {settings['listener']}\n", f"\nuser {getpass.getuser()}\nlistener {port}\n"
    )
    (tmp_path / "mosquitto.conf").write_text(config)
    broker = subprocess.Popen([program, "-c", tmp_path / "mosquitto.conf"], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.2", port)) == 0:
                    break
            assert broker.poll() is None
            time.sleep(0.05)
        else:
            pytest.fail("it does not listen on every address")
    finally:
        broker.terminate()
        _, told = broker.communicate(timeout=10)
    assert "Error" not in told, told


def test_image_is_installed_by_the_commands_of_the_readme() -> None:
    steps = re.findall(
        r"^RUN (python3 -m venv .*|\.venv/bin/pip install .*)$", text("Dockerfile"), re.MULTILINE
    )
    assert len(steps) == 3
    readme = code_lines(text("README.md"))
    places = [readme.index(step) for step in steps]
    assert places == sorted(places), "in the same order"


def test_image_runs_without_root_and_says_how_it_is() -> None:
    final = text("Dockerfile").rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0)\d+:\d+$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert not re.search(r"apt-get|build-essential|gcc", final)
    assert "USER 10001:10001" in final
    assert 'user: "10001:10001"' in text("docker-compose.yml")


def test_builder_gets_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied = {
        name
        for names in re.findall(r"^COPY (?!--)(.+) \S+$", text("Dockerfile"), re.MULTILINE)
        for name in names.split()
    }
    allowed = set(re.findall(r"^!(\S+)$", text(".dockerignore"), re.MULTILINE))
    assert copied == allowed
    assert text(".dockerignore").split("\n*\n", maxsplit=1)[1], "everything is shut out first"
    assert all((ROOT / name).exists() for name in copied)


def test_constraints_agree_with_the_package() -> None:
    """The exact versions lie inside the package's ranges, and torch and torchvision are a pair."""
    ranges = {}
    for line in requires("hilum") or []:
        requirement = Requirement(line)
        ranges[requirement.name] = requirement.specifier
    pins = [Requirement(line) for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    assert {pin.name for pin in pins} >= {"torch", "torchvision"}
    for pin in pins:
        version = str(pin.specifier).removeprefix("==")
        assert version in ranges[pin.name], f"{pin} is outside {ranges[pin.name]}"
    minors = {
        machine: {
            pin.name: int(str(pin.specifier).split(".")[1])
            for pin in pins
            if pin.name.startswith("torch")
            and (pin.marker is None or pin.marker.evaluate({"platform_machine": machine}))
        }
        for machine in ("x86_64", "aarch64", "arm64")
    }
    for machine, pair in minors.items():
        assert pair["torchvision"] == pair["torch"] + 15, (
            machine
        )  # torch 2.N goes with torchvision 0.(N + 15)
    assert minors["aarch64"]["torch"] <= 10, "later wheels for ARM bring CUDA along"


@pytest.mark.skipif(sys.platform != "linux", reason="CUDA comes along on Linux only")
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a machine with an NVIDIA GPU wants CUDA")
def test_set_up_brought_no_cuda() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--disable-pip-version-check"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert not re.findall(r"(?im)^nvidia-\S+|^triton\b", listed)


def test_commands_are_installed() -> None:
    names = {point.name: point.value for point in entry_points(group="console_scripts")}
    assert names["fl-agg"].startswith("aggregator.")
    assert names["fl-edge"].startswith("edge_client.")


def test_wheel_holds_the_six_packages_and_their_templates(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in re.findall(r"^!(\S+)$", text(".dockerignore"), re.MULTILINE):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            tmp_path,
            source,
        ],
        check=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("hilum-*.whl")
    packed = set(ZipFile(wheel).namelist())
    packages = ("aggregator", "edge_client", "fl_protocol", "fl_sim", "fl_tasks", "fl_web")
    ours = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours - packed == set()
    assert {name.split("/")[0] for name in packed if ".dist-info" not in name} == set(packages)
    assert any(name.endswith("licenses/LICENSE") for name in packed)


def test_set_up_says_what_is_missing(tmp_path: Path) -> None:
    """Without Python 3.10 and without root's apt: one line, exit 2, nothing made."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/setup", tmp_path / ".ci/setup")
    done = subprocess.run(
        [tmp_path / ".ci/setup", "python"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "no-such-python"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Python 3.10" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_calls_the_two_commands_people_call() -> None:
    script = text(".ci/run")
    assert "set -euo pipefail" in script
    assert script.rstrip().endswith("make check\nmake test")


def test_contributing_is_short() -> None:
    assert len(text("CONTRIBUTING.md").splitlines()) <= 60


def test_licence_is_whole() -> None:
    licence = text("LICENSE")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/dependencies.md"])
def test_links_lead_somewhere(document: str) -> None:
    base = (ROOT / document).parent
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(document)) + re.findall(
        r'(?:src|srcset)="([^"]+)"', text(document)
    )
    local = [target for target in targets if not target.startswith("http")]
    assert [target for target in local if not (base / target).exists()] == []


def test_every_dependency_is_explained() -> None:
    explained = text("docs/dependencies.md")
    names = {re.split(r"[ <>=;\[]", line, maxsplit=1)[0] for line in requires("hilum") or []}
    assert names
    assert {name for name in names if f"`{name}`" not in explained} == set()
