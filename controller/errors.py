"""Say in one line what went wrong."""

from __future__ import annotations


def describe(error: BaseException) -> str:
    """Return an error in one line, groups by their first member."""
    error = innermost(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """Return the first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
