"""What must hold after any run, judged by the instrument's own log and by the journal."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from controller import events as e
from controller import journal as journals
from controller.phases import FinishReason
from controller.state import RunState, fold
from tests.controller.loop_bench import Bench


def check_blanked(bench: Bench) -> None:
    """The beam is off at the end and between sub-scans, by the instrument's own log."""
    scanning, unblanked = False, False
    for x in bench.exposures():
        if x.event == "unblank":
            unblanked = True
        elif x.event == "blank":
            unblanked = False
        elif x.event == "scan_start":
            assert not scanning
            scanning = True
        elif x.event == "scan_end":
            scanning = False
        assert x.blanked is not unblanked
    assert not unblanked, "the beam was left on"


def check_intents_first(bench: Bench) -> None:
    """Each sub-scan was in the journal before the instrument unblanked for it."""
    intents = {v.event.id: v.utc for v in bench.entries if isinstance(v.event, e.Intent)}
    unblanked_at = ""
    for x in bench.exposures():
        if x.event == "unblank":
            unblanked_at = x.utc
        elif x.event == "scan_start":
            assert x.sub_scan_id is not None
            assert intents[x.sub_scan_id] <= unblanked_at


def check_never_twice(bench: Bench) -> None:
    """No id was scanned twice."""
    twice = [key for key, n in Counter(bench.scanned()).items() if n > 1]
    assert not twice, f"scanned twice: {twice}"


def check_folded(bench: Bench) -> None:
    """The state is what the journal on disk folds to."""
    live = bench.state
    bench.session.journal.close()
    folded = fold(journals.read(bench.folder.journal)[0])
    same_state(live, folded)


def same_state(a: RunState, b: RunState) -> None:
    """Two states are equal, the ledger's map included."""
    for name in a.__dataclass_fields__:
        if name != "ledger":
            assert getattr(a, name) == getattr(b, name), name
    assert a.ledger.electrons == pytest.approx(b.ledger.electrons)
    np.testing.assert_allclose(a.ledger.map_e_per_A2, b.ledger.map_e_per_A2)


def check_charged(bench: Bench) -> None:
    """At least the electrons the instrument delivered were charged."""
    delivered = sum(x.electrons or 0.0 for x in bench.exposures() if x.event == "scan_end")
    assert bench.state.ledger.electrons >= delivered * (1 - 1e-9)


def check_all(bench: Bench) -> None:
    """Everything that must hold after any run."""
    check_blanked(bench)
    check_intents_first(bench)
    check_never_twice(bench)
    check_charged(bench)
    check_folded(bench)


def check_fault(bench: Bench, end_reason: FinishReason) -> None:
    """The run ended in FAULT, parked, the beam off by the instrument's own log."""
    assert end_reason is FinishReason.FAULT
    assert bench.state.finish_reason is FinishReason.FAULT
    assert bench.phases()[-3:] == ["fault", "parking", "safe"]
    assert bench.state.needs_acknowledge
    assert bench.of(e.Parked)[-1].verified_blanked
    assert bench.session.controller.alarm == ""
    check_blanked(bench)
    check_charged(bench)
    check_never_twice(bench)
    assert not bench.state.intents, "an intent was left open"


def outcome_places(bench: Bench, *outcomes: str) -> list[tuple[float, float]]:
    """Return where measurements that ended so were taken, in order."""
    kept = [v for v in bench.of(e.Executed) if v.outcome in outcomes]
    measured = [v for v in kept if bench.state.outcomes[v.id].purpose == "measure"]
    return [bench.state.outcomes[v.id].sub_scan.center_nm for v in measured]
