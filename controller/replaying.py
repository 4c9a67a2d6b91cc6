"""Ask another planner what it would have done with the data of a run.

The planner may choose only among the places that were measured; their outcomes are the ones in
the journal. So the order of finding can be compared, not what lies between.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from controller.candidates import make_grid
from controller.journal import read
from controller.rundir import RunFolder
from controller.state import Outcome as Measured
from controller.state import fold
from drivers.vocabulary import FloatArray, SubScan
from models.decision.factory import make_planner
from models.decision.protocols import CandidateGrid, Outcome


@dataclass(frozen=True, slots=True)
class Replay:
    """Objective values in the order of the run and in the order of the other planner."""

    planner: str
    ids: tuple[str, ...]
    recorded: FloatArray
    replayed: FloatArray


def replay_run(
    folder: RunFolder, *, planner: str, acquisition: str | None = None, seed: int = 0
) -> Replay:
    """Run another planner over the outcomes of a run.

    Raises
    ------
    ValueError
        If the run has no described sub-scans on the candidate grid, or the planner is unknown.
    """
    config, state = folder.config(), fold(read(folder.journal)[0])
    grid, part = make_grid(config), config.experiment
    measured = {
        index: outcome
        for outcome in state.outcomes.values()
        if outcome.objective is not None
        and (index := _candidate(grid, outcome.sub_scan)) is not None
    }
    if not measured:
        raise ValueError(f"{folder.path}: no described sub-scan lies on the candidate grid")
    size = part.sub_scan
    template = SubScan("template", (0.0, 0.0), size.fov_nm, size.shape, size.dwell_us)
    counter = itertools.count(1)
    other = make_planner(
        planner,
        grid,
        template,
        lambda: f"r{next(counter):06d}",
        seed,
        (part.objective.name, dict(part.objective.params)),
        (acquisition or part.planner.acquisition, dict(part.planner.params)),
    )
    left = dict(measured)
    order: list[Measured] = []
    while left:
        allowed = np.zeros(grid.n, dtype=np.bool_)
        allowed[list(left)] = True
        other.constrain(allowed, np.zeros(grid.n))
        found = other.suggest(1, 60.0)
        if not found:
            break
        index = _candidate(grid, found[0].sub_scan)
        assert index is not None
        outcome = left.pop(index)
        order.append(outcome)
        other.ingest(
            Outcome(
                id=found[0].id,
                sub_scan=found[0].sub_scan,
                summary=np.asarray(outcome.summary),
                names=outcome.names,
                encoder_version=outcome.encoder_version,
            )
        )
    return Replay(
        planner=planner if acquisition is None else f"{planner} ({acquisition})",
        ids=tuple(outcome.id for outcome in order),
        recorded=_objectives(list(measured.values())),
        replayed=_objectives(order),
    )


def show(result: Replay, console: Console) -> None:
    """Print the best objective found after some numbers of sub-scans, side by side."""
    table = Table("sub-scans", "best as run", f"best with {result.planner}", box=None)
    n = len(result.replayed)
    steps = sorted({max(1, round(n * share)) for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)})
    for step in steps:
        row = (result.recorded[:step].max(), result.replayed[:step].max())
        table.add_row(str(step), *(f"{value:.5g}" for value in row))
    console.print(table)
    console.print(
        f"area under the best-so-far curve: as run {_area(result.recorded):.4g}, "
        f"with {result.planner} {_area(result.replayed):.4g}"
    )


def _area(values: FloatArray) -> float:
    return float(np.maximum.accumulate(values).mean())


def _objectives(outcomes: list[Measured]) -> FloatArray:
    return np.array([outcome.objective for outcome in outcomes], dtype=np.float64)


def _candidate(grid: CandidateGrid, sub_scan: SubScan) -> int | None:
    """Return the index of the candidate a sub-scan is centred on, None if it is on none."""
    y, x = sub_scan.center_nm
    row, column = int(np.abs(grid.y_nm - y).argmin()), int(np.abs(grid.x_nm - x).argmin())
    if abs(grid.y_nm[row] - y) > 1e-6 or abs(grid.x_nm[column] - x) > 1e-6:
        return None
    return row * len(grid.x_nm) + column
