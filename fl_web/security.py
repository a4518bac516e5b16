"""Who may change something, and what a browser may do for another site. Pure but for chance: the time is an argument.

token       printed once at start; only its scrypt hash is kept. It is random, so the hash may be cheap
attempts    a bucket an address and one for all, so that guessing costs us nothing, from wherever it comes
sessions    random, in memory, bounded in number and age; the cookie is HttpOnly and SameSite=Strict
CSRF        an HMAC of the visitor's cookie under a key of this process, beside a check of the Origin
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SCRYPT = {"n": 2**12, "r": 8, "p": 1}
MAX_TOKEN = 256
HOUR_S = 3600.0
LOCAL_NAMES = ("localhost", "ip6-localhost")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""On every answer that does not say otherwise: no inline script or style, nothing from elsewhere, no frame around us."""


# --- the token ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenHash:
    """What is kept of the token."""

    salt: bytes
    digest: bytes = field(repr=False)

    def fits(self, token: str) -> bool:
        """Whether ``token``, which a stranger sent, is the one."""
        if len(token) > MAX_TOKEN:
            return False
        return hmac.compare_digest(_scrypt(token, self.salt), self.digest)

    def text(self) -> str:
        """One line for a file; :func:`token_hash_of` reads it back."""
        return f"scrypt:{self.salt.hex()}:{self.digest.hex()}"


def new_token() -> tuple[str, TokenHash]:
    """A token to show once, and what to keep of it."""
    token, salt = secrets.token_urlsafe(24), secrets.token_bytes(16)
    return token, TokenHash(salt, _scrypt(token, salt))


def token_hash_of(text: str) -> TokenHash | None:
    """What :meth:`TokenHash.text` wrote; None for anything else."""
    found = re.fullmatch(r"scrypt:([0-9a-f]{32}):([0-9a-f]{64})", text.strip())
    return TokenHash(bytes.fromhex(found[1]), bytes.fromhex(found[2])) if found else None


def _scrypt(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode("utf-8", "replace"), salt=salt, dklen=32, **SCRYPT)


# --- attempts -----------------------------------------------------------------------------------------------------


AT_ONCE, REFILL_S = 8, 15.0
"""Attempts of one address."""


@dataclass
class Bucket:
    """``most`` attempts at once, and one more every ``refill_s``."""

    most: float
    refill_s: float
    left: float
    filled_at: float

    def wait_s(self, now: float) -> float:
        """Seconds until the next attempt is allowed; 0 if it is now."""
        self.left = min(self.most, self.left + max(0.0, now - self.filled_at) / self.refill_s)
        self.filled_at = now
        return 0.0 if self.left >= 1.0 else (1.0 - self.left) * self.refill_s


class Attempts:
    """How often a token may be tried: ``each`` (at once, seconds for one more) by address, ``all_together`` likewise.

    Addresses are forgotten, the oldest first, beyond ``most_addresses``: those who have many meet the second bound.
    """

    def __init__(
        self,
        each: tuple[int, float] = (AT_ONCE, REFILL_S),
        all_together: tuple[int, float] = (40, 2.0),
        most_addresses: int = 1024,
    ) -> None:
        self._each, self._most_addresses = each, most_addresses
        self._all = Bucket(*all_together, left=all_together[0], filled_at=0.0)
        self._by_address: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds that ``address`` has to wait before its next attempt; 0: it may try now."""
        return max(self._all.wait_s(now), self._bucket(address, now).wait_s(now))

    def failed(self, address: str, now: float) -> None:
        """A wrong token came from there."""
        for bucket in (self._all, self._bucket(address, now)):
            bucket.wait_s(now)
            bucket.left = max(0.0, bucket.left - 1.0)

    def _bucket(self, address: str, now: float) -> Bucket:
        bucket = self._by_address.pop(address, None) or Bucket(*self._each, self._each[0], now)
        self._by_address[address] = bucket
        while len(self._by_address) > self._most_addresses:
            self._by_address.popitem(last=False)
        return bucket


# --- sessions and forms -------------------------------------------------------------------------------------------


class Sessions:
    """Who has logged in: random names, the oldest dropped beyond ``most``; each ends after ``longest_s``, or unused."""

    def __init__(self, most: int = 64, longest_s: float = 12 * HOUR_S, idle_s: float = 2 * HOUR_S) -> None:
        self._most, self._longest_s, self._idle_s = most, longest_s, idle_s
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def open(self, now: float) -> str:
        """A new session's name, for the cookie."""
        name = new_visitor()
        self._known[name] = now, now
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return name

    def is_open(self, name: str, now: float) -> bool:
        """Whether ``name``, from a cookie, has logged in; it counts as used now."""
        times = self._known.get(name)
        if times is None:
            return False
        opened, used = times
        if now - opened > self._longest_s or now - used > self._idle_s:
            del self._known[name]
            return False
        self._known[name] = opened, now
        return True

    def close(self, name: str) -> None:
        """Log out."""
        self._known.pop(name, None)

    def form_token(self, visitor: str) -> str:
        """What every form and request that changes something carries, for whoever has the cookie ``visitor``."""
        return hmac.new(self._key, visitor.encode("utf-8", "replace"), "sha256").hexdigest()

    def is_form_token(self, visitor: str, given: str) -> bool:
        """Whether ``given`` came from a page of ours that this visitor was shown."""
        expected = self.form_token(visitor)
        return bool(visitor) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def new_visitor() -> str:
    """A cookie value: of a session, or of somebody who has yet to log in."""
    return secrets.token_urlsafe(24)


# --- addresses ----------------------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host in a Host header, without its port."""
    return re.sub(r":\d*$", "", header).lower()


def refusal_of(method: str, headers: Mapping[str, str], *, local: bool) -> str | None:
    """Why a request is not ours to answer, if so. ``headers`` by lower-case name; ``local``: bound to loopback.

    A page elsewhere can make a browser call us under a name of its own (DNS rebinding), or post a form to us.
    """
    host = headers.get("host", "")
    if local and not is_loopback(host_of(host)):
        return "this page is only for this machine: open it as http://127.0.0.1"
    if method in SAFE_METHODS:
        return None
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return "this was sent by a page of another site"
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "this was sent by a page of another site"
    return None
