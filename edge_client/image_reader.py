"""One image and one model make one row: what the reading room answers (fl_web.room.protocol.Row)."""

from __future__ import annotations

import base64
import logging
from typing import Any

import numpy as np
from PIL import Image

from edge_client.eyes import Eye
from edge_client.shelf import Shelved
from fl_protocol.errors import HilumError
from fl_tasks.cautions import cautions
from fl_tasks.defaults import DEFAULT_TASK
from fl_tasks.meaning import meaning_of
from fl_tasks.pictures import read_picture
from fl_tasks.seen import Seen, verdict

HEAT_SIDE = 96
log = logging.getLogger("hilum.room")


def read_image(
    name: str, data: bytes, model: Shelved, eye: Eye, refer_below: float, *, shown: bool
) -> dict[str, Any]:
    """The row of one image; what is wrong with it is the row's ``error``."""
    try:
        return {"file": name} | _read(name, data, model, eye, refer_below, shown=shown)
    except HilumError as error:
        return {"file": name, "error": str(error)}
    except MemoryError:
        return {"file": name, "error": "is too large for the memory of this device"}
    except Exception as error:  # one image must not end the room; its file may be as odd as it likes
        log.exception("an image could not be read")
        return {"file": name, "error": f"cannot be read ({type(error).__name__})"}


def _read(
    name: str, data: bytes, model: Shelved, eye: Eye, refer_below: float, *, shown: bool
) -> dict[str, Any]:
    about, said = model.described, model.file.metadata
    picture = read_picture(data, name, about.image_size, about.channels, shown=shown)
    seen = eye.look(picture.pixels)
    chances = seen.probabilities(said)
    found = cautions(picture, chest=about.task == DEFAULT_TASK)
    doubtful = any(each.serious for each in found)
    meaning = meaning_of(
        about.task, about.classes, chances.tolist(), calibrated=model.calibrated, doubtful=doubtful, refer_below=refer_below
    )  # fmt: skip
    row = (
        verdict(about.classes, chances)
        | {"model": model.digest, "round": model.round_number}
        | meaning.as_json()
    )
    row |= {"warnings": [each.as_json() for each in found]}
    if shown:
        row |= {"width": picture.width, "height": picture.height, "shown": _text(picture.shown)}
        row |= _heats(seen, about.classes)
    return row


def _heats(seen: Seen, classes: tuple[str, ...]) -> dict[str, Any]:
    """A smooth map for each class, all on one scale: the strongest place of any class is 255."""
    if seen.maps is None:
        return {}
    top = max(float(seen.maps.max()), 1e-12)
    drawn = {name: _text(_smooth(part / top)) for name, part in zip(classes, seen.maps, strict=True)}
    return {"heats": drawn, "heat_side": HEAT_SIDE}


def _smooth(heat: np.ndarray) -> bytes:
    """(h, w) from 0 to 1 -> HEAT_SIDE x HEAT_SIDE bytes."""
    large = Image.fromarray(heat.astype(np.float32)).resize((HEAT_SIDE, HEAT_SIDE), Image.Resampling.BICUBIC)
    levels: np.ndarray = (np.clip(np.asarray(large), 0, 1) * 255).round().astype(np.uint8)
    return levels.tobytes()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
