"""The ways to deal one data set to several sites, by name. Known without numpy; partition.py does the dealing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fl_protocol.errors import ConfigError

IID, DIRICHLET, SHARDS, QUANTITY, BY_FILE = "iid", "dirichlet", "shards", "quantity", "by-file"
FORMS = "iid, dirichlet:ALPHA, shards:K, quantity:ALPHA or by-file"


@dataclass(frozen=True)
class Partition:
    """``value`` is ALPHA of ``dirichlet`` and ``quantity``, K of ``shards``, and 0 for the others."""

    kind: str
    value: float = 0.0


def parse_partition(text: str) -> Partition:
    """What ``text`` names. Raises ConfigError with the forms there are for anything else."""
    kind, colon, value = text.partition(":")
    if text in (IID, BY_FILE):
        return Partition(text)
    if kind == SHARDS and value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= 1000:
        return Partition(kind, int(value))
    if kind in (DIRICHLET, QUANTITY) and colon:
        try:
            alpha = float(value)
        except ValueError:
            alpha = math.nan
        if 1e-3 <= alpha <= 1e6:
            return Partition(kind, alpha)
    raise ConfigError(
        f"unknown partition {text!r}: use {FORMS}, with ALPHA from 0.001 to 1000000 and K from 1 to 1000"
    )
