"""The page of commands: every command and option is on it, and a stale page is found out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated

import pytest
import typer

SCRIPT = Path(__file__).parents[3] / "docs" / "make_cli.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, turned on a small program of our own."""
    spec = importlib.util.spec_from_file_location("make_cli", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "toy_cli", SimpleNamespace(app=toy()))
    monkeypatch.setattr(module, "PROGRAMS", {"toy": "toy_cli"})
    monkeypatch.setattr(module, "PAGE", tmp_path / "cli.md")
    return module


def toy() -> typer.Typer:
    app = typer.Typer(help="A toy.")

    @app.callback()
    def all_of_it() -> None:
        """A toy."""

    @app.command()
    def play(
        images: Annotated[list[str], typer.Argument(metavar="IMAGE")],
        loud: Annotated[
            bool, typer.Option("--loud/--no-loud", envvar="FL_LOUD", help="Either | or.")
        ] = False,
        times: Annotated[int, typer.Option("--times", envvar="FL_TIMES", help="How often.")] = 3,
        out: Annotated[str | None, typer.Option("--out", metavar="DIR|FILE", help="Where.")] = None,
    ) -> None:
        """Play it.

        Twice, if you like.
        """

    return app


def test_every_command_and_option_is_on_the_page(script: ModuleType) -> None:
    page = script.page()
    for said in ("## toy", "### toy play", "Twice, if you like.", "toy play [OPTIONS] IMAGE...",
                 "| `--times NUMBER` | How often. | `3` | `FL_TIMES` |",
                 "| `--loud, --no-loud` | Either \\| or. | off | `FL_LOUD` |", "| `--out DIR\\|FILE` | Where. |  |  |"):  # fmt: skip
        assert said in page
    assert "completion" not in page


def test_check_finds_a_stale_page(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 1 and "stale" in capsys.readouterr().err
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    script.PAGE.write_text(script.PAGE.read_text() + "x")
    assert script.main(["--check"]) == 1
