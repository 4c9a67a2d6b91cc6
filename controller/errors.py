"""Failures of files and runs that a person can mend, and saying in one line what went wrong."""

from __future__ import annotations


class StoreError(Exception):
    """The run file can't be written or read; the message says what to do."""


class ExportError(Exception):
    """Nothing can be exported like this; the message says why."""


class CannotResume(Exception):
    """The run is in no state to go on; the message says what to do first."""


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
