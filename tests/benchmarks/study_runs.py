"""Whole runs in this process on a virtual clock, for studies of what an experiment finds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from controller.config import RunConfig
from controller.phases import FinishReason
from controller.rundir import create
from controller.running import rehearsal
from controller.session import new_session
from drivers.vocabulary import FloatArray, SubScan, SubScanData
from sim.clock import VirtualClock

REPOSITORY = Path(__file__).resolve().parents[2]
NORMAL = (FinishReason.COMPLETED, FinishReason.BUDGET)


def execute(config: RunConfig, folder: Path) -> tuple[list[SubScan], SubScanData]:
    """Run an experiment to its end; return its executed sub-scans, in order, and its survey.

    The whole controller runs: limits, dose ledger, intents, journal and store. The instrument
    must be an emulated one.

    Raises
    ------
    RuntimeError
        If the run ended in another way than by its plan or budget, or a sub-scan was cut short.
    """
    run = create(rehearsal(config, emulated=True), folder.parent, name=folder.name)
    with new_session(run, run.config(), clock=VirtualClock(), guarded=False) as session:
        end = asyncio.run(session.controller.run())
        survey = session.parts.survey
        state = session.journal.state
    if end.reason not in NORMAL or survey is None:
        raise RuntimeError(f"{folder.name} ended by {end.reason.value}: {end.message}")
    windows = []
    for outcome in state.outcomes.values():
        if outcome.purpose == "measure":
            if outcome.outcome != "complete":
                raise RuntimeError(f"{folder.name}: {outcome.id} is {outcome.outcome}")
            windows.append(outcome.sub_scan)
    return windows, survey


def found_fraction(windows: list[SubScan], targets_nm: FloatArray, n: int) -> FloatArray:
    """Return the fraction of targets inside the first 0, 1, ... n windows: (n + 1,).

    A run that ended early keeps what it had found.
    """
    seen = np.zeros(len(targets_nm), dtype=bool)
    found = [0.0]
    for window in windows[:n]:
        seen |= window.contains(targets_nm)
        found.append(float(seen.mean()))
    return np.array(found + found[-1:] * (n + 1 - len(found)))
