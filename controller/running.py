"""Run a session in an event loop with its signals, and leave its report."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from controller.config import RunConfig
from controller.exits import EXPECTED, Exit, exit_for
from controller.opening import truth_of
from controller.parts import End
from controller.phases import FinishReason
from controller.progress import RunProgress
from controller.rundir import RunFolder
from controller.session import Session
from drivers.errors import DriverError
from drivers.instrument import InstrumentConfig, InstrumentPart


def run_session(session: Session, config: RunConfig, console: Console) -> Exit:
    """Run to the end, show progress, save what a report needs; return the exit code."""
    controller = session.controller
    with RunProgress(session.journal, session.parts.governor.budget(), console):
        try:
            end = asyncio.run(_with_signals(session))
        except (KeyboardInterrupt, asyncio.CancelledError):
            end = End(FinishReason.ABORTED, "interrupted by Ctrl-C")
    if controller.alarm:
        end = End(FinishReason.FAULT, controller.alarm)
        console.bell()
        console.rule(f"[bold white on red] {escape(controller.alarm)} ", style="red")
    _save_results(session)
    _say_end(end, session, console)
    return exit_for(
        end,
        fault=controller.fault,
        interrupted=controller.interrupted > 0,
        budget_is_the_end=config.experiment.budget.budget_is_the_end,
    )


async def _with_signals(session: Session) -> End:
    loop = asyncio.get_running_loop()
    controller = session.controller
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, controller.interrupt)
    try:
        return await controller.run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _save_results(session: Session) -> None:
    """Save the surrogate's maps and the dose map; what fails is said in the journal."""
    from controller import events as e

    try:
        session.store.write_dose_map(session.journal.state.ledger)
        maps = session.parts.decider.planner.maps()
        if maps is not None:
            session.store.write_maps(maps)
            save_maps(session.folder, maps)
    except EXPECTED as error:
        session.journal.append(e.Warned(what=f"maps not saved: {error}"))


def save_maps(folder: RunFolder, maps: object) -> None:
    """Save a surrogate's maps beside the checkpoints, for the report."""
    import numpy as np

    from models.decision.protocols import Maps

    assert isinstance(maps, Maps)
    folder.save_arrays(
        "maps",
        {
            "y_nm": maps.y_nm,
            "x_nm": maps.x_nm,
            "mean": maps.mean,
            "sd": maps.sd,
            "acquisition": maps.acquisition,
            "objective": np.asarray(maps.objective),
        },
    )


def _say_end(end: End, session: Session, console: Console) -> None:
    state = session.journal.state
    colour = "green" if end.reason in (FinishReason.COMPLETED, FinishReason.BUDGET) else "red"
    console.print(f"[bold {colour}]{end.reason.value}[/]: {escape(end.message)}")
    console.print(
        f"{state.n_measured} sub-scans, {state.ledger.total_e_per_A2:.4g} e/Å² over the field, "
        f"peak {state.ledger.peak_e_per_A2:.4g} e/Å²"
    )
    if end.reason not in (FinishReason.COMPLETED, FinishReason.BUDGET):
        path = escape(str(session.folder.path))
        if state.needs_acknowledge:
            console.print(f"to go on: probewise acknowledge {path}, then probewise resume {path}")
        else:
            console.print(f"to go on: probewise resume {path}")


def report_after(folder: RunFolder, config: RunConfig, console: Console) -> None:
    """Write the report of a run and say where it is."""
    from controller.report import build_report

    try:
        truth = truth_of(config.instrument)
    except DriverError as error:
        console.print(f"[yellow]no ground truth in the report: {escape(str(error))}[/]")
        truth = None
    path = build_report(folder, truth=truth)
    console.print(f"report: [link=file://{path.resolve()}]{escape(str(path))}[/link]")


def rehearsal(config: RunConfig, emulated: bool) -> RunConfig:
    """Return the configuration of a dry run: the same, on an instrument without a beam.

    An emulated instrument stays as it is; a real one is stood in for by the virtual microscope
    with the real one's limits, timing and calibration. Either lives in this process, where a
    virtual clock runs ahead of the wall clock.
    """
    instrument = config.instrument
    part: InstrumentPart = instrument.instrument
    part = part.model_copy(update={"serve": "in_process", "virtual": True})
    changed: dict[str, object] = {"instrument": part}
    if not emulated:
        changed |= _virtual_parts(instrument)
    return config.model_copy(update={"instrument": instrument.model_copy(update=changed)})


def _virtual_parts(instrument: InstrumentConfig) -> dict[str, object]:
    by_virtual = {"driver": "virtual"}
    return {
        "scan": instrument.scan.model_copy(update=by_virtual),
        "detector": tuple(d.model_copy(update=by_virtual) for d in instrument.detector),
        "beam": instrument.beam.model_copy(update=by_virtual),
        "column": instrument.column and instrument.column.model_copy(update=by_virtual),
    }


def configs_folder() -> Path:
    """Return the folder of the configurations that come with probewise."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "configs", here / "_configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("the configurations that come with probewise are missing")
