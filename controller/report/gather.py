"""Everything a report shows, gathered from journal, manifest, checkpoints and run file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller import commands as c
from controller import events as e
from controller.config import RunConfig
from controller.dose import executed_part, mean_dose_e_per_A2
from controller.journal import read
from controller.rundir import RunFolder
from controller.state import Outcome, RunState, fold
from controller.store_read import StoredSubScan, list_stored
from drivers.vocabulary import AnyArray, FloatArray, SubScan


@dataclass(frozen=True, slots=True)
class Row:
    """One executed sub-scan.

    Attributes
    ----------
    number : int
        Its place in the order of execution, from 1; 0 for surveys and anchors.
    sub_scan : SubScan
        The part that was exposed.
    dose_e_per_A2 : float
        Mean dose over that part, by the upper bound of the current.
    """

    number: int
    outcome: Outcome
    sub_scan: SubScan
    dose_e_per_A2: float
    card: e.Suggested | None
    t_s: float

    @property
    def id(self) -> str:
        """Its id."""
        return self.outcome.id

    @property
    def objective(self) -> float | None:
        """Its objective as scored last, None if it has none."""
        value = self.outcome.objective
        return value if value is not None and np.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The surrogate's maps over specimen nm, as saved last."""

    y_nm: FloatArray
    x_nm: FloatArray
    mean: FloatArray
    sd: FloatArray
    acquisition: FloatArray
    objective: str


@dataclass(slots=True)
class RunRecord:
    """What is known of a run."""

    folder: RunFolder
    manifest: dict[str, Any]
    config: RunConfig
    entries: list[e.Entry]
    state: RunState
    rows: list[Row]
    """All executed sub-scans in order, surveys and anchors among them."""
    stored: dict[str, StoredSubScan]
    surrogate: Surrogate | None
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    duty_cycle: float | None = None
    """Median of what the steps report, None under a virtual clock."""

    @property
    def measured(self) -> list[Row]:
        """The sub-scans that count against the plan: measured and forced ones, in order."""
        return [row for row in self.rows if row.number]

    @property
    def scored(self) -> list[Row]:
        """Those of them that have an objective, in order."""
        return [row for row in self.measured if row.objective is not None]

    @property
    def field_nm(self) -> tuple[float, float]:
        """Size of the field, (y, x) in nm."""
        return self.state.ledger.field_nm

    @property
    def area_fraction(self) -> float:
        """Exposed area of measured sub-scans over the area of the field."""
        area = sum(row.sub_scan.area_nm2 for row in self.measured)
        return area / (self.field_nm[0] * self.field_nm[1])

    @property
    def objective_name(self) -> str:
        """What was sought, in words."""
        if self.surrogate is not None and self.surrogate.objective:
            return self.surrogate.objective
        changed = self.state.override("set_objective")
        if changed and isinstance(changed[-1], c.SetObjective):
            return changed[-1].name
        part = self.config.experiment.objective
        words = [value for value in part.params.values() if isinstance(value, str)]
        return part.name + (f" ({', '.join(words)})" if words else "")

    def budget(self, name: str) -> float | None:
        """Return a budget as it was in the end, moved by an operator or not."""
        moved = [getattr(each, name, None) for each in self.state.override("set_budget")]
        values = [value for value in moved if value is not None]
        value = values[-1] if values else getattr(self.config.experiment.budget, name)
        return None if value is None else float(value)


def gather(folder: RunFolder) -> RunRecord:
    """Read a run's folder.

    Raises
    ------
    RunFolderError, JournalError, StoreError
        If the manifest, the journal or the run file can't be read.
    """
    manifest = folder.read_manifest()
    entries, _ = read(folder.journal)
    state = fold(entries)
    record = RunRecord(
        folder=folder,
        manifest=manifest,
        config=RunConfig.model_validate(manifest["config"]),
        entries=entries,
        state=state,
        rows=_rows(entries, state),
        stored={each.sub_scan.id: each for each in list_stored(folder)},
        surrogate=_surrogate(folder),
    )
    steps = [each.event for each in entries if isinstance(each.event, e.StepTimed)]
    for step in steps:
        for name, value in step.stages_ms.items():
            record.stages_ms.setdefault(name, []).append(value)
    duty = [step.duty_cycle for step in steps if step.duty_cycle is not None]
    record.duty_cycle = float(np.median(duty)) if duty else None
    return record


def _rows(entries: list[e.Entry], state: RunState) -> list[Row]:
    cards = {each.event.id: each.event for each in entries if isinstance(each.event, e.Suggested)}
    rows: list[Row] = []
    number = 0
    for entry in entries:
        event = entry.event
        if not isinstance(event, e.Executed):
            continue
        outcome = state.outcomes[event.id]
        counts = outcome.purpose in ("measure", "forced")
        number += counts
        part = executed_part(event.sub_scan, event.positions_executed)
        dose = mean_dose_e_per_A2(part, event.electrons)
        shown = number if counts else 0
        rows.append(Row(shown, outcome, part, dose, cards.get(event.id), entry.t_s))
    return rows


def _surrogate(folder: RunFolder) -> Surrogate | None:
    path = folder.checkpoints / "maps.npz"
    if not path.exists():
        return None
    arrays: dict[str, AnyArray] = folder.load_arrays(str(path.relative_to(folder.path)))
    numbers = {
        name: np.asarray(arrays[name], dtype=np.float64)
        for name in ("y_nm", "x_nm", "mean", "sd", "acquisition")
    }
    return Surrogate(**numbers, objective=str(arrays["objective"]))
