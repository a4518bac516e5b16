"""Whose fault is it? Every error a person can meet, by the one who can mend it.

    HilumError
    |-- ConfigError           operator     exit 2   usage, configuration or data
    |   `-- DataError         operator     exit 2   a file or folder that cannot be used
    |-- BrokerUnavailable     environment  exit 3   no broker, or it went away for too long
    |   `-- AccessRefused     environment  exit 3   it is there and says no (login, TLS, a name in use)
    |-- QuorumNotMet          environment  exit 4   too few clients, all retries used
    `-- PeerError             peer         never fatal: becomes a named refusal, counted
        `-- DecodeError       peer         bytes that are no message of ours

Anything else that escapes is a bug of ours: exit 1, with a traceback.
"""

from __future__ import annotations


class HilumError(Exception):
    """Root of all errors with a name. ``str(error)`` is one line that says how to mend it."""

    exit_code = 1


class ConfigError(HilumError):
    """The operator asked for something impossible; the message says what to change."""

    exit_code = 2


class DataError(ConfigError):
    """A file or folder is missing, broken, or not what it should be."""


class BrokerUnavailable(HilumError):
    """The broker cannot be reached."""

    exit_code = 3


class AccessRefused(BrokerUnavailable):
    """The broker, or the aggregator behind it, is there and refuses us."""


class QuorumNotMet(HilumError):
    """A round was abandoned after its last attempt."""

    exit_code = 4


class PeerError(HilumError):
    """A peer sent something we do not accept. ``reason`` is its name on the wire and in the journal."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class DecodeError(PeerError):
    """Bytes that are no frame of ours, or break a bound."""
