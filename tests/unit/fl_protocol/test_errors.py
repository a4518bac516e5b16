"""Errors are named for the one who can mend them, and each has its exit code."""

from __future__ import annotations

import pytest

from fl_protocol import errors


@pytest.mark.parametrize(
    ("error", "code", "is_also"),
    [
        (errors.ConfigError("x"), 2, errors.HilumError),
        (errors.DataError("x"), 2, errors.ConfigError),
        (errors.BrokerUnavailable("x"), 3, errors.HilumError),
        (errors.AccessRefused("x"), 3, errors.BrokerUnavailable),
        (errors.QuorumNotMet("x"), 4, errors.HilumError),
        (errors.PeerError("x"), 1, errors.HilumError),
        (errors.DecodeError("x"), 1, errors.PeerError),
    ],
)
def test_exit_code_and_family(
    error: errors.HilumError, code: int, is_also: type[errors.HilumError]
) -> None:  # fmt: skip
    assert error.exit_code == code
    assert isinstance(error, is_also)


def test_tree_in_the_docstring_is_the_tree_in_code() -> None:
    named = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in named)


def test_peer_error_keeps_its_name_apart_from_its_detail() -> None:
    error = errors.PeerError("bad_chunk", "chunk 3")
    assert (error.reason, error.detail, str(error)) == ("bad_chunk", "chunk 3", "bad_chunk: chunk 3")
    assert str(errors.PeerError("late")) == "late"
