"""What other installed packages bring along, by entry point: strategies, tasks, models.

Nothing of them is imported until it is asked for by name, and whatever goes wrong in it is one line that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fl_protocol.errors import ConfigError, HilumError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

STRATEGIES, TASKS, MODELS = "hilum.strategies", "hilum.tasks", "hilum.models"


_loaded: dict[str, Offered] = {}
"""What this process uses of other packages, by target."""


@dataclass(frozen=True)
class Offered:
    """One thing that a package offers. ``what`` says what it is, for people: ``strategy``, ``task``, ``model``."""

    what: str
    name: str
    package: str
    target: str
    point: EntryPoint

    def __str__(self) -> str:
        return f"{self.what} {self.name!r} of package {self.package} ({self.target})"

    def load(self) -> Any:
        """The object itself. Raises ConfigError if its module cannot be imported or lacks it."""
        with blamed(str(self), "cannot be loaded"):
            found = self.point.load()
        _loaded[self.target] = self
        return found


def offered(group: str) -> dict[str, Offered]:
    """What installed packages offer in ``group``, by name; of two with one name, the first by package name."""
    from importlib.metadata import entry_points  # 20 ms that an idle edge need not spend

    what = {STRATEGIES: "strategy", TASKS: "task", MODELS: "model"}[group]
    found: dict[str, Offered] = {}
    for point in entry_points(group=group):
        package = point.dist.name if point.dist is not None else "unknown"
        one = Offered(what, point.name, package, point.value, point)
        if point.name not in found or package < found[point.name].package:
            found[point.name] = one
    return dict(sorted(found.items()))


def culprit(error: BaseException) -> Offered | None:
    """What another package brought along and has a hand in ``error``: its code was under way when it was raised."""
    packages = {_package(each.target): each for each in _loaded.values()}
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if (found := packages.get(_package(name))) is not None:
            return found
        trace = trace.tb_next
    return None


def _package(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]


def told(error: BaseException) -> str:
    """An error of somebody else's code in half a line."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{': ' if text else ''}{text}"


@contextmanager
def blamed(name: str, deed: str) -> Iterator[None]:
    """Whatever is raised inside becomes a ConfigError that says who did it: it is the operator's to mend.

    Errors that have a line for people already (HilumError) pass as they are.
    """
    try:
        yield
    except HilumError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name} {deed}: {told(error)}; mend or uninstall it") from error
