"""``fl-edge serve``: a reading room on this machine, with the newest model of a job or the one of a file.

The pages are fl_web's and know no task; here is what reads for them. Images stay in memory; what is on disk in the
work folder are models, their ONNX form, and which one was pinned:

models/<digest>.safetensors  onnx/<digest>.onnx  room.json  lock
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.desk import Desk
from edge_client.eyes import Eye, eye_for
from edge_client.following import Arrived, Refused, Told
from edge_client.image_reader import read_image
from edge_client.shelf import MOST, Shelf, Shelved
from edge_client.store import Store
from edge_client.told import told_beside
from fl_protocol.broker import BrokerOptions
from fl_protocol.errors import ConfigError, DataError, HilumError
from fl_protocol.tensors import MAX_CHUNK_BYTES, MODEL
from fl_protocol.waiting import LOOK_UP_S
from fl_tasks.predict import checked_file, describe

if TYPE_CHECKING:
    from edge_client.follower import Follower
    from fl_web.room.protocol import Upload

log = logging.getLogger("hilum.room")
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What the options of the command say; one of ``broker`` and ``model`` is given."""

    listen: str
    workdir: Path
    broker: BrokerOptions | None = None
    job: str = "default"
    model: Path | None = None
    refer_below: float = 0.8
    device: str = "cpu"
    plugin: str | None = None
    web_cert: str | None = None
    web_key: str | None = None


class ClinicRoom:
    """What reads for the pages (fl_web.room.protocol.Room)."""

    def __init__(self, settings: Settings, echo: Echo) -> None:
        self._settings, self._echo = settings, echo
        self.store = Store(settings.workdir, older=MOST - 1)
        follows = settings.broker is not None
        self.shelf = Shelf(settings.workdir, follows=follows, refer_below=settings.refer_below)
        self._desk = Desk(settings.device, settings.plugin)
        self._preparing = ThreadPoolExecutor(1, "prepare")
        self._eye: tuple[str, Eye] | None = None
        self._eye_lock = threading.Lock()

    # --- for the pages ------------------------------------------------------------------------------------

    def read(self, upload: Upload, *, shown: bool) -> dict[str, Any]:
        model = self.shelf.in_use()
        if model is None:
            return {"file": upload.name, "error": "cannot be read yet: no model is here"}
        try:
            eye = self._eye_of(model)
        except HilumError as error:
            return {"file": upload.name, "error": f"cannot be read: {error}"}
        return read_image(upload.name, upload.data, model, eye, self._settings.refer_below, shown=shown)

    def state(self) -> dict[str, Any]:
        return self.shelf.state()

    def choose(self, digest: str | None) -> str:
        reason = self.shelf.choose(digest)
        self.store.spared = frozenset(filter(None, [self.shelf.pinned]))
        return reason

    def listen(self, changed: Callable[[], None]) -> None:
        self.shelf.listen(changed)

    # --- models -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the models that lie in the work folder, oldest first."""
        self.store.spared = frozenset(filter(None, [self.shelf.pinned]))
        for digest in reversed(self.store.digests()[:MOST]):
            if self.store.has_model(digest):
                self.take(digest, self.store.model_path(digest))
            else:
                self.shelf.refuse(
                    digest, "what lay on the disk under this name was something else, and is deleted"
                )

    def heard(self, news: Any) -> None:
        """What the follower tells."""
        if isinstance(news, Arrived):
            self.take(news.digest, self.store.model_path(news.digest))
        elif isinstance(news, Told):
            self.shelf.tell(news.round_number, news.sites, news.figures)
        elif isinstance(news, Refused):
            self._echo(f"refused the model {news.digest[:16]}: {news.reason}")
            self.shelf.refuse(news.digest, news.reason)

    def take(self, digest: str, path: Path) -> None:
        """Make a model ready, in a thread of its own, and put it on the shelf."""
        self._preparing.submit(self._prepare, digest, path)

    def _prepare(self, digest: str, path: Path) -> None:
        try:
            file = checked_file(path)
            sites, figures = told_beside(path, digest)
            model = Shelved(digest, file, describe(file), time.time(), "", sites, figures)
            eye, why = eye_for(digest, path, self._settings.workdir / "onnx", self._desk)
        except (HilumError, OSError) as error:
            self._echo(f"the model {digest[:16]} cannot be used: {error}")
            self.shelf.refuse(digest, f"it cannot be used: {error}")
            return
        except Exception:
            log.exception("a model could not be made ready")
            self.shelf.refuse(digest, "it cannot be made ready")
            return
        if why:
            self._echo(f"the model {digest[:16]} runs on {eye.name}: {why}")
        self.shelf.put(replace(model, runs_on=eye.name))
        self._tidy()
        self._echo(f"model {digest[:16]} of round {model.round_number} is ready ({eye.name})")

    def _eye_of(self, model: Shelved) -> Eye:
        with self._eye_lock:
            if self._eye is None or self._eye[0] != model.digest:
                self._eye = None  # let the old one go before the new one is read
                eye, _ = eye_for(model.digest, model.file.path, self._settings.workdir / "onnx", self._desk)
                self._eye = model.digest, eye
            return self._eye[1]

    def _tidy(self) -> None:
        """Exported models whose model is gone."""
        for file in (self._settings.workdir / "onnx").glob("*.onnx"):
            if not self.shelf.holds(file.stem) and not self.store.model_path(file.stem).exists():
                file.unlink(missing_ok=True)

    def close(self) -> None:
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self._desk.close()
        self.store.close()


