"""The task process: reads requests from its standard input, works on one at a time, writes replies.

Run by process.py, never by hand. It ends with its parent, whatever the parent dies of.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fl_protocol.entrypoints import culprit, told
from fl_protocol.errors import ConfigError
from fl_protocol.modelfile import FULL_DISK
from fl_tasks import jobs, local_round
from fl_tasks.base import Cancelled, Dataset, Diverged, Place, Task, Watch
from fl_tasks.dealing import deal, together
from fl_tasks.jobs import (
    Alive,
    Cancel,
    DataOptions,
    Deal,
    Dealt,
    Evaluate,
    Evaluated,
    Explain,
    Explained,
    Export,
    Exported,
    Failed,
    Initialise,
    Initialised,
    Inspect,
    Inspected,
    Prepare,
    Prepared,
    Reply,
    Request,
    Score,
    Scored,
    Shutdown,
    Train,
    Trained,
    TrainingProgress,
)
from fl_tasks.local_round import Given
from fl_tasks.params import write_params
from fl_tasks.process import read_frame, round_of, write_frame
from fl_tasks.registry import get_task, load_plugin
from fl_tasks.remarks import bounded, remarks_on

if TYPE_CHECKING:
    from fl_tasks.looker import Looker

PROGRESS_EVERY_S = 0.5
ALIVE_EVERY_S = 10.0
DATASETS_KEPT = 2


class Inbox:
    """Requests in order, numbered, read on a thread so that a Cancel is seen while one of them is at work."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._queue: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        self._cancelled_up_to = 0
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def next(self) -> tuple[int, Request]:
        return self._queue.get()

    def cancelled(self, number: int) -> bool:
        return number <= self._cancelled_up_to

    def _read(self) -> None:
        count = 0
        while (frame := read_frame(self._stream)) is not None:
            request = jobs.decode(frame)
            if isinstance(request, (Cancel, Shutdown)):
                self._cancelled_up_to = count
            if not isinstance(request, Cancel):
                count += 1
                self._queue.put((count, request))  # type: ignore[arg-type]
        os._exit(0)  # the parent is gone: nobody waits for whatever the main thread is doing


