"""Strategies by name: ours, and those that other installed packages offer (docs/strategies.md shows how)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregator.strategies.fedasync import FedAsync
from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.fedbn import FedBN
from aggregator.strategies.fedbuff import FedBuff
from aggregator.strategies.fednova import FedNova
from aggregator.strategies.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from aggregator.strategies.fedprox import FedProx
from aggregator.strategies.foreign import Foreign
from aggregator.strategies.geometric_median import GeometricMedian
from aggregator.strategies.krum import Krum, MultiKrum
from aggregator.strategies.median import Median, TrimmedMean
from aggregator.strategies.norm_clipping import NormClipping
from aggregator.strategies.options import options_of, parse_options
from aggregator.strategies.scaffold import Scaffold
from aggregator.strategy import Strategy
from fl_protocol import entrypoints
from fl_protocol.entrypoints import Offered
from fl_protocol.errors import ConfigError

STRATEGIES: dict[str, type[Strategy]] = {
    each.name: each
    for each in (
        FedAvg,
        FedAvgM,
        FedAdagrad,
        FedAdam,
        FedYogi,
        FedProx,
        FedBN,
        FedNova,
        Scaffold,
        FedBuff,
        FedAsync,
        Median,
        TrimmedMean,
        Krum,
        MultiKrum,
        GeometricMedian,
        NormClipping,
    )
}


def get_strategy(name: str, options: Mapping[str, str] | None = None) -> Strategy:
    """The strategy of that name with these options, as texts; the others have their defaults.

    Raises ConfigError for an unknown name, key or value (with the known ones), or a package's strategy that fails.
    """
    if name in STRATEGIES:
        return STRATEGIES[name](**parse_options(STRATEGIES[name], options or {}, name))
    found = entrypoints.offered(entrypoints.STRATEGIES)
    if name not in found:
        raise ConfigError(
            f"unknown strategy {name!r}: choose one of {', '.join(sorted({*STRATEGIES, *found}))}"
        )
    kind = strategy_class(found[name])
    with entrypoints.blamed(str(found[name]), "cannot be built"):
        return Foreign(kind(**parse_options(kind, options or {}, name)), found[name])


def shown_options(strategy: Strategy) -> dict[str, Any]:
    """Every option of a strategy and its value, defaults included."""
    inner = strategy.inner if isinstance(strategy, Foreign) else strategy
    return {each.name: getattr(inner, each.name) for each in options_of(type(inner))}


def strategy_class(offer: Offered) -> type[Any]:
    """The class that a package offers. Raises ConfigError if it cannot be loaded or is no strategy."""
    kind = offer.load()
    if not (isinstance(kind, type) and issubclass(kind, Strategy)):
        raise ConfigError(f"{offer} is no subclass of aggregator.strategy.Strategy: mend or uninstall it")
    return kind
