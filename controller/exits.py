"""Exit codes of the command line, and which end of a run gives which."""

from __future__ import annotations

from enum import IntEnum

from controller.errors import CannotResume, ExportError, StoreError
from controller.guardian import GuardianFailed
from controller.journal import JournalError
from controller.lease import Latched, LeaseTaken
from controller.parts import End
from controller.phases import FinishReason
from controller.rundir import RunFolderError
from drivers.errors import DriverError


class Exit(IntEnum):
    """What the command line returns."""

    OK = 0
    BUG = 1
    USAGE = 2
    HARDWARE = 3
    LIMIT = 4
    ABORTED = 5
    BUDGET_CUT = 6
    CTRL_C = 130


EXPECTED = (
    CannotResume,
    DriverError,
    ExportError,
    GuardianFailed,
    JournalError,
    Latched,
    LeaseTaken,
    OSError,
    RunFolderError,
    StoreError,
)
"""Failures that are not bugs: told in one line, without a traceback."""


def exit_for(
    end: End, *, fault: BaseException | None, interrupted: bool, budget_is_the_end: bool
) -> Exit:
    """Return the exit code of a run that ended."""
    if interrupted and end.reason is not FinishReason.FAULT:
        return Exit.CTRL_C
    if end.reason is FinishReason.FAULT:
        expected = fault is None or isinstance(fault, EXPECTED)
        return Exit.HARDWARE if expected else Exit.BUG
    if end.reason is FinishReason.BUDGET:
        return Exit.OK if budget_is_the_end else Exit.BUDGET_CUT
    codes = {
        FinishReason.COMPLETED: Exit.OK,
        FinishReason.LIMIT: Exit.LIMIT,
        FinishReason.ABORTED: Exit.ABORTED,
    }
    return codes[end.reason]