def serve(settings: Settings, echo: Echo) -> None:
    """Serve until SIGTERM, or Ctrl-C (which goes on as KeyboardInterrupt). Raises HilumError."""
    from fl_web.room.app import ReadingRoom
    from fl_web.serving import bound, papers_of

    file = _file_of(settings)
    papers = papers_of(settings.web_cert, settings.web_key)
    ended, wrong = threading.Event(), []

    def give_up(error: HilumError) -> None:
        wrong.append(error)
        ended.set()

    with ExitStack() as held:
        door = held.enter_context(bound(settings.listen, papers, default_port=8090))
        clinic = ClinicRoom(settings, echo)
        held.callback(clinic.close)
        page = ReadingRoom(clinic, local=door.local)
        serving = door.serve_in_thread(page.app, on_end=page.close)
        held.callback(serving.stop)
        echo(f"reading room at {door.url} (Ctrl-C ends it)")
        if warning := door.warning():
            echo(f"warning: {warning}")
        if file is not None:
            clinic.shelf.say(f"the file {file[1].name}")
            clinic.take(*file)
        else:
            clinic.begin()
            follower = _follower(settings, clinic, give_up)
            held.callback(follower.stop)
            follower.start()
        wait(ended)
    if wrong:
        raise wrong[0]


def _file_of(settings: Settings) -> tuple[str, Path] | None:
    """Digest and path of --model, held against the digest it names. Raises DataError."""
    if settings.model is None:
        return None
    file = checked_file(settings.model)
    describe(file)
    return file.manifest(MODEL, MAX_CHUNK_BYTES).digest, settings.model


def _follower(settings: Settings, clinic: ClinicRoom, give_up: Callable[[HilumError], None]) -> Follower:
    from edge_client.follower import Follower

    assert settings.broker is not None
    return Follower(settings.broker, settings.job, clinic.store, clinic.heard, clinic.shelf.say, give_up)


def wait(ended: threading.Event) -> None:
    """Until ``ended``, SIGTERM, or Ctrl-C (KeyboardInterrupt). In the main thread."""
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        while not ended.wait(LOOK_UP_S):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)


def settings_of(given: dict[str, Any], broker: BrokerOptions | None) -> Settings:
    """From the options of the command. Raises ConfigError for what cannot be."""
    if (broker is None) == (given["model"] is None):
        raise ConfigError(
            "which model? give --broker HOST for the newest of a job, or --model FILE, and not both"
        )
    refer = given["refer_below"]
    if not 0.5 <= refer <= 1.0:
        raise ConfigError(f"--refer-below {refer:g} is not possible: use 0.5 to 1")
    model = Path(given["model"]) if given["model"] is not None else None
    if model is not None and model.suffix == ".onnx":
        raise DataError(f"{model} is an exported model: give the .safetensors file, it is exported by itself")
    return Settings(
        listen=given["listen"], workdir=Path(given["workdir"] or "hilum-room"), broker=broker, job=given["job"], model=model,
        refer_below=refer, device=given["device"], plugin=given["plugin"], web_cert=given["web_cert"], web_key=given["web_key"],
    )  # fmt: skip
