"""A Ray actor that does what a task process does. Imported on every machine of a cluster, where no file of ours lies.

So files travel with the requests: what a request names to read comes along as bytes, what it names to write goes
back as bytes. Data sets do not: --data must be found under the same path on every machine.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fl_tasks import jobs
from fl_tasks.base import Place, Watch
from fl_tasks.worker import Worker

READ, WRITTEN = ("model_file", "kept", "init"), ("out", "kept_out")
"""Fields of requests that name files."""


class RayWorker:
    """One worker of :class:`fl_sim.ray_engine.RayCrew`."""

    def __init__(self, device: str, plugin: str | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hilum-")
        self._worker = Worker(Place(device, 1), io.BytesIO(), plugin)

    def answer(
        self, frame: bytes, model: bytes | None, others: Mapping[str, bytes]
    ) -> tuple[bytes, dict[str, bytes]]:  # fmt: skip
        """The reply to an encoded request, and the files that it wrote, by the field that names them.

        ``model`` is the content of ``model_file``, ``others`` of the other files to read.
        """
        request = jobs.decode(frame)
        given = {**others, **({"model_file": model} if model is not None else {})}
        changed: dict[str, Any] = (
            {"options": self._local(request.options)} if hasattr(request, "options") else {}
        )
        for field, content in given.items():
            path = Path(self._folder.name) / field
            path.write_bytes(content)
            changed[field] = str(path)
        outputs = [field for field in WRITTEN if getattr(request, field, "")]
        for field in outputs:
            changed[field] = str(Path(self._folder.name) / field)
            Path(changed[field]).unlink(missing_ok=True)
        asked: Any = replace(request, **changed)
        reply = self._worker.answer(asked, Watch())
        written = {field: Path(changed[field]) for field in outputs}
        return jobs.encode(reply), {
            field: path.read_bytes() for field, path in written.items() if path.exists()
        }

    def _local(self, options: jobs.DataOptions) -> jobs.DataOptions:
        """The cache of resized images lies on this machine."""
        return replace(options, cache=str(Path(self._folder.name) / "cache"))

    def close(self) -> None:
        """Leave no file behind."""
        self._folder.cleanup()
