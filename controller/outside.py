"""What is done to an instrument from outside a run: park, acknowledge, serve, look."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from controller import events as e
from controller.commands import Acknowledge
from controller.journal import Journal
from controller.lease import Latch, Lease, LeaseTaken, state_folder
from controller.opening import (
    emergency_for,
    exposure_log,
    open_instrument,
    reach,
    reach_running,
)
from controller.park import park_instrument
from controller.rundir import open_folder
from drivers.clock import RealClock
from drivers.errors import DriverError
from drivers.instrument import InstrumentConfig

if TYPE_CHECKING:
    from controller.doctor import Finding


def park_from_outside(instrument: InstrumentConfig, by: str = "probewise park") -> e.Parked:
    """Leave the latch, then park on a connection of our own.

    A latch that can't be written does not keep the instrument from being parked.

    Raises
    ------
    DriverError
        If the instrument can't be reached.
    OSError
        After parking, if the latch could not be left.
    """
    unlatched: OSError | None = None
    try:
        Latch(instrument.instrument.name).set(by, "parked from outside")
    except OSError as error:
        unlatched = error
    report = _park(instrument, by)
    if unlatched is not None:
        what = "verifiably parked" if report.at_rest else "NOT verifiably parked"
        raise OSError(f"{what}, but no latch could be left: {unlatched}") from unlatched
    return report


def _park(instrument: InstrumentConfig, by: str) -> e.Parked:
    reached = reach_running(instrument)
    if reached is None:
        step = e.ParkStep(name="nothing to park: no instrument process runs", ok=True, took_s=0.0)
        return e.Parked(by=by, why="parked from outside", verified_blanked=True, steps=(step,))
    emergency = emergency_for(reached)
    try:
        return park_instrument(reached, emergency, by=by, why="parked from outside")
    finally:
        emergency.close()


def acknowledge_from_outside(
    instrument: InstrumentConfig, run_folder: Path | None, *, by: str, reason: str
) -> list[str]:
    """Remove the latch and, for a run, journal that its end was looked at.

    Raises
    ------
    LeaseTaken
        If a controller is at work on the instrument.
    """
    from controller.recovery import recover

    said = []
    folder = open_folder(run_folder) if run_folder is not None else None
    lease = Lease(instrument.instrument.name, "acknowledge")
    lease.take()
    try:
        if folder is not None:
            journal = Journal(folder.journal, RealClock())
            try:
                recover(folder, journal)
                journal.append(e.CommandAccepted(command=Acknowledge(by=by, reason=reason)))
            finally:
                journal.close()
            said.append(f"{folder.path}: acknowledged by {by}")
        latch = Latch(instrument.instrument.name)
        card = latch.read()
        if latch.clear() and card is not None:
            said.append(f"latch removed (parked by {card.by} at {card.utc}: {card.why})")
    finally:
        lease.release()
    return said or ["there was nothing to acknowledge"]


def serve_emulated(instrument: InstrumentConfig, linger_s: float) -> None:
    """Serve an emulated instrument from this process until told to stop.

    Controllers of the same instrument find it by its endpoint file in the state folder.
    """
    from drivers.serve.instrument import announcer, forget, serve

    name = instrument.instrument.name
    folder = state_folder(name)
    endpoint_file = folder / f"{name}.endpoint"
    (folder / f"{name}.instrument.json").write_text(instrument.model_dump_json())
    try:
        serve(
            instrument,
            exposure_log=exposure_log(instrument),
            linger_s=linger_s,
            announce=announcer(endpoint_file),
        )
    finally:
        forget(endpoint_file)


def connection_findings(instrument: InstrumentConfig) -> list[Finding]:
    """Connect to each part, blanked, and say how it answers. Exposes nothing."""
    from controller.doctor import Finding

    lease = Lease(instrument.instrument.name, f"doctor ({os.getpid()})")
    try:
        lease.take()
    except LeaseTaken as error:
        return [Finding("lease", False, str(error), "wait for that run to end")]
    try:
        return asyncio.run(_connect(reach(instrument, linger_s=5.0)))
    except DriverError as error:
        return [Finding("connection", False, str(error), "check the instrument file and cables")]
    finally:
        lease.release()


async def _connect(instrument: InstrumentConfig) -> list[Finding]:
    from controller.doctor import Finding

    opened = open_instrument(instrument, RealClock())
    deadline_s = instrument.limits.call_deadline_s
    found = []
    try:
        await opened.connect("doctor")
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "scan control": lambda: opened.scan.read_back(deadline_s=deadline_s),
            "blanker": lambda: opened.beam.is_blanked(deadline_s=deadline_s),
            "beam current": lambda: opened.beam.current(deadline_s=deadline_s),
        }
        for name, call in calls.items():
            started = time.perf_counter()
            answer = await call()
            took_ms = (time.perf_counter() - started) * 1e3
            found.append(Finding(name, True, f"{answer} in {took_ms:.2f} ms", ""))
        for name, detector in opened.detectors.items():
            info = detector.info
            found.append(Finding(f"detector {name}", True, f"{info.kind}, {info.dtype}", ""))
    finally:
        await opened.close()
    return found
