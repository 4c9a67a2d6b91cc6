"""The checks before an exposure is prepared: which limits would it break.

Everything in flight counts: an intent without a receipt is taken as fully delivered, in the total
and at every place its bounding box meets.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from controller.config import ExperimentConfig
from controller.dose import mean_dose_e_per_A2
from controller.events import Intent, Purpose
from controller.journal import Journal
from controller.limits import (
    Budget,
    Verdict,
    beam_on_s,
    budget_in_force,
    check_current,
    check_dose,
    check_geometry,
    check_resources,
    planned_electrons,
)
from controller.transform import SpecimenToScan
from drivers.instrument import InstrumentConfig
from drivers.vocabulary import DetectorInfo, SubScan

_SLACK = 1 + 1e-9


class Checks:
    """Judges exposures against ceilings, budgets and the state of the run.

    Parameters
    ----------
    experiment : ExperimentConfig
    instrument : InstrumentConfig
    journal : Journal
    disk : Path
        A path on the disk that the run is written to.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        instrument: InstrumentConfig,
        journal: Journal,
        disk: Path,
    ) -> None:
        self._experiment = experiment
        self._instrument = instrument
        self._journal = journal
        self._disk = disk
        self._free = (-1e9, 0.0)
        self.max_positions = instrument.scan.max_positions
        self.infos: dict[str, DetectorInfo] = {}

    def budget(self) -> Budget:
        """Return the budgets in force."""
        limits = self._instrument.limits
        return budget_in_force(self._experiment.budget, limits, self._journal.state)

    def free_disk_bytes(self) -> float:
        """Return the free bytes on the run's disk, as of at most a second ago."""
        read_at_s, free = self._free
        if time.monotonic() - read_at_s > 1.0:
            free = float(shutil.disk_usage(self._disk).free)
            self._free = (time.monotonic(), free)
        return free

    def verdicts(
        self, sub_scan: SubScan, purpose: Purpose, author: str, elapsed_s: float
    ) -> list[Verdict]:
        """Return every limit that exposing this sub-scan (specimen nm) now would break."""
        state, instrument, budget = self._journal.state, self._instrument, self.budget()
        scan_coords = SpecimenToScan(state.offset_nm).to_scan(sub_scan)
        found = list(check_geometry(scan_coords, instrument, self.max_positions))
        if found:
            return found  # dose over an area out of reach need not be reckoned
        electrons = planned_electrons(sub_scan, instrument)
        intents = list(state.intents.values())
        here = sum(i.planned_dose_e_per_A2 for i in intents if may_overlap(i.sub_scan, sub_scan))
        in_flight = sum(intent.planned_electrons for intent in intents)
        found += check_dose(sub_scan, electrons, state.ledger, budget, here, in_flight)
        found += check_current(state.current, instrument)
        found += check_resources(
            elapsed_s=elapsed_s,
            scan_s=beam_on_s(sub_scan, instrument.scan),
            free_bytes=self.free_disk_bytes(),
            need_bytes=sum(info.expected_nbytes(sub_scan) for info in self.infos.values()),
            budget=budget,
            limits=instrument.limits,
        )
        if purpose in ("measure", "forced"):
            found += self._number(intents, budget)
        else:
            found += self._own_budget(sub_scan, purpose, author)
        return found

    def _number(self, intents: list[Intent], budget: Budget) -> list[Verdict]:
        """Check the number of sub-scans, those in flight counted in."""
        in_flight = sum(intent.purpose in ("measure", "forced") for intent in intents)
        n = self._journal.state.n_measured + in_flight
        if n < budget.n_sub_scans:
            return []
        return [Verdict("number of sub-scans", n + 1, budget.n_sub_scans, "", "finish")]

    def _own_budget(self, sub_scan: SubScan, purpose: Purpose, author: str) -> list[Verdict]:
        """Check the budget of the survey, or of the anchor named ``author``."""
        limit = self._experiment.survey.max_dose_e_per_A2
        for anchor in self._experiment.anchor:
            if purpose == "anchor" and anchor.name == author:
                limit = anchor.max_dose_e_per_A2
        earlier = sum(
            outcome.electrons
            for outcome in self._journal.state.outcomes.values()
            if outcome.purpose == purpose and outcome.author == author
        )
        electrons = earlier + planned_electrons(sub_scan, self._instrument)
        dose = mean_dose_e_per_A2(sub_scan, electrons)
        if dose <= limit * _SLACK:
            return []
        return [Verdict(f"{purpose} dose", dose, limit, "e/Å²", "refused")]


def may_overlap(a: SubScan, b: SubScan) -> bool:
    """Say whether the bounding boxes of two sub-scans meet."""
    low_a, high_a = a.corners_nm().min(axis=0), a.corners_nm().max(axis=0)
    low_b, high_b = b.corners_nm().min(axis=0), b.corners_nm().max(axis=0)
    return bool((low_a < high_b - 1e-9).all() and (low_b < high_a - 1e-9).all())
