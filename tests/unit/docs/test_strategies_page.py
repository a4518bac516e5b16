"""docs/strategies.md knows every strategy, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from aggregator.strategies.registry import STRATEGIES

PAGE = Path(__file__).parents[3] / "docs" / "strategies.md"


def test_the_table_names_every_strategy() -> None:
    table = PAGE.read_text("utf-8").split("## Which one")[1].split("Each module in")[0]
    assert set(re.findall(r"`([\w-]+)`", table)) == set(STRATEGIES)
