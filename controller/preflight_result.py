"""What a preflight found, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from controller.planned import Exposure

_SLACK = 1 + 1e-9
PER_A2 = "e/Å²"


@dataclass(frozen=True, slots=True)
class Check:
    """A planned quantity against the experiment's budget and the instrument's ceiling."""

    what: str
    planned: float
    budget: float | None
    ceiling: float | None
    unit: str

    @property
    def ok(self) -> bool:
        """Whether it is within both."""
        limits = [limit for limit in (self.budget, self.ceiling) if limit is not None]
        return all(self.planned <= limit * _SLACK for limit in limits)


@dataclass(frozen=True, slots=True)
class Trip:
    """A limit that the plan would meet, and what would happen."""

    rule: str
    value: float
    limit: float
    unit: str
    then: str

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.rule}: {self.value:.4g}{unit}, limit {self.limit:.4g}{unit}: {self.then}"


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a run would do and what it would cost.

    Attributes
    ----------
    n_sub_scans : int
        Sub-scans the plan can make: at most what the file asks for.
    decisions : dict
        The most sub-scans that each limit allows, by its name.
    limited_by : str
        The name of the smallest of them.
    peak_local_dose_e_per_A2 : float
        Highest dose of any cell: survey with one sub-scan, or with all scans of an anchor.
    coverage : float
        Share of the field that the sub-scans cover.
    missing : tuple of str
        Metadata that will be missing from the run's files.
    refusals : tuple of str
        Why `run` would refuse; empty when it would not.
    """

    name: str
    instrument: str
    virtual: bool
    emulated: bool
    exposures: tuple[tuple[Exposure, int], ...]
    n_sub_scans: int
    n_candidates: int
    decisions: dict[str, int]
    limited_by: str
    seconds: float
    electrons: float
    total_dose_e_per_A2: float
    peak_local_dose_e_per_A2: float
    nbytes: int
    free_bytes: int
    coverage: float
    dose_cell_nm: float
    upper_pA: float
    checks: tuple[Check, ...]
    trips: tuple[Trip, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether `run` would start."""
        return not self.refusals


def render(result: Preflight, console: Console) -> None:
    """Print the preflight for a person."""
    kind = "virtual" if result.virtual else "NOT virtual: a real beam"
    console.print(f"[bold]{result.name}[/] on [bold]{result.instrument}[/] ({kind})")
    console.print(_exposure_table(result))
    console.print(_check_table(result))
    console.print(
        f"{result.n_sub_scans} sub-scans, limited by {result.limited_by}; "
        f"{result.n_candidates} candidates; {result.coverage:.1%} of the field; "
        f"{result.electrons:.3g} electrons at {result.upper_pA:g} pA (upper bound); "
        f"dose cell {result.dose_cell_nm:.3g} nm; "
        f"{result.nbytes / 1e6:.4g} MB of frames, {result.free_bytes / 1e9:.4g} GB free"
    )
    for trip in result.trips:
        console.print(f"[yellow]would trip[/] {escape(str(trip))}")
    for text in result.warnings:
        console.print(f"[yellow]warning[/] {escape(text)}")
    if result.missing:
        console.print(f"[yellow]not stated[/] {', '.join(result.missing)}")
    for text in result.refusals:
        console.print(f"[bold red]refused[/] {escape(text)}")


def _exposure_table(result: Preflight) -> Table:
    table = Table(title="exposures", title_justify="left")
    heads = ("what", "times", "shape", "field of view", "dwell", "beam on", "dose", "under probe")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right")
    for each, times in result.exposures:
        scan = each.sub_scan
        table.add_row(
            each.name,
            str(times),
            f"{scan.shape[0]} x {scan.shape[1]}",
            f"{scan.fov_nm[0]:g} x {scan.fov_nm[1]:g} nm",
            f"{scan.dwell_us:g} µs",
            f"{each.seconds:.3g} s",
            f"{each.dose_e_per_A2:.3g} {PER_A2}",
            f"{each.probe_dose_e_per_A2:.3g} {PER_A2}" if each.sparse else "-",
        )
    return table


def _check_table(result: Preflight) -> Table:
    table = Table(title="against budgets and ceilings", title_justify="left")
    for number, head in enumerate(("what", "planned", "budget", "ceiling", "")):
        table.add_column(head, justify="left" if number == 0 else "right")
    for check in result.checks:
        limits = [
            "-" if limit is None else f"{limit:.4g} {check.unit}"
            for limit in (check.budget, check.ceiling)
        ]
        verdict = "[green]ok[/]" if check.ok else "[red]over[/]"
        table.add_row(check.what, f"{check.planned:.4g} {check.unit}", *limits, verdict)
    return table
