"""One exposure: the order of what is done, and the beam off on every way out."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller import assembler
from controller import events as e
from controller.channels import Bounded, ChannelFull
from controller.exposure import BlankerLied
from controller.lease import Latch, Latched
from controller.phases import FinishReason
from drivers.errors import DriverError
from sim.faults import Fault
from tests.controller.loop_bench import CAMERA_SHAPE, Bench, instrument, open_bench, play
from tests.controller.loop_checks import check_all
from tests.controller.test_governor import SCAN, governed

PLACES = ("arm", "unblank", "is_blanked", "scan", "blank", "park_probe", "disarm")
QUICK: dict[str, Any] = {"call_deadline_s": 0.2, "park_step_s": 0.2}


def _watch(bench: Bench) -> list[str]:
    """Return a list that fills with the calls to the instrument from now on."""
    order: list[str] = []
    for place in PLACES:
        for n in range(1, 5):
            nth = bench.script.calls(place) + n
            bench.script.at(place, nth, partial(order.append, place))
    return order


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("blank", ["arm", "unblank", "is_blanked", "scan", "blank", "is_blanked", "disarm"]),
        ("park_probe", ["arm", "unblank", "is_blanked", "scan", "park_probe", "disarm"]),
    ],
)
async def test_the_order_of_an_exposure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str, expected: list[str]
) -> None:
    config = instrument(beam={"between_sub_scans": between})
    async with governed(tmp_path, monkeypatch, config) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf",))
        order = _watch(bench)
        exposed = await governor.expose(intent)
        assert order == expected
        assert exposed.data is not None
        assert set(exposed.data.frames) == {"haadf"}


@pytest.mark.parametrize("where", ["arm", "unblank", "is_blanked", "scan", "blank"])
@pytest.mark.parametrize("kind", ["raise", "hang"])
async def test_every_way_out_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, kind: Any
) -> None:
    """A failed blanking is the one that parking must make good."""
    nth = {"arm": 1, "unblank": 1, "is_blanked": 2, "scan": 1, "blank": 2}[where]
    fault = Fault(kind, where, nth=nth, seconds=0.0)
    config = instrument(limits=QUICK)
    async with governed(tmp_path, monkeypatch, config, (fault,)) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf",))
        with pytest.raises(DriverError):
            await governor.expose(intent)
        if where != "blank":
            assert bench.room.is_blanked()
        elif kind == "raise":
            assert not bench.room.is_blanked(), "the fault did nothing"
        assert not bench.state.intents
        if where == "arm":
            assert bench.of(e.IntentWithdrawn)
            assert bench.state.ledger.electrons == 0
        else:
            assert bench.of(e.Executed)


@pytest.mark.parametrize("where", ["unblank", "scan", "blank", "disarm"])
async def test_cancelled_anywhere_the_beam_goes_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf",))
        exposing = asyncio.create_task(governor.expose(intent))
        await bench.called(where, 2 if where == "blank" else 1)
        exposing.cancel()
        await asyncio.wait({exposing})
        assert bench.room.is_blanked()
        assert not bench.state.intents
        assert bench.state.outcomes[SCAN.id].electrons > 0


async def test_a_latch_is_looked_for_before_each_unblank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf",))
        Latch("bench").set("somebody", "parked from outside")
        with pytest.raises(Latched):
            await governor.expose(intent)
        assert all(v.event != "unblank" for v in bench.exposures())
        assert bench.state.ledger.electrons == 0, "the beam was certainly never on"
        Latch("bench").clear()


async def test_a_blanker_that_does_not_open_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf",))
        bench.room.jam_blanker(0)
        with pytest.raises(BlankerLied, match="says the beam is blanked"):
            await governor.expose(intent)
        assert bench.state.blank_lied
        assert bench.scanned() == []


async def test_a_detector_that_is_faster_than_we_are_stops_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a silent drop: journalled, blanked, charged, and the run goes on."""
    full = iter([False, True])

    class Crowded(Bounded[Any]):
        async def put_now(self, item: Any) -> None:
            if next(full, False):
                raise ChannelFull(2, 1)
            await super().put_now(item)

    monkeypatch.setattr(assembler, "Bounded", Crowded)
    camera = {"name": "camera", "kind": "pixelated", "frame_shape": CAMERA_SHAPE, "dtype": "uint16"}
    slow = {"fov_nm": [1.0, 1.0], "shape": [8, 6], "dwell_us": 5000.0}
    tables: dict[str, Any] = {
        "survey": {"enabled": False},
        "sub_scan": slow,
        "budget": {"n_sub_scans": 2},
        "descriptor": {"kind": "null"},
        "objective": {"name": "component", "params": {"name": "constant"}},
    }
    with open_bench(
        tmp_path, monkeypatch, instrument_config=instrument(detector=[camera]), **tables
    ) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED, end.message
        overrun = bench.of(e.Overrun)[0]
        first = bench.of(e.Executed)[0]
        assert overrun.sub_scan_id == first.id
        assert first.outcome == "partial"
        assert bench.state.outcomes[first.id].rejected
        assert first.positions_executed < 48
        check_all(bench)


async def test_detectors_are_disarmed_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("raise", "scan", nth=1)
    async with governed(tmp_path, monkeypatch, faults=(fault,)) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf",))
        with pytest.raises(DriverError):
            await governor.expose(intent)
        assert bench.script.calls("disarm") == 1


async def test_a_detector_that_fails_to_arm_leaves_none_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = {"name": "camera", "kind": "pixelated", "frame_shape": CAMERA_SHAPE, "dtype": "uint16"}
    config = instrument(detector=[{"name": "haadf", "saturation": 1e4}, camera])
    fault = Fault("raise", "arm", nth=2)
    async with governed(tmp_path, monkeypatch, config, (fault,)) as (bench, governor):
        intent = await governor.prepare(SCAN, "measure", "planner", ("haadf", "camera"))
        with pytest.raises(DriverError):
            await governor.expose(intent)
        assert bench.script.calls("disarm") == 2
