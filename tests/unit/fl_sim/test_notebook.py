"""The simulator in a notebook: the same bytes as the command, results that draw themselves, names that are checked."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import fl_sim
from fl_protocol.errors import ConfigError, DataError
from fl_sim.notebook import Compared, Run
from fl_tasks.phantoms import write_phantoms

SMALL: dict[str, Any] = {
    "clients": 2,
    "rounds": 2,
    "image_size": 32,
    "local_epochs": 1,
    "model": "tiny-cnn",
    "workers": 1,
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", 48, 24)


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "first"
    return fl_sim.simulate(phantoms, out=out, progress=False, strategy="fedavgm",
                           strategy_option={"server_momentum": 0.5}, **SMALL)  # fmt: skip


def test_a_run_knows_its_rounds_and_where_they_lie(run: Run) -> None:
    assert [record["round"] for record in run.rounds] == [1, 2]
    assert run.metrics == run.rounds[-1]["metrics"]
    assert run.curve("auroc") == [(n, record["metrics"]["auroc"]) for n, record in enumerate(run.rounds, 1)]
    assert run.model.is_file() and (run.folder / "report.html").is_file()
    said = json.loads((run.folder / "config.json").read_text())
    assert said["clients"] == {"value": 2, "source": "argument"}
    assert said["strategy_option"]["value"]["server_momentum"] == 0.5
    assert said["synthetic"]["value"] is True


def test_it_is_the_run_of_the_command(run: Run, phantoms: Path, tmp_path: Path) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "fl_sim", "run", "--data", str(phantoms), *options, "--strategy", "fedavgm",
               "--strategy-option", "server_momentum=0.5", "--out", str(tmp_path / "again")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert (tmp_path / "again/global.safetensors").read_bytes() == run.model.read_bytes()


def test_a_plot_is_an_svg_with_a_legend(run: Run, tmp_path: Path) -> None:
    picture = run.plot("auroc", "client_eval_auroc")
    root = ET.fromstring(picture.save(tmp_path / "curve.svg").read_text("utf-8"))
    words = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"auroc, central test", "auroc, at the sites", "first: 2 rounds, synthetic phantoms"} <= words
    assert 'class="band b1"' in picture.svg, "the interval of the central AUROC"
    assert "data:image/svg+xml;base64," in picture._repr_html_()
    assert run.plot().title == "first: 2 rounds, synthetic phantoms"


def test_a_metric_nobody_measured_is_named_with_those_there_are(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"no round measured 'aurok': there is accuracy, auroc"):
        run.plot("aurok")


def test_a_run_shows_itself_as_a_table(run: Run) -> None:
    assert repr(run) == f"Run({str(run.folder)!r}, 2 rounds)"
    shown = run._repr_html_()
    assert "<th>auroc</th>" in shown and f"<td>{run.metrics['auroc']:.4f}</td>" in shown


def test_progress_is_a_line_a_round(
    run: Run, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fl_sim.simulate(phantoms, out=tmp_path / "said", **{**SMALL, "rounds": 1})
    assert capsys.readouterr().out.startswith("round 1: closed: ")


def test_a_comparison_has_a_table_gaps_and_curves(phantoms: Path, tmp_path: Path) -> None:
    found = fl_sim.compare(phantoms, out=tmp_path / "both", progress=False, **{**SMALL, "rounds": 1})
    assert isinstance(found, Compared)
    assert set(found.gaps) == {"over_centralised", "over_mean_local", "over_best_local"}
    assert "<td>federated</td>" in found._repr_html_() and "federated" in str(found)
    assert "centralised" in found.plot().svg
    assert (tmp_path / "both/report.html").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"round": 2}, "there is no option 'round': did you mean rounds?"),
        ({"rounds": 0}, "--rounds"),
        ({"strategy": "fedaverage"}, "fedaverage"),
        ({"cohort": 3.5}, "--cohort"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        fl_sim.simulate(tmp_path, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_importing_the_package_loads_neither_torch_nor_typer() -> None:
    code = "import sys, fl_sim; print([name for name in ('torch', 'typer', 'paho') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"[]\n"


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        fl_sim.simulat  # noqa: B018


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        fl_sim.compare(tmp_path / "nowhere", out=tmp_path / "out")
