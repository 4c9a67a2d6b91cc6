"""The room: beam, lease, latch, scans and the record it keeps of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.emulator import rooms
from drivers.emulator.exposure_log import (
    Exposure,
    beam_on_after,
    blanked_at_end,
    electrons_delivered,
    executed_ids,
    read_exposures,
)
from drivers.emulator.room import Room
from drivers.errors import BadRecording, DriverDisconnected, DriverRefused
from drivers.vocabulary import SubScan
from tests.conformance.scenes import MarkedScene, SceneDriver, instrument

ELECTRONS_PER_S_AT_20_PA = 20e-12 / 1.602176634e-19
SCAN = SubScan("s-1", (0, 0), (2, 3), (8, 12), 1000.0)
SCAN_S = 50e-6 + 96 * 1e-3 + 7 * 20e-6


class HandClock:
    """A virtual clock set by hand."""

    is_virtual = True

    def __init__(self) -> None:
        self.t = 100.0

    def now(self) -> float:
        return self.t

    async def sleep(self, seconds: float) -> None:
        self.t += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "exposures.jsonl"


def open_room(clock: HandClock, log: Path | None = None, **beam: Any) -> Room:
    return Room(instrument(**beam), MarkedScene(), clock, exposure_log=log)


def events(log: Path) -> list[str]:
    return [exposure.event for exposure in read_exposures(log)]


def test_beam_on_time_and_electrons_are_those_between_unblank_and_blank(
    clock: HandClock, log: Path
) -> None:
    room = open_room(clock, log, blank_latency_us=1000.0)
    token = room.claim("Ada")
    for on_s in (2.0, 3.0):
        room.unblank(token)
        clock.t += on_s
        room.blank()
        clock.t += 10.0
    room.close()
    spans = [e.beam_on_s for e in read_exposures(log) if e.event == "blank"]
    assert spans == pytest.approx([2.001, 3.001])
    electrons = electrons_delivered(read_exposures(log))
    assert electrons == pytest.approx(5.002 * ELECTRONS_PER_S_AT_20_PA)


def test_a_scan_is_logged_with_geometry_and_dose(clock: HandClock, log: Path) -> None:
    room = open_room(clock, log)
    token = room.claim("Ada")
    room.arm(token, "haadf", SCAN)
    room.unblank(token)
    run = room.begin_scan(token, SCAN)
    clock.t += 1.0
    room.finish(run)
    receipt = run.receipt()
    room.close()
    start, end = (e for e in read_exposures(log) if e.sub_scan_id == "s-1")
    assert (start.event, end.event) == ("scan_start", "scan_end")
    assert (end.center_nm, end.fov_nm, end.shape) == (SCAN.center_nm, SCAN.fov_nm, SCAN.shape)
    assert end.t_s - start.t_s == pytest.approx(SCAN_S)
    assert end.electrons == pytest.approx(SCAN_S * ELECTRONS_PER_S_AT_20_PA)
    assert (end.executed, receipt.positions_executed, receipt.completed) == (96, 96, True)
    assert executed_ids(read_exposures(log)) == ["s-1"]


def test_blanking_during_a_scan_stops_its_dose(clock: HandClock, log: Path) -> None:
    room = open_room(clock, log)
    token = room.claim("Ada")
    room.arm(token, "haadf", SCAN)
    room.unblank(token)
    run = room.begin_scan(token, SCAN)
    clock.t += SCAN_S / 4
    room.blank()
    clock.t += SCAN_S
    room.finish(run)
    assert run.receipt().beam_on_s == pytest.approx(SCAN_S / 4)
    assert run.receipt().completed
    room.close()


def test_a_scan_ends_on_time_though_nobody_asks(clock: HandClock) -> None:
    room = open_room(clock)
    token = room.claim("Ada")
    room.arm(token, "haadf", SCAN)
    run = room.begin_scan(token, SCAN)
    clock.t += 60.0
    assert room.scan_state().probe == "positioned"
    assert run.receipt().ended_at_s == pytest.approx(100.0 + SCAN_S)
    room.close()


def test_a_fence_cancels_blanks_parks_and_latches(clock: HandClock, log: Path) -> None:
    room = open_room(clock, log)
    token = room.claim("Ada")
    room.arm(token, "haadf", SCAN)
    room.unblank(token)
    run = room.begin_scan(token, SCAN)
    clock.t += SCAN_S / 2
    room.fence("the operator said so")
    assert run.cancelled
    assert 40 <= run.receipt().positions_executed <= 56
    assert room.is_blanked()
    assert room.scan_state().probe == "parked"
    with pytest.raises(DriverRefused, match="the operator said so"):
        room.unblank(token)
    heir = room.claim("Bea")
    with pytest.raises(DriverRefused, match="Bea holds it"):
        room.begin_scan(token, SCAN)
    room.unblank(heir)
    assert not room.is_blanked()
    room.close()
    assert blanked_at_end(read_exposures(log))
    assert events(log) == [
        "start", "claim", "unblank", "scan_start", "scan_end", "blank", "park", "fence", "refused",
        "claim", "refused", "unblank", "blank", "release",
    ]  # fmt: skip


def test_releasing_needs_the_token(clock: HandClock) -> None:
    room = open_room(clock)
    token = room.claim("Ada")
    room.unblank(token)
    room.release("somebody else's")
    assert not room.is_blanked()
    room.release(token)
    assert room.is_blanked()
    assert room.holder is None
    room.close()


def test_parking_during_a_scan_is_refused(clock: HandClock) -> None:
    room = open_room(clock)
    token = room.claim("Ada")
    room.arm(token, "haadf", SCAN)
    room.begin_scan(token, SCAN)
    with pytest.raises(DriverRefused, match="s-1 is running"):
        room.park_probe(token)
    room.close()


def test_arming_for_another_sub_scan_does_not_count(clock: HandClock) -> None:
    room = open_room(clock)
    token = room.claim("Ada")
    room.arm(token, "haadf", SubScan("other", (0, 0), (1, 1), (4, 4), 10.0))
    with pytest.raises(DriverRefused, match="haadf for other"):
        room.begin_scan(token, SCAN)
    with pytest.raises(DriverRefused, match="no detector 'eels'"):
        room.arm(token, "eels", SCAN)
    room.close()


def test_the_console_is_read_back_and_nothing_else_changes(clock: HandClock) -> None:
    room = open_room(clock)
    room.console(defocus_nm=12.0, field_nm=(5.0, 6.0))
    assert room.column_state().defocus_nm == 12.0
    assert room.scan_state().field_nm == (5.0, 6.0)
    assert room.scan_state().rotation_deg == 0.0
    room.close()


def test_a_measured_current_ages_and_an_unknown_one_is_refused(clock: HandClock) -> None:
    room = open_room(clock, current_source="measured")
    clock.t += 7.0
    assert room.beam_current().age_s == pytest.approx(7.0)
    room.close()
    room = open_room(clock, current_pA=None)
    with pytest.raises(DriverRefused, match="current_pA"):
        room.beam_current()
    room.close()


def test_without_a_blanker_the_beam_is_on_and_blanking_is_refused(clock: HandClock) -> None:
    beam: dict[str, Any] = {
        "blanker": "none",
        "accept_no_blanker": True,
        "between_sub_scans": "park_probe",
    }
    room = open_room(clock, **beam)
    assert not room.is_blanked()
    with pytest.raises(DriverRefused, match="no blanker"):
        room.blank()
    room.close()


def test_closing_blanks_and_twice_is_fine(clock: HandClock, log: Path) -> None:
    room = open_room(clock, log)
    room.unblank(room.claim("Ada"))
    assert not blanked_at_end(read_exposures(log))
    room.close()
    room.close()
    assert blanked_at_end(read_exposures(log))
    with pytest.raises(DriverRefused):
        room.unblank(None)


def test_many_threads_leave_a_consistent_record(clock: HandClock, log: Path) -> None:
    room = open_room(clock, log)
    token = room.claim("Ada")

    def switch() -> None:
        for _ in range(200):
            room.unblank(token)
            room.blank()

    threads = [threading.Thread(target=switch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    room.close()
    switches = [e.event for e in read_exposures(log) if e.event in {"blank", "unblank"}]
    assert switches[::2] == ["unblank"] * (len(switches) // 2)
    assert switches[1::2] == ["blank"] * (len(switches) // 2)


def test_the_log_survives_restarts_and_a_cut_last_line(clock: HandClock, log: Path) -> None:
    for _ in range(2):
        open_room(clock, log).close()
    with log.open("ab") as file:
        file.write(b'{"t_s": 3')
    assert events(log) == ["start", "release"] * 2
    text = log.read_text().splitlines()
    log.write_text("\n".join([text[0], "rubbish", *text[1:]]))
    with pytest.raises(BadRecording, match="line 2"):
        read_exposures(log)


def test_beam_on_after_counts_only_what_came_after() -> None:
    def at(t_s: float, *, blanked: bool) -> Exposure:
        event = "blank" if blanked else "unblank"
        return Exposure(t_s=t_s, utc="", event=event, blanked=blanked)

    on, off = at(10, blanked=False), at(15, blanked=True)
    assert beam_on_after([on, off], 0) == 5
    assert beam_on_after([on, off], 12) == 3
    assert beam_on_after([on, off], 20) == 0
    assert beam_on_after([on, off, at(30, blanked=False)], 0) == float("inf")
    assert blanked_at_end([])


def test_rooms_are_shared_by_name_until_the_last_user_leaves(clock: HandClock) -> None:
    config = instrument("shared")
    first = rooms.enter(config, lambda: SceneDriver().room(config, clock))
    assert rooms.enter(config, lambda: pytest.fail("built twice")) is first
    other = instrument("shared", current_pA=3.0)
    with pytest.raises(DriverRefused, match="set up differently"):
        rooms.enter(other, lambda: SceneDriver().room(other, clock))
    rooms.leave(first)
    assert rooms.find("shared") is first
    rooms.leave(first)
    with pytest.raises(DriverDisconnected, match="shared"):
        rooms.find("shared")
    assert first.closed


def test_dark_frames_while_blanked(clock: HandClock) -> None:
    room = open_room(clock)
    token = room.claim("Ada")
    for unblank, brightest in ((False, 0), (True, 96)):
        room.arm(token, "haadf", SCAN)
        if unblank:
            room.unblank(token)
        run = room.begin_scan(token, SCAN)
        assert np.max(run.rendering(room.renderer).result()) == brightest
        clock.t += 1.0
        room.finish(run)
    room.close()


def test_a_log_that_cannot_be_written_is_an_error(clock: HandClock, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        open_room(clock, tmp_path / "file" / "log.jsonl")