class Worker:
    """Answers requests; keeps tasks and the last few datasets between them."""

    def __init__(self, place: Place, outbox: IO[bytes], plugin: str | None = None) -> None:
        self._place = place
        self._plugin = plugin
        self._outbox = outbox
        self._tasks: dict[str, Task] = {}
        self._datasets: dict[DataOptions, Dataset] = {}
        self._dealt: dict[DataOptions, Sequence[Dataset]] = {}
        self._looker: Looker | None = None
        self._said_at = 0.0

    def serve(self, inbox: Inbox) -> None:
        """Answer until told to shut down."""
        while True:
            number, request = inbox.next()
            if isinstance(request, Shutdown):
                return
            watch = Watch(self._cancelled(inbox, number), self._reporter(request))
            self._send(self.answer(request, watch))

    def _cancelled(self, inbox: Inbox, number: int) -> Callable[[], bool]:
        def asked() -> bool:
            """Whether the request is given up. That somebody asks is the sign that the work is alive."""
            if time.monotonic() - self._said_at >= ALIVE_EVERY_S:
                self._send(Alive())
            return inbox.cancelled(number)

        return asked

    def _send(self, reply: Reply) -> None:
        self._said_at = time.monotonic()
        write_frame(self._outbox, jobs.encode(reply))

    def answer(self, request: Request, watch: Watch) -> Reply:
        """The reply to one request; what goes wrong is a Failed."""

        def failed(kind: str, message: str) -> Failed:
            return Failed(type(request).__name__, kind, message, round_of(request))

        try:
            watch.check()
            return self._perform(request, watch)
        except Cancelled:
            return failed(jobs.CANCELLED, "cancelled")
        except Diverged as error:
            return failed(jobs.DIVERGED, str(error))
        except ConfigError as error:
            return failed(jobs.DATA, str(error))
        except OSError as error:
            if error.errno in FULL_DISK:
                wanted = error.filename or getattr(request, "out", "a file")
                return failed(jobs.DISK, f"no room for {wanted} ({error.strerror}): make some on its disk")
            return failed(
                jobs.DATA, f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
            )
        except Exception as error:  # noqa: BLE001 - the process boundary: the parent decides what a bug costs
            if _out_of_memory(error):
                return failed(jobs.MEMORY, "out of memory: use a smaller batch, image size or model")
            traceback.print_exc()
            return failed(*_blame(error))

    def _perform(self, request: Request, watch: Watch) -> Reply:
        handler = _PERFORM.get(type(request))
        if handler is None:
            raise TypeError(f"no request: {request!r}")
        return handler(self, request, watch)

    def _inspect(self, request: Inspect, watch: Watch) -> Inspected:
        return Inspected(self._task(request.task).device(), software())

    def _prepare(self, request: Prepare, watch: Watch) -> Prepared:
        task = self._task(request.options.task)
        self._datasets.pop(request.options, None)  # asked for anew: the folder may have changed
        dataset = self._dataset(request.options, watch)
        problems = (*remarks_on(dataset.summary, request.options), *dataset.problems)
        return Prepared(dataset.summary, problems, dataset.num_examples, task.device())

    def _deal(self, request: Deal, watch: Watch) -> Dealt:
        task = self._task(request.options.task)
        self._dealt.pop(request.options.of_shard(1), None)
        shards = list(self._shards(request.options, watch))
        problems = dict.fromkeys(line for shard in shards for line in shard.problems)
        sites = tuple(shard.site for shard in shards)
        return Dealt(
            tuple(shard.num_examples for shard in shards), tuple(shard.summary for shard in shards),
            tuple(bounded([*problems])), task.device(), sites if any(sites) else (),
        )  # fmt: skip

    def _initialise(self, request: Initialise, watch: Watch) -> Initialised:
        init = Path(request.init) if request.init else None
        model = self._task(request.task).initialise(request.model, request.image_size, request.seed, init)
        write_params(Path(request.out), model.params, model.metadata)
        return Initialised(request.out, dict(model.metadata))

    def _train(self, request: Train, watch: Watch) -> Trained:
        dataset = self._dataset(request.options, watch)
        plan = replace(request.plan, seed=training_seed(request))
        done = local_round.train(
            self._task(request.options.task), dataset, plan, _given(request), watch,
            out=Path(request.out), kept_out=Path(request.kept_out) if request.kept_out else None, scores=request.scores,
        )  # fmt: skip
        return Trained(request.round_number, request.out, done.num_examples, done.metrics)

    def _score(self, request: Score, watch: Watch) -> Scored:
        dataset = self._dataset(request.options, watch)
        model = local_round.read_model(_given(request), request.plan)
        found = local_round.score(self._task(request.options.task), model, dataset, watch)
        return Scored(request.round_number, found)

    def _evaluate(self, request: Evaluate, watch: Watch) -> Evaluated:
        dataset = self._dataset(request.options, watch)
        model = local_round.read_model(_given(request))
        task = self._task(request.options.task)
        score = task.evaluate(model, dataset, watch, detail=request.detail)
        return Evaluated(score.metrics, score.detail)

    def _explain(self, request: Explain, watch: Watch) -> Explained:
        from fl_tasks.looker import Looker

        self._load_plugin()
        if self._looker is None or self._looker.path != request.model_file:
            self._looker = Looker(request.model_file, self._place.device)
        pixels = np.frombuffer(request.pixels, dtype=np.uint8).reshape(request.shape)
        seen = self._looker.look(pixels)
        maps = seen.maps if seen.maps is not None else np.zeros(0, np.float32)
        shape = maps.shape if seen.maps is not None else ()
        return Explained(seen.logits.astype("<f4").tobytes(), maps.astype("<f4").tobytes(), shape)

    def _export(self, request: Export, watch: Watch) -> Exported:
        from fl_tasks.export import export

        self._load_plugin()
        return export(Path(request.model_file), Path(request.out), request.how)

    def _load_plugin(self) -> None:
        """The tasks of the operator's own module."""
        if self._plugin:
            load_plugin(self._plugin)

    def _task(self, name: str) -> Task:
        self._load_plugin()
        if name not in self._tasks:
            self._tasks[name] = get_task(name, self._place)
        return self._tasks[name]

    def _shards(self, options: DataOptions, watch: Watch) -> Sequence[Dataset]:
        key = options.of_shard(1)
        if key not in self._dealt:
            while len(self._dealt) >= DATASETS_KEPT:
                del self._dealt[next(iter(self._dealt))]
            self._dealt[key] = deal(self._task(options.task), options, watch)
        return self._dealt[key]

    def _dataset(self, options: DataOptions, watch: Watch) -> Dataset:
        if options.resident:
            shards = self._shards(options, watch)
            return shards[options.shard - 1] if options.shard else together(self._task(options.task), shards)
        if options not in self._datasets:
            while len(self._datasets) >= DATASETS_KEPT:
                del self._datasets[next(iter(self._datasets))]
            self._datasets[options] = self._task(options.task).prepare(options, watch)
        return self._datasets[options]

    def _reporter(self, request: Request) -> Callable[[float, float | None], None]:
        last = -PROGRESS_EVERY_S

        def report(fraction: float, loss: float | None) -> None:
            nonlocal last
            now = time.monotonic()
            if isinstance(request, Train) and now - last >= PROGRESS_EVERY_S:
                last = now
                self._send(TrainingProgress(request.round_number, min(1.0, fraction), loss))

        return report


