"""What ``fl-agg strategies`` tells: every strategy, its options with bounds and defaults, and where it is from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aggregator.strategies.options import Option, options_of
from aggregator.strategies.registry import STRATEGIES, strategy_class
from aggregator.strategy import Strategy
from fl_protocol import entrypoints
from fl_protocol.entrypoints import Offered
from fl_protocol.errors import ConfigError

WIDTH = 100


@dataclass(frozen=True)
class Listed:
    """One strategy as people are told of it; ``error`` says why one that a package offers cannot be used."""

    name: str
    package: str
    source: str = ""
    summary: str = ""
    options: tuple[Option, ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Keys: name, package, and source, summary, options (name, domain, default, text), or error."""
        if self.error:
            return {"name": self.name, "package": self.package, "error": self.error}
        options = [
            {"name": each.name, "domain": each.domain, "default": each.default, "text": each.text}
            for each in self.options
        ]
        return {
            "name": self.name, "package": self.package, "source": self.source, "summary": self.summary,
            "options": options,
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        if self.error:
            yield f"{self.name}: cannot be used"
            return
        yield f"{self.name}: {self.summary}"
        yield f"    {self.source}" + (f" (package {self.package})" if self.package != "hilum" else "")
        for each in self.options:
            words = f"{each.name}={each.default_text}: {each.domain}. {each.text}"
            yield from textwrap.wrap(
                words, WIDTH, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False
            )


def listed() -> list[Listed]:
    """All strategies, by name: ours, then those of other packages, of which some may be of no use."""
    ours = [_described(name, "hilum", kind) for name, kind in sorted(STRATEGIES.items())]
    return [*ours, *(_offered(each) for each in entrypoints.offered(entrypoints.STRATEGIES).values())]


def _offered(offer: Offered) -> Listed:
    if offer.name in STRATEGIES:
        return Listed(offer.name, offer.package, error=f"{offer} has the name of one of ours: rename it")
    try:
        return _described(offer.name, offer.package, strategy_class(offer))
    except ConfigError as error:
        return Listed(offer.name, offer.package, error=str(error))


def _described(name: str, package: str, kind: type[Strategy]) -> Listed:
    return Listed(name, package, kind.source, kind.summary, tuple(options_of(kind)))
