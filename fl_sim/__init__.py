"""fl-sim: many virtual clients in one machine, and real federations under faults.

In a notebook (docs/notebook.ipynb):

    import fl_sim
    run = fl_sim.simulate("chest_xray", clients=8, rounds=10, partition="dirichlet:0.5")
    run.plot("auroc")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl_sim.notebook import compare, simulate

__all__ = ["compare", "simulate"]


def __getattr__(name: str) -> Any:
    """What is for notebooks is loaded when it is asked for: a worker's start is none the slower."""
    if name not in __all__:
        raise AttributeError(f"module 'fl_sim' has no attribute {name!r}")
    from fl_sim import notebook

    return getattr(notebook, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
