"""Tasks by name.

Registering costs nothing: a task is built, and torch imported, when it is first asked for. A plug-in is a module the
operator names (``--plugin MODULE``); on import it calls :func:`register`. An installed package needs no option: it
offers its tasks as entry points of the group ``hilum.tasks`` (docs/strategies.md).
"""

from __future__ import annotations

import importlib
from functools import partial

from fl_protocol import entrypoints
from fl_protocol.errors import ConfigError
from fl_tasks.base import Factory, Place, Task
from fl_tasks.catalogue import ARRAY_TASKS, NOT_YET


def _chest_xray(place: Place) -> Task:
    from fl_tasks.chest_xray import ChestXray

    return ChestXray(place)


def _array_images(name: str, place: Place) -> Task:
    from fl_tasks.array_task import ArrayImages

    return ArrayImages(name, place)


_factories: dict[str, Factory] = {
    "chest-xray": _chest_xray,
    **{name: partial(_array_images, name) for name in ARRAY_TASKS},
}


def register(name: str, factory: Factory) -> None:
    """Add a task. A name is registered once, so that no plug-in quietly replaces a task."""
    if name in _factories and _factories[name] is not factory:
        raise ConfigError(f"task {name!r} is registered already: give the plug-in's task another name")
    _factories[name] = factory


def task_names() -> list[str]:
    """The registered names and those that installed packages offer, sorted."""
    return sorted({*_factories, *entrypoints.offered(entrypoints.TASKS)})


def get_task(name: str, place: Place | None = None) -> Task:
    """A new task of that name: a registered one, or one that an installed package offers (``hilum.tasks``).

    Raises ConfigError with the known names for an unknown one, or for a package's that cannot be loaded or built.
    """
    factory = _factories.get(name)
    if factory is None and (offer := entrypoints.offered(entrypoints.TASKS).get(name)) is not None:
        made = offer.load()
        with entrypoints.blamed(str(offer), "cannot be built"):
            task: Task = made(place or Place())
        return task
    if factory is None:
        why = f" ({NOT_YET[name]})" if name in NOT_YET else ""
        raise ConfigError(f"unknown task {name!r}{why}: use one of {', '.join(_shown_names(name))}")
    return factory(place or Place())


def _shown_names(wanted: str) -> list[str]:
    """The registered names; those of another family than ``wanted`` stand as one."""

    def shown(name: str) -> str:
        family, colon, _ = name.partition(":")
        return f"{family}:NAME" if colon and family != wanted.partition(":")[0] else name

    return list(dict.fromkeys(map(shown, task_names())))


def load_plugin(module: str) -> None:
    """Import the operator's module. Raises ConfigError if there is none of that name."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise ConfigError(f"no module {module!r} for --plugin: give an importable module name") from None
