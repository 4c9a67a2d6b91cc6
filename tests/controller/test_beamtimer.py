"""The safety timer fires once when the beam stays on too long, and only then."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from controller.beamtimer import BeamTimer

WAIT_S = 10.0
SOON_S = 0.02
LATER_S = 600.0


class Fired:
    """Collects what the timer says."""

    def __init__(self) -> None:
        self.said: queue.Queue[float] = queue.Queue()

    def __call__(self, allowed_s: float) -> None:
        self.said.put(allowed_s)

    def once(self) -> float:
        return self.said.get(timeout=WAIT_S)


@pytest.fixture
def fired() -> Fired:
    return Fired()


@pytest.fixture
def timer(fired: Fired) -> Iterator[BeamTimer]:
    made = BeamTimer(fired)
    yield made
    made.close()


def test_it_fires_when_nobody_disarms_it(timer: BeamTimer, fired: Fired) -> None:
    timer.arm(SOON_S)
    assert fired.once() == SOON_S


def test_it_fires_once_for_each_time_it_is_armed(timer: BeamTimer, fired: Fired) -> None:
    for allowed_s in (SOON_S, SOON_S / 2, 0.0):
        timer.arm(allowed_s)
        assert fired.once() == allowed_s
    timer.close()
    assert fired.said.empty()


def test_it_does_not_fire_after_it_was_disarmed(timer: BeamTimer, fired: Fired) -> None:
    timer.arm(SOON_S)
    timer.disarm()
    timer.disarm()
    with pytest.raises(queue.Empty):
        fired.said.get(timeout=10 * SOON_S)
    timer.arm(SOON_S)
    assert fired.once() == SOON_S


def test_arming_again_starts_anew(timer: BeamTimer, fired: Fired) -> None:
    timer.arm(SOON_S * 5)
    timer.arm(LATER_S)
    timer.arm(SOON_S)
    assert fired.once() == SOON_S
    timer.close()
    assert fired.said.empty()


def test_a_timer_that_is_armed_for_long_can_be_closed_at_once(fired: Fired) -> None:
    timer = BeamTimer(fired)
    timer.arm(LATER_S)
    timer.close()
    timer.close()
    assert fired.said.empty()


def test_closing_waits_for_a_park_that_has_begun() -> None:
    entered, released, done = threading.Event(), threading.Event(), threading.Event()

    def park(_: float) -> None:
        entered.set()
        assert released.wait(WAIT_S)
        done.set()

    timer = BeamTimer(park)
    timer.arm(0.0)
    assert entered.wait(WAIT_S)
    closing = threading.Thread(target=timer.close)
    closing.start()
    assert not done.is_set()
    released.set()
    closing.join(WAIT_S)
    assert done.is_set()


def test_it_can_be_disarmed_and_armed_while_it_fires(fired: Fired) -> None:
    entered, released = threading.Event(), threading.Event()

    def park(allowed_s: float) -> None:
        entered.set()
        assert released.wait(WAIT_S)
        fired(allowed_s)

    timer = BeamTimer(park)
    timer.arm(0.0)
    assert entered.wait(WAIT_S)
    timer.disarm()
    timer.arm(SOON_S)
    released.set()
    assert [fired.once(), fired.once()] == [0.0, SOON_S]
    timer.close()


def test_without_someone_to_act_it_can_not_be_armed(fired: Fired) -> None:
    timer = BeamTimer()
    with pytest.raises(ValueError, match="nobody would act"):
        timer.arm(SOON_S)
    timer.on_expiry = fired
    timer.arm(SOON_S)
    assert fired.once() == SOON_S
    timer.close()


def test_a_closed_timer_guards_no_exposure(timer: BeamTimer) -> None:
    timer.close()
    with pytest.raises(RuntimeError, match="nothing may be exposed"):
        timer.arm(SOON_S)


def test_a_timer_whose_act_failed_guards_no_exposure(monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", told.put)

    def fail(_: float) -> None:
        raise OSError("no connection")

    timer = BeamTimer(fail)
    timer.arm(0.0)
    assert str(told.get(timeout=WAIT_S).exc_value) == "no connection"
    timer.close()
    with pytest.raises(RuntimeError, match="nothing may be exposed"):
        timer.arm(SOON_S)
