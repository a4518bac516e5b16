from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.shelf import MOST, MOST_REFUSED, Shelf, Shelved
from fl_protocol.modelfile import ModelFile
from fl_tasks.predict import Described

ABOUT = Described("hilum-cnn", ("NORMAL", "PNEUMONIA"), 96, "chest-xray", 1)


def model(number: int, **more: str) -> Shelved:
    file = ModelFile(Path("x"), (), {"round": str(number), **more}, 0, 0)
    return Shelved(f"{number:064d}", file, ABOUT, float(number))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, follows=True, refer_below=0.8)


def test_the_newest_reads_unless_one_is_pinned(shelf: Shelf) -> None:
    assert shelf.in_use() is None and shelf.state()["in_use"] is None
    for number in (1, 2):
        shelf.put(model(number))
    assert shelf.in_use() == model(2)
    assert shelf.choose(model(1).digest) == ""
    shelf.put(model(3))
    assert shelf.in_use() == model(1) and shelf.state()["pinned"]
    assert [each["round"] for each in shelf.state()["models"]] == [3, 2, 1]
    assert shelf.choose(None) == "" and shelf.in_use() == model(3)
    assert "not here any more" in shelf.choose("f" * 64)


def test_few_models_are_kept_and_the_pinned_one_among_them(shelf: Shelf) -> None:
    shelf.put(model(1))
    shelf.choose(model(1).digest)
    for number in range(2, MOST + 5):
        shelf.put(model(number))
    assert len(shelf.state()["models"]) == MOST
    assert shelf.in_use() == model(1)


def test_a_restart_remembers_the_pin_and_what_rounds_told(shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(model(1))
    shelf.put(model(2))
    shelf.tell(1, 4, {"auroc": 0.9})
    shelf.tell(1, None, {"sites_auroc": 0.95})
    shelf.tell(2, 5, {})
    shelf.choose(model(1).digest)
    again = Shelf(tmp_path, follows=True, refer_below=0.8)
    again.put(model(1))
    again.put(model(2))
    used = again.in_use()
    assert used is not None and used.digest == model(1).digest
    assert used.sites == 4 and used.figures == {"auroc": 0.9, "sites_auroc": 0.95}
    assert [each["sites"] for each in again.state()["models"]] == [5, 4]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"pinned": 5, "models": 3}', '{"models": {"' + f"{1:064d}" + '": 1}}']
)
def test_notes_that_are_odd_cost_nothing_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "room.json").write_text(text)
    shelf = Shelf(tmp_path, follows=False, refer_below=0.8)
    shelf.put(model(1))
    assert shelf.in_use() == model(1)


def test_what_a_round_told_waits_for_its_model(shelf: Shelf) -> None:
    shelf.tell(7, 4, {"auroc": 0.9})
    shelf.tell(7, None, {"accuracy": 0.8})
    shelf.put(model(7))
    used = shelf.in_use()
    assert used is not None and used.sites == 4 and used.figures == {"auroc": 0.9, "accuracy": 0.8}


def test_refusals_are_told_once_and_bounded(shelf: Shelf) -> None:
    heard: list[int] = []
    shelf.listen(lambda: heard.append(1))
    for number in range(MOST_REFUSED + 2):
        shelf.refuse(f"{number}", "why")
    shelf.refuse(f"{MOST_REFUSED + 1}", "why")
    assert len(shelf.state()["refused"]) == MOST_REFUSED and len(heard) == MOST_REFUSED + 2
    shelf.say("here")
    shelf.say("here")
    assert len(heard) == MOST_REFUSED + 3


def test_what_a_person_is_told_of_a_model(shelf: Shelf) -> None:
    shelf.put(model(3, temperature="1.2"))
    told = shelf.state()["models"][0]
    assert told["calibrated"] and told["round"] == 3 and told["name"] == "hilum-cnn for chest-xray"
    assert model(1, round="x").round_number is None
