"""Say in one line what went wrong."""

from __future__ import annotations


def describe(error: BaseException) -> str:
    """Return an error in one line, groups by their first member."""
    error = innermost(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """Return the first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
