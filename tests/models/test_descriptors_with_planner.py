"""Describer and planner together: a boundary is found by what its sub-scans look like."""

from __future__ import annotations

import numpy as np
from decision_helpers import ids
from test_descriptors_linear import record, survey

from drivers.vocabulary import SubScan
from models.decision.factory import make_planner
from models.decision.protocols import CandidateGrid, Outcome
from models.descriptors.factory import make_describer


def test_the_variance_of_a_component_leads_to_the_boundary_between_two_lattices():
    describer = make_describer("linear", {"n_components": 2, "sub_scan_shape": (64, 64)})
    describer.prepare(survey(), (4.0, 4.0))
    axis = np.arange(-14.0, 14.1, 2.0)
    grid = CandidateGrid(axis, axis + 1.0, (4.0, 4.0))
    template = SubScan("template", (0.0, 0.0), (4.0, 4.0), (64, 64), 5.0)
    objective = ("variance", {"component": 1})
    planner = make_planner("botorch", grid, template, ids(), 3, objective)
    crossed = []
    for number in range(20):
        (suggestion,) = planner.suggest(1, 10.0)
        data = record(suggestion.sub_scan, seed=number)
        seen = describer.describe(data)
        planner.ingest(
            Outcome(suggestion.id, suggestion.sub_scan, seen.summary, seen.names, seen.version)
        )
        crossed.append(abs(suggestion.sub_scan.center_nm[1]) < 2.0)
    # 2 of 15 columns touch the boundary at x = 0: 1.6 of 12 places by chance, 7 fit at most
    assert sum(crossed[8:]) >= 5
    best = max(planner.score(f"s{i:04d}") or 0.0 for i in range(20))
    assert best > 10
