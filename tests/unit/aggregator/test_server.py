"""The order in which a server performs effects: kept, then told. The rest of it is tested with real processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.federation import Federation
from aggregator.server import Server
from tests.federations import BASE, rule, update_of

ROUND = ev.KeepRound(1, 1, ("a", "b"), BASE, 1)


def serving(journal: Mock) -> tuple[Server, Mock]:
    """As much of a server as performs effects, and the view that a person looks at."""
    view = Mock()
    parts = SimpleNamespace(
        run_dir=SimpleNamespace(journal=journal),
        station=Mock(),
        view=view,
        federation=Federation(rule(), BASE),
    )
    return cast("Any", parts), view


@pytest.mark.parametrize(
    ("effect", "keeps", "said"),
    [
        (ROUND, "keep_round", seen.RoundOpened),
        (ev.KeepUpdate(1, update_of("a")), "keep_updates", seen.UpdateAccepted),
    ],
)
def test_a_person_hears_of_what_is_on_disk_and_of_nothing_else(
    effect: ev.Effect, keeps: str, said: type[object]
) -> None:
    journal = Mock()
    server, view = serving(journal)
    Server._apply(server, [effect])
    assert isinstance(view.show.call_args.args[0], said)

    getattr(journal, keeps).side_effect = OSError("no space left on device")
    server, view = serving(journal)
    with pytest.raises(OSError, match="no space"):
        Server._apply(server, [effect])
    view.show.assert_not_called()
