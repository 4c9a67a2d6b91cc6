"""The `probewise` command. Each command imports what it needs when it is called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from controller.config import RunConfig
    from drivers.instrument import InstrumentConfig

app = typer.Typer(
    name="probewise",
    help="Automated experiments on scanning transmission electron microscopes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
serve_app = typer.Typer(help="Serve an emulated instrument to controllers.", no_args_is_help=True)
app.add_typer(serve_app, name="serve")

Experiment = Annotated[Path, typer.Argument(help="Experiment file (TOML).")]
Run = Annotated[Path, typer.Argument(help="Folder of a run.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value: a.b=c; instrument.a.b=c for the instrument's."),
]
Name = Annotated[str | None, typer.Option(help="Name of the run's folder.")]
Instrument = Annotated[Path | None, typer.Option("--instrument", help="Instrument file (TOML).")]

console = Console(stderr=True, highlight=False)
out = Console(highlight=False)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn expected failures into one clear message and the right exit code."""
    from controller.exits import EXPECTED, Exit
    from controller.loading import ConfigError

    try:
        yield
    except ConfigError as error:
        _fail(str(error), Exit.USAGE)
    except EXPECTED as error:
        _fail(str(error), _code(error))


def _code(error: BaseException) -> int:
    from controller.exits import Exit
    from controller.lease import Latched, LeaseTaken
    from drivers.errors import DriverError

    hardware = isinstance(error, (DriverError, Latched, LeaseTaken, OSError))
    return Exit.HARDWARE if hardware else Exit.USAGE


def _fail(message: str, code: int) -> NoReturn:
    console.print(f"[bold red]error:[/] {escape(message)}")
    raise typer.Exit(code)


@app.command()
def check(experiment: Experiment, sets: Sets = None) -> None:
    """Reckon a run beforehand: time, dose, disk, decisions, limits. Exposes nothing."""
    from controller.exits import Exit
    from controller.loading import load_experiment
    from controller.preflight import preflight, render

    with _errors():
        result = preflight(load_experiment(experiment, sets or ()))
    render(result, out)
    if not result.ok:
        raise typer.Exit(Exit.LIMIT)


@app.command()
def run(
    experiment: Experiment,
    sets: Sets = None,
    name: Name = None,
    yes: Annotated[bool, typer.Option("--yes", help="Consent to exposing the sample.")] = False,
    report_: Annotated[bool, typer.Option("--report/--no-report")] = True,
) -> None:
    """Run an experiment on its instrument."""
    from controller.loading import load_experiment
    from controller.preflight import preflight, render

    with _errors():
        config = load_experiment(experiment, sets or ())
        result = preflight(config)
        render(result, console)
        if result.refusals:
            _fail("; ".join(result.refusals), 4)
        if not config.instrument.instrument.virtual and not yes:
            _ask_consent(config.instrument.instrument.name)
        _execute(config, name, rehearse=False, report=report_)


@app.command("dry-run")
def dry_run(
    experiment: Experiment,
    sets: Sets = None,
    name: Name = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="As fast as an instrument, not faster.")
    ] = False,
    report_: Annotated[bool, typer.Option("--report/--no-report")] = True,
) -> None:
    """Rehearse an experiment without a beam, on a clock that runs ahead."""
    from controller.loading import load_experiment
    from controller.opening import is_emulated
    from controller.running import rehearsal

    with _errors():
        config = load_experiment(experiment, sets or ())
        emulated = is_emulated(config.instrument)
        if not emulated or not real_time:
            config = rehearsal(config, emulated)
        _execute(config, name, rehearse=not real_time, report=report_)


@app.command()
def demo(name: Name = None, sets: Sets = None) -> None:
    """Find Si dopants in graphene on the virtual microscope, and write a report."""
    from controller.loading import load_experiment
    from controller.preflight import preflight, render
    from controller.running import configs_folder

    with _errors():
        config = load_experiment(configs_folder() / "experiments" / "demo.toml", sets or ())
        render(preflight(config), console)
        _execute(config, name, rehearse=False, report=True)


@app.command()
def resume(
    run_folder: Run,
    by: Annotated[str, typer.Option(help="Who resumes.")] = "operator",
    yes: Annotated[bool, typer.Option("--yes")] = False,
    report_: Annotated[bool, typer.Option("--report/--no-report")] = True,
) -> None:
    """Go on with an interrupted run from its next sub-scan; nothing is exposed again."""
    from controller.rundir import open_folder
    from controller.running import report_after, run_session
    from controller.session import resumed_session

    with _errors():
        folder = open_folder(run_folder)
        config = folder.config()
        if not config.instrument.instrument.virtual and not yes:
            _ask_consent(config.instrument.instrument.name)
        with resumed_session(folder, by=by) as session:
            code = run_session(session, config, console)
        if report_:
            report_after(folder, config, console)
    raise typer.Exit(code)


@app.command()
def recover(run_folder: Run) -> None:
    """Put an interrupted run's files in order and write its report. Touches no instrument."""
    from controller.journal import Journal
    from controller.recovery import recover as put_in_order
    from controller.rundir import open_folder
    from controller.running import report_after
    from drivers.clock import RealClock

    with _errors():
        folder = open_folder(run_folder)
        journal = Journal(folder.journal, RealClock())
        try:
            found = put_in_order(folder, journal)
        finally:
            journal.close()
        console.print(
            f"{len(found.unknown)} exposures charged in full because nobody saw their end; "
            f"{len(found.unjournalled)} sub-scans taken up from run.nxs"
        )
        report_after(folder, folder.config(), console)


