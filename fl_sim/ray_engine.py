"""``--engine ray``: the same requests, answered by actors of a Ray cluster. For those who outgrow a machine.

Requests and replies are the msgpack frames of fl_tasks/jobs.py, models and updates the bytes of their files. How Ray
carries them between its processes is its own affair; nothing that we wrote is pickled by us, and nothing from a
federation's network ever comes near this.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from fl_protocol.errors import ConfigError
from fl_sim.engine import Pool
from fl_tasks import jobs

CLOSE_S = 5.0
MODELS_KEPT = 8
"""Models that stay in Ray's object store: all clients of a round are given the same one."""


class RayCrew(Pool):
    """``workers`` actors of one CPU each, on the cluster that RAY_ADDRESS names, else on one started here."""

    def __init__(self, workers: int, *, device: str = "cpu", plugin: str | None = None) -> None:
        super().__init__(workers)
        self._ray = _ray()
        self._models: dict[tuple[str, int, int], Any] = {}
        if not self._ray.is_initialized():
            ours = (
                {"num_cpus": workers, "include_dashboard": False} if "RAY_ADDRESS" not in os.environ else {}
            )
            self._ray.init(log_to_driver=False, runtime_env={"env_vars": _environment()}, **ours)
        from fl_sim.ray_worker import RayWorker

        actor = self._ray.remote(num_cpus=1)(RayWorker)
        self._actors = [actor.remote(device, plugin) for _ in range(workers)]

    def _send(self, index: int, request: jobs.Request) -> None:
        named = {
            field: Path(getattr(request, field))
            for field in ("kept", "init")
            if getattr(request, field, None)
        }
        others = {field: path.read_bytes() for field, path in named.items() if path.exists()}
        model = self._model(getattr(request, "model_file", None))
        answer = self._actors[index].answer.remote(jobs.encode(request), model, others)
        answer.future().add_done_callback(partial(self._done, index, request))

    def _model(self, name: str | None) -> Any:
        """The file's content in the object store, put there once."""
        if name is None:
            return None
        stat = Path(name).stat()
        key = name, stat.st_mtime_ns, stat.st_size
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                del self._models[next(iter(self._models))]
            self._models[key] = self._ray.put(Path(name).read_bytes())
        return self._models[key]

    def _done(
        self, index: int, request: jobs.Request, future: Future[tuple[bytes, dict[str, bytes]]]
    ) -> None:
        error = future.exception()
        if error is not None:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._delivered(index, jobs.Failed(type(request).__name__, jobs.PROCESS, lines[-1]))
            return
        frame, files = future.result()
        for field, content in files.items():
            path = Path(getattr(request, field))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        reply = jobs.decode(frame)
        self._delivered(index, reply)  # type: ignore[arg-type]

    def _cancel(self, index: int) -> None:
        """An actor cannot be interrupted gently: it goes on to the end, for nobody."""

    def _stop(self) -> None:
        if not self._ray.is_initialized():
            return
        with contextlib.suppress(self._ray.exceptions.RayError):  # one that is busy leaves its folder behind
            self._ray.get([actor.close.remote() for actor in self._actors], timeout=CLOSE_S)
        self._ray.shutdown()


def _ray() -> Any:
    """The package. Raises ConfigError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a simulation tells nobody that it runs
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # and leaves GPUs to --device
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray needs the package ray: pip install 'hilum[ray]', or use --engine local"
        ) from None
    return ray


def _environment() -> dict[str, str]:
    """What an actor needs to import our packages, and a plug-in's, where they are not installed."""
    root = str(Path(__file__).resolve().parent.parent)
    found = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), root)))
    return {"PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
