"""Parking that works when everything else hangs: stop, blank, park the probe, verify.

A plain function on a connection of its own; each step has its own thread and its own time.
It goes on after a failed step, and says what it could not do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from controller.events import Parked, ParkStep
from drivers.instrument import InstrumentConfig
from drivers.protocols import Emergency

_MOST_STEPS = 6
_GRACE_S = 0.1
"""Given to each step beyond its own time, to say for itself that it was too slow."""


def park_instrument(
    instrument: InstrumentConfig, emergency: Emergency, *, by: str, why: str
) -> Parked:
    """Park an instrument as its file says: its time for each step, its blanker."""
    step_s, blanker = instrument.limits.park_step_s, instrument.beam.blanker != "none"
    return park(emergency, step_s=step_s, by=by, why=why, blanker=blanker)


def park(emergency: Emergency, *, step_s: float, by: str, why: str, blanker: bool = True) -> Parked:
    """Bring the instrument to a safe state and say how that went.

    Parameters
    ----------
    emergency : Emergency
        The driver's way to park, on its own connection.
    step_s : float
        Time allowed for each step, in s.
    by, why : str
        For the journal.
    blanker : bool
        Whether there is one; without, the probe is parked and the beam stays on.

    Returns
    -------
    Parked
        ``verified_blanked`` is True only when the instrument's own read-back said so.
    """
    if not blanker:
        return _park_probe_only(emergency, step_s, by, why)

    def verify() -> None:
        if not emergency.is_blanked(step_s):
            raise RuntimeError("the instrument says the beam is on")

    steps = [
        _timed("stop", lambda: emergency.stop(step_s), step_s),
        _timed("blank", lambda: emergency.blank(step_s), step_s),
        _timed("park probe", lambda: emergency.park_probe(step_s), step_s),
        _timed("verify", verify, step_s),
    ]
    if not steps[-1].ok:
        steps += [
            _timed("blank again", lambda: emergency.blank(step_s), step_s),
            _timed("verify again", verify, step_s),
        ]
    return Parked(by=by, why=why, verified_blanked=steps[-1].ok, steps=tuple(steps))


def _park_probe_only(emergency: Emergency, step_s: float, by: str, why: str) -> Parked:
    steps = (
        _timed("stop", lambda: emergency.stop(step_s), step_s),
        _timed("park probe", lambda: emergency.park_probe(step_s), step_s),
    )
    parked = all(step.ok for step in steps)
    return Parked(by=by, why=why, verified_blanked=False, beam_stays_on=parked, steps=steps)


def longest_s(step_s: float) -> float:
    """Return the longest time in s that `park` may take."""
    return _MOST_STEPS * (step_s + _GRACE_S)


def alarm(report: Parked) -> str:
    """Return the text a person must not miss when a park could not be verified."""
    failed = "; ".join(f"{s.name}: {s.error}" for s in report.steps if not s.ok)
    return (
        "THE BEAM MAY BE ON. Parking could not be verified "
        f"({failed}). Close the column valve or blank the beam at the console NOW."
    )


def _timed(name: str, action: Callable[[], None], step_s: float) -> ParkStep:
    """Run one step in a thread and wait no longer than it is allowed."""
    errors: list[str] = []
    done = threading.Event()

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the next step must run
            errors.append(str(error) or type(error).__name__)
        done.set()

    started = time.monotonic()
    thread = threading.Thread(target=run, name=f"park {name}", daemon=True)
    thread.start()
    in_time = done.wait(step_s + _GRACE_S)
    took_s = round(time.monotonic() - started, 4)
    if not in_time:
        return ParkStep(name=name, ok=False, took_s=took_s, error=f"no answer in {step_s:g} s")
    return ParkStep(name=name, ok=not errors, took_s=took_s, error="".join(errors))