@app.command()
def replay(
    run_folder: Run,
    planner: Annotated[str, typer.Option(help="botorch, raster or random.")] = "botorch",
    acquisition: Annotated[str | None, typer.Option(help="ucb, log_ei, q_log_ei or sd.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Ask another planner what it would have done with the data of a run."""
    from controller.replaying import replay_run, show
    from controller.rundir import open_folder

    with _errors():
        folder = open_folder(run_folder)
        try:
            result = replay_run(folder, planner=planner, acquisition=acquisition, seed=seed)
        except ValueError as error:
            _fail(str(error), 2)
        show(result, out)


@app.command()
def report(run_folder: Run) -> None:
    """Write the report of a run again."""
    from controller.rundir import open_folder
    from controller.running import report_after

    with _errors():
        folder = open_folder(run_folder)
        report_after(folder, folder.config(), console)


@app.command()
def export(
    run_folder: Run,
    to: Annotated[Path, typer.Option("--to", help="File to write (.emd).")],
    detector: Annotated[
        str | None, typer.Option(help="Which detector; the first by default.")
    ] = None,
) -> None:
    """Write a run's frames as EMD, for py4DSTEM and HyperSpy."""
    from controller.export import export_emd
    from controller.rundir import open_folder

    with _errors():
        folder = open_folder(run_folder)
        chosen = detector or folder.config().sub_scan_detectors()[0]
        export_emd(folder, to, chosen)
        out.print(str(to))


@app.command()
def park(
    run_folder: Annotated[Path | None, typer.Argument(help="Folder of a run.")] = None,
    instrument: Instrument = None,
) -> None:
    """Stop, blank and park an instrument from outside, and keep it so until acknowledged."""
    from controller.outside import park_from_outside
    from controller.park import alarm

    with _errors():
        config = _instrument_of(run_folder, instrument)
        report_ = park_from_outside(config)
    for step in report_.steps:
        mark = "[green]ok[/]" if step.ok else f"[red]{escape(step.error)}[/]"
        console.print(f"{step.name}: {mark} ({step.took_s * 1e3:.0f} ms)")
    if not report_.at_rest:
        _fail(alarm(report_), 3)
    how = "read back as blanked" if report_.verified_blanked else "no blanker, the beam stays on"
    console.print(f"[green]parked[/] ({how}); 'probewise acknowledge' frees it")


@app.command()
def acknowledge(
    run_folder: Annotated[Path | None, typer.Argument(help="Folder of a run.")] = None,
    instrument: Instrument = None,
    by: Annotated[str, typer.Option(help="Who acknowledges.")] = "operator",
    reason: Annotated[str, typer.Option(help="What was looked at.")] = "",
) -> None:
    """Confirm, after a fault or an outside park, that the instrument may be used again."""
    from controller.outside import acknowledge_from_outside

    with _errors():
        done = acknowledge_from_outside(
            _instrument_of(run_folder, instrument), run_folder, by=by, reason=reason
        )
    for line in done:
        console.print(line)


@serve_app.command("instrument")
def serve_instrument(
    instrument: Annotated[Path, typer.Argument(help="Instrument file (TOML).")],
    linger_s: Annotated[float, typer.Option(help="Seconds without a client before it ends.")] = 600,
) -> None:
    """Run an emulated instrument as a process that controllers connect to."""
    from controller.outside import serve_emulated

    with _errors():
        serve_emulated(_instrument_of(None, instrument), linger_s)


@app.command()
def drivers() -> None:
    """List the installed drivers."""
    from rich.table import Table

    from drivers import registry
    from drivers.errors import DriverUnavailable

    table = Table("driver", "beam", "what it is", box=None)
    for name in registry.available():
        try:
            driver = registry.load(name)
        except DriverUnavailable as error:
            table.add_row(name, "", f"[red]{escape(str(error))}[/]")
            continue
        table.add_row(name, "emulated" if driver.emulated else "real", escape(driver.summary))
    out.print(table)


@app.command()
def doctor(
    instrument: Annotated[Path | None, typer.Argument(help="Instrument file (TOML).")] = None,
) -> None:
    """Look at this machine, and at an instrument's connections, and say what is wrong."""
    from controller.doctor import doctor as examine
    from controller.doctor import render
    from controller.outside import connection_findings

    with _errors():
        config = _instrument_of(None, instrument) if instrument else None
        findings = [*examine(config), *(connection_findings(config) if config else ())]
    render(findings, out)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(3)


def _instrument_of(run_folder: Path | None, instrument: Path | None) -> InstrumentConfig:
    from controller.loading import load_instrument
    from controller.rundir import open_folder

    if run_folder is not None:
        return open_folder(run_folder).config().instrument
    if instrument is None:
        _fail("name a run's folder, or an instrument with --instrument FILE", 2)
    return load_instrument(instrument)


def _ask_consent(instrument: str) -> None:
    """Expose nothing on a real instrument before someone typed its name."""
    if not sys.stdin.isatty():
        _fail(f"'{instrument}' has a real beam: pass --yes to expose the sample", 2)
    typed = typer.prompt(f"'{instrument}' has a real beam. Type its name to expose the sample")
    if typed.strip() != instrument:
        _fail("nothing was exposed: the name typed is another", 2)


def _execute(config: RunConfig, name: str | None, *, rehearse: bool, report: bool) -> NoReturn:
    from controller.rundir import create
    from controller.running import report_after, run_session
    from controller.session import new_session

    clock = None
    if rehearse:
        from sim.clock import VirtualClock

        clock = VirtualClock()
    folder = create(config, Path(config.experiment.output.folder), name=name)
    console.print(f"run: {escape(str(folder.path))}")
    with new_session(folder, config, clock=clock, guarded=not rehearse) as session:
        code = run_session(session, config, console)
    if report:
        report_after(folder, config, console)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    app()