_PERFORM: dict[type[Any], Callable[[Worker, Any, Watch], Reply]] = {
    Prepare: Worker._prepare,
    Deal: Worker._deal,
    Inspect: Worker._inspect,
    Initialise: Worker._initialise,
    Train: Worker._train,
    Score: Worker._score,
    Evaluate: Worker._evaluate,
    Explain: Worker._explain,
    Export: Worker._export,
}


def software() -> str:
    """What a loaded task computes with, for people: the version of torch, its threads and the GPU's name."""
    torch = sys.modules.get("torch")
    if torch is None:
        return ""
    words = [f"torch {torch.__version__}", f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(words)


def training_seed(request: Train) -> int:
    """The seed of one edge's round: every shard and round draws its own numbers from the plan's seed."""
    words = [request.plan.seed, request.round_number, request.options.shard, request.options.shards]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _given(request: Train | Score | Evaluate) -> Given:
    """The files of a request; what it says itself stands in for missing metadata."""
    options = request.options
    model, kept = ("", "") if isinstance(request, Evaluate) else (request.model, request.kept)
    known = {"task": options.task, "model": model, "image_size": str(options.image_size)}
    return Given(
        Path(request.model_file), Path(kept) if kept else None, {k: v for k, v in known.items() if v}
    )


def _blame(error: Exception) -> tuple[str, str]:
    """Whose fault it is, and what to say: another package's, which the operator can mend, or ours."""
    foreign = culprit(error)
    if foreign is None:
        return jobs.BUG, traceback.format_exc()
    return jobs.DATA, f"{foreign} failed: {told(error)}; mend or uninstall it"


def _out_of_memory(error: Exception) -> bool:
    """Torch has a class for CUDA's and a plain RuntimeError for the CPU's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _die_with(parent: int) -> None:
    """Linux ends us with the parent; elsewhere the end of standard input does (Inbox)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)


def _private_pipe() -> IO[bytes]:
    """Standard output for replies alone; whatever prints goes to standard error."""
    outbox = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return outbox


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fl_tasks.worker")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--plugin")
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args()


def _give_way() -> None:
    """Training is batch work: it yields to the process that holds the connection, and keeps its cache for longer."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.nice(5)


def main() -> None:
    """Serve until the parent shuts us down or is gone."""
    arguments = _arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # process.py: what came before is forgotten
    _die_with(arguments.parent)
    _give_way()
    outbox = _private_pipe()
    if arguments.plugin:
        sys.path.append(str(Path.cwd()))
    worker = Worker(Place(arguments.device, arguments.threads), outbox, arguments.plugin)
    worker.serve(Inbox(sys.stdin.buffer))
    outbox.flush()
    os._exit(0)  # nothing to save; torch's own exit takes longer than a person waits


if __name__ == "__main__":
    main()
