"""How much an update counts that was trained from an older model (Xie et al. 2019, section 5.2). Pure.

s(0) = 1, and s falls, or stays, as the staleness grows.
"""

from __future__ import annotations

CONSTANT, POLYNOMIAL, HINGE = "constant", "polynomial", "hinge"
DISCOUNTS = (CONSTANT, POLYNOMIAL, HINGE)


def polynomial(staleness: int, a: float) -> float:
    """s(t) = (1 + t)^-a."""
    return float((1.0 + staleness) ** -a)


def hinge(staleness: int, a: float, b: int) -> float:
    """s(t) = 1 up to b, then 1 / (1 + a (t - b))."""
    return 1.0 if staleness <= b else 1.0 / (1.0 + a * (staleness - b))


def discount(kind: str, staleness: int, a: float, b: int) -> float:
    """One of the above by name, or 1 for ``constant``."""
    if kind == POLYNOMIAL:
        return polynomial(staleness, a)
    return hinge(staleness, a, b) if kind == HINGE else 1.0
