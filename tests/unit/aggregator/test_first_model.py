"""The first model: made once, named by its digest, and nothing left of what failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.first_model import first_model
from aggregator.rundir import RunDirectory
from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.modelfile import DIGEST_KEY, read_header
from fl_protocol.tensors import CONTROL, MODEL, groups_of
from fl_tasks.jobs import DATA, DISK, Failed, Initialise, Initialised, Reply
from tests.federations import rule
from tests.payloads import floats, model_file

IDENTITY = {"job": "default", "task": "chest-xray"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunDirectory]:
    made = RunDirectory(tmp_path / "run", fresh=False)
    made.check_identity(IDENTITY)
    yield made
    made.close()


def drawn(request: Initialise) -> Reply:
    """A task process that draws."""
    model_file(Path(request.out), {"w": floats(4, 1)})
    return Initialised(request.out, {})


def test_it_lies_under_its_digest_and_the_run_begins_with_it(folder: RunDirectory) -> None:
    asked: list[Initialise] = []

    def draws(request: Initialise) -> Reply:
        asked.append(request)
        return drawn(request)

    digest = first_model(folder, rule(seed=5), "start.safetensors", draws)
    assert [(each.seed, each.init, each.task) for each in asked] == [(5, "start.safetensors", "chest-xray")]
    assert (folder.journal.get("base"), folder.journal.get("identity")) == (digest, IDENTITY)
    metadata = read_header(folder.model_path(digest)).metadata
    assert (metadata[DIGEST_KEY], metadata["round"]) == (digest, "0")
    assert [path.name for path in folder.models.iterdir()] == [f"{digest}.safetensors"]


def test_with_control_variates_the_servers_stands_behind_it(folder: RunDirectory) -> None:
    config = rule(plan=replace(rule().plan, control_variates=True))
    found = read_header(folder.model_path(first_model(folder, config, None, drawn)))
    assert [group.name for group in groups_of(found.tensors, MODEL)] == [MODEL, CONTROL]


@pytest.mark.parametrize(("kind", "error"), [(DATA, ConfigError), (DISK, ConfigError), ("bug", HilumError)])
def test_what_fails_says_whose_fault_it_is_and_leaves_no_draft(
    folder: RunDirectory, kind: str, error: type[HilumError]
) -> None:
    def fails(request: Initialise) -> Reply:
        drawn(request)
        return Failed("Initialise", kind, "no model is called so")

    with pytest.raises(HilumError, match="no model is called so") as raised:
        first_model(folder, rule(), None, fails)
    assert type(raised.value) is error
    assert [*folder.models.iterdir()] == [] and folder.journal.get("base") is None
