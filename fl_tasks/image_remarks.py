"""What a person should know of a folder that can be learned from all the same. One line each; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from fl_tasks.orientation import TURNS, quarter_turns

SHOWN = 3


def digests_of(images: Iterable[np.ndarray]) -> list[bytes]:
    """One for each image; equal pixels, equal digests."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def turned(images: Iterable[np.ndarray], names: Sequence[str]) -> list[str]:
    """Which X-rays do not look upright."""
    found = [
        (name, turns) for name, image in zip(names, images, strict=True) if (turns := quarter_turns(image))
    ]
    if not found:
        return []
    shown = ", ".join(f"{name} ({TURNS[turns]})" for name, turns in found[:SHOWN])
    return [
        f"{len(found)} of {len(names)} images may not be upright, such as {shown}: look at them, this is a guess"
    ]


def disagreeing(digests: Sequence[bytes], labels: Sequence[int], names: Sequence[str]) -> list[str]:
    """Which images have the pixels of one in another class."""
    first: dict[bytes, int] = {}
    clash = [
        name
        for key, label, name in zip(digests, labels, names, strict=True)
        if first.setdefault(key, label) != label
    ]
    if not clash:
        return []
    return [
        f"{len(clash)} images have the pixels of one in another class, such as {_few(clash)}: one of the two is wrong"
    ]


def in_test_too(
    digests: Sequence[bytes], names: Sequence[str], patients: Sequence[str], test_digests: Iterable[bytes],
    test_patients: Iterable[str],
) -> list[str]:  # fmt: skip
    """What the training and the test part have in common: scores on that test part flatter."""
    theirs, people = set(test_digests), set(test_patients)
    same = [name for key, name in zip(digests, names, strict=True) if key in theirs]
    shared = sorted(set(patients) & people)
    lines = []
    if same:
        lines.append(
            f"{len(same)} training images are in the test part too, such as {_few(same)}: take them out of one"
        )
    if shared:
        lines.append(
            f"{len(shared)} patients are in the training and in the test part: scores on it will flatter"
        )
    return lines


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN])
