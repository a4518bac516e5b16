"""What both sides' progress views share: safe text, small drawings in characters, plain lines, a live area.

rich is imported only by :class:`LiveArea`, that is on a terminal: the lines of an idle edge cost no memory.
Names and reasons may come from a hostile peer, so every text passes :func:`clean` before it reaches a terminal.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from fl_protocol.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_PER_SECOND = 4
LIVE, PLAIN = "live", "plain"
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_SPARKS = "▁▂▃▄▅▆▇█"
_UNITS = ("B", "kB", "MB", "GB", "TB")


def clean(value: object, longest: int = 200) -> str:
    """``value`` as one printable line: no control characters, no escape sequences, no login inside an address."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)[: longest * 4]
    text = "".join(c if c.isprintable() else " " if c in "\t\n\r" else "�" for c in text)
    text = _CREDENTIALS.sub("//***@", text).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def pairs(**fields: object) -> str:
    """``key=value`` words. None is left out; a value with blanks stands in quotes."""
    words = []
    for key, value in fields.items():
        if value is None:
            continue
        text = clean(value)
        plain = text and not any(c in text for c in " =\"'")
        words.append(f"{key}={text}" if plain else f'{key}="{text.replace(chr(34), chr(39))}"')
    return " ".join(words)


def numbers(metrics: object) -> dict[str, float]:
    """The numbers of a map of metrics; anything else is left out."""
    items = metrics.items() if isinstance(metrics, Mapping) else ()
    return {clean(name, 40): float(value) for name, value in items if type(value) in (int, float)}


def metric_words(metrics: object, most: int = 6) -> str:
    """``auroc=0.912 loss=0.31``: the metrics people look for first."""
    found = numbers(metrics)
    order: list[str] = [name for name in ("auroc", "accuracy", "loss") if name in found]
    order += sorted(name for name in found if name not in order and not name.startswith("auroc_"))
    return " ".join(f"{name}={found[name]:.4g}" for name in order[:most])


def sparkline(values: Sequence[float | None]) -> str:
    """The course of ``values`` in one line of blocks; a gap is a blank."""
    known = [v for v in values if v is not None and abs(v) < 1e15]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(
        _SPARKS[int(7 * (v - low) / span + 0.5)] if v is not None and v in known else " " for v in values
    )


def bar(fraction: float, width: int = 20) -> str:
    """A bar of ``width`` characters, filled to ``fraction``."""
    full = round(share(fraction) * width)
    return "━" * full + "╌" * (width - full)


def share(fraction: object) -> float:
    """``fraction`` inside 0 to 1, whatever it was."""
    if not isinstance(fraction, (int, float)) or math.isnan(fraction):
        return 0.0
    return min(1.0, max(0.0, float(fraction)))


def part(done: int, total: int) -> float:
    """``done`` of ``total`` as a fraction; of nothing, all is done."""
    return share(done / total) if total > 0 else 1.0


def seconds(value: object) -> str:
    """A duration for people."""
    if not isinstance(value, (int, float)) or not abs(value) < 1e9:
        return "?"
    span = float(value)
    if span < 60:
        return f"{span:.2f} s" if span < 1 else f"{span:.1f} s" if span < 10 else f"{span:.0f} s"
    whole = round(span)
    return (
        f"{whole // 60} min {whole % 60:02d} s"
        if whole < 3600
        else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def size(count: float) -> str:
    """Bytes for people."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def names(ids: Sequence[str], most: int = 8) -> str:
    """Client ids in one word of a plain line: ``a,b,c`` and how many more."""
    shown = ",".join(clean(name, 64) for name in ids[:most])
    return f"{shown},+{len(ids) - most}" if len(ids) > most else shown


def wants_live(stream: TextIO, force: str | None, term: str) -> bool:
    """Is ``stream`` a terminal that can redraw, in UTF-8? ``force`` (live or plain) decides where given."""
    if force not in (None, LIVE, PLAIN):
        raise ConfigError(f"unknown progress {force!r}: use {LIVE} or {PLAIN}")
    if force is not None:
        return force == LIVE
    encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
    return stream.isatty() and encoding == "utf8" and term not in ("", "dumb")


class QuietStream:
    """A stream whose reader may go away, or lack letters: that ends the writing, never the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding)))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _attempt(self, write: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            write()
        except (OSError, ValueError):
            self._gone = True


class Lines:
    """Plain lines, each flushed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = QuietStream(stream)

    def write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class Quarters:
    """Lets progress through at each quarter, so that plain lines stay few. Remembers the ``most`` newest keys."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._seen: OrderedDict[str, int] = OrderedDict()

    def passed(self, key: str, fraction: float) -> bool:
        """True the first time ``key`` reaches the next quarter; it starts again when the fraction falls."""
        quarter, before = int(share(fraction) * 4), self._seen.pop(key, 0)
        self._seen[key] = quarter
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return quarter > before


class FirstTimes:
    """Lets an alarm through once, and at most ``most`` of them until ``forget``: a flood does not drown the rest."""

    def __init__(self, most: int = 50) -> None:
        self._most = most
        self._seen: set[str] = set()

    def first(self, key: str) -> bool:
        if key in self._seen or len(self._seen) >= self._most:
            return False
        self._seen.add(key)
        return True

    def forget(self) -> None:
        self._seen.clear()


class LiveArea:
    """A few lines at the foot of a terminal that redraw in place; lines written above them stay.

    ``draw`` is called by rich's refresh thread: it must read one immutable value and nothing else.
    """

    def __init__(self, stream: TextIO, draw: Callable[[], RenderableType]) -> None:
        from rich.console import Console
        from rich.live import Live

        quiet = cast("TextIO", QuietStream(stream))
        self._console = Console(file=quiet, force_terminal=True, highlight=False)
        self._live = Live(
            get_renderable=draw, console=self._console, refresh_per_second=REFRESH_PER_SECOND, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._open = True
        self._live.start()

    def above(self, line: Any) -> None:
        """Write ``line`` (a rich Text) above the area, to stay."""
        self._console.print(line)

    def close_with(self, line: Any) -> None:
        """Take the area away and end with ``line``."""
        self.close()
        if line is not None:
            self._console.print(line)

    def close(self) -> None:
        """Take the area away and leave the cursor on a fresh line."""
        if self._open:
            self._open = False
            self._live.stop()
