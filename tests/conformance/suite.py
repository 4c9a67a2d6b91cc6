"""What every instrument driver must do: inherit `InstrumentConformance` and say what to test.

A subclass overrides the fixture ``rig``. Tests run on the real clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from drivers.errors import DriverDisconnected, DriverRefused, DriverTimeout
from drivers.protocols import Detector, Emergency, Session
from drivers.vocabulary import FrameBlock, NmPair, Receipt, SubScan

DEADLINE_S = 10.0


@dataclass
class Rig:
    """One machine under test, and the ways to reach it.

    ``open`` returns a new session, not connected; ``kill`` makes the machine vanish, where that
    can be done. The ``fov_nm`` sub-scan at ``center_nm`` lies inside the field.
    """

    open: Callable[[], Session]
    emergency: Callable[[], Emergency]
    center_nm: NmPair = (0.0, 0.0)
    fov_nm: NmPair = (2.0, 3.0)
    kill: Callable[[], None] | None = None

    def sub_scan(self, identity: str = "s-1", seconds: float = 0.02) -> SubScan:
        """Return a sub-scan of 8 x 12 positions that takes about so long."""
        dwell_us = seconds / 96 * 1e6
        return SubScan(identity, self.center_nm, self.fov_nm, (8, 12), dwell_us)


@contextlib.asynccontextmanager
async def connected(rig: Rig, holder: str = "the suite") -> AsyncIterator[Session]:
    """Connect a session and close it after."""
    session = rig.open()
    await session.connect(holder, deadline_s=DEADLINE_S)
    try:
        yield session
    finally:
        await session.close()


async def collect(detector: Detector, deadline_s: float = DEADLINE_S) -> list[FrameBlock]:
    """Take all blocks of the armed sub-scan."""
    return [block async for block in detector.blocks(deadline_s=deadline_s)]


async def acquire(
    session: Session, sub_scan: SubScan, *, unblank: bool = True
) -> tuple[Receipt, dict[str, list[FrameBlock]]]:
    """Do one sub-scan with all detectors in the order a controller does."""
    assert session.scan is not None
    for detector in session.detectors.values():
        await detector.arm(sub_scan, deadline_s=DEADLINE_S)
    if session.beam is not None and unblank:
        await session.beam.unblank(deadline_s=DEADLINE_S)
    try:
        async with asyncio.TaskGroup() as group:
            taking = {n: group.create_task(collect(d)) for n, d in session.detectors.items()}
            receipt = await session.scan.scan(sub_scan, deadline_s=DEADLINE_S)
    finally:
        if session.beam is not None:
            await session.beam.blank(deadline_s=DEADLINE_S)
        for detector in session.detectors.values():
            await detector.disarm(deadline_s=DEADLINE_S)
    return receipt, {name: task.result() for name, task in taking.items()}


async def until_scanning(session: Session) -> None:
    """Return once the scan generator says it is scanning."""
    assert session.scan is not None
    async with asyncio.timeout(DEADLINE_S):
        while (await session.scan.read_back(deadline_s=DEADLINE_S)).probe != "scanning":  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def scanning(
    session: Session, sub_scan: SubScan
) -> AsyncIterator[tuple[asyncio.Task[Receipt], dict[str, asyncio.Task[list[FrameBlock]]]]]:
    """Run a scan in the background, begun when the body starts; the body ends it."""
    assert session.scan is not None
    assert session.beam is not None
    for detector in session.detectors.values():
        await detector.arm(sub_scan, deadline_s=DEADLINE_S)
    await session.beam.unblank(deadline_s=DEADLINE_S)
    taking = {n: asyncio.create_task(collect(d)) for n, d in session.detectors.items()}
    scan = asyncio.create_task(session.scan.scan(sub_scan, deadline_s=60))
    try:
        await until_scanning(session)
        yield scan, taking
    finally:
        for task in (scan, *taking.values()):
            task.cancel()
        await asyncio.gather(scan, *taking.values(), return_exceptions=True)


class InstrumentConformance:
    """The rules of `drivers.protocols`, as tests."""

    @pytest.fixture
    def rig(self) -> Rig:
        """Say what to test."""
        raise NotImplementedError

    async def test_starts_blanked_and_parked(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.beam is not None
            assert session.scan is not None
            assert await session.beam.is_blanked(deadline_s=DEADLINE_S)
            assert (await session.scan.read_back(deadline_s=DEADLINE_S)).probe == "parked"

    async def test_unblanks_and_blanks(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.beam is not None
            await session.beam.unblank(deadline_s=DEADLINE_S)
            assert not await session.beam.is_blanked(deadline_s=DEADLINE_S)
            await session.beam.blank(deadline_s=DEADLINE_S)
            await session.beam.blank(deadline_s=DEADLINE_S)
            assert await session.beam.is_blanked(deadline_s=DEADLINE_S)

    async def test_parking_and_cancelling_twice_is_fine(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            for _ in range(2):
                await session.scan.cancel(deadline_s=DEADLINE_S)
                await session.scan.park_probe(deadline_s=DEADLINE_S)
            assert (await session.scan.read_back(deadline_s=DEADLINE_S)).probe == "parked"

    async def test_closing_twice_is_fine_and_ends_the_session(self, rig: Rig) -> None:
        session = rig.open()
        await session.connect("the suite", deadline_s=DEADLINE_S)
        await session.close()
        await session.close()
        assert session.beam is not None
        with pytest.raises(DriverDisconnected):
            await session.beam.unblank(deadline_s=DEADLINE_S)

    async def test_a_closed_session_leaves_the_beam_blanked(self, rig: Rig) -> None:
        async with connected(rig) as first:
            assert first.beam is not None
            await first.beam.unblank(deadline_s=DEADLINE_S)
        async with connected(rig, "the next one") as second:
            assert second.beam is not None
            assert await second.beam.is_blanked(deadline_s=DEADLINE_S)

    async def test_current_has_a_source_and_an_age(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.beam is not None
            current = await session.beam.current(deadline_s=DEADLINE_S)
            assert current.value_pA > 0
            assert current.age_s >= 0
            assert current.source in {"measured", "configured"}

    async def test_column_reads_back(self, rig: Rig) -> None:
        async with connected(rig) as session:
            if session.column is None:
                pytest.skip("the machine serves no column")
            state = await session.column.read_back(deadline_s=DEADLINE_S)
            assert np.isfinite([state.defocus_nm, *state.stage_nm]).all()

    async def test_frames_are_what_the_detectors_say(self, rig: Rig) -> None:
        sub_scan = rig.sub_scan()
        async with connected(rig) as session:
            infos = {name: detector.info for name, detector in session.detectors.items()}
            _, blocks = await acquire(session, sub_scan)
        assert set(blocks) == set(infos)
        for name, info in infos.items():
            data = np.concatenate([block.data for block in blocks[name]])
            assert info.name == name
            assert data.shape == (info.expected_frames(sub_scan), *info.expected_shape(sub_scan))
            assert data.dtype == np.dtype(info.dtype)
            firsts = [block.first_index for block in blocks[name]]
            assert firsts == list(np.cumsum([0, *(len(b.data) for b in blocks[name])])[:-1])
            assert {b.expected_total for b in blocks[name]} == {info.expected_frames(sub_scan)}
            assert {b.sub_scan_id for b in blocks[name]} == {sub_scan.id}

    async def test_receipt_is_the_plan(self, rig: Rig) -> None:
        sub_scan = rig.sub_scan(seconds=0.2)
        async with connected(rig) as session:
            receipt, _ = await acquire(session, sub_scan)
        assert receipt.completed
        assert receipt.positions_executed == sub_scan.n_positions
        assert receipt.sub_scan.id == sub_scan.id
        assert receipt.sub_scan.center_nm == pytest.approx(sub_scan.center_nm, rel=0.01, abs=0.01)
        assert receipt.sub_scan.fov_nm == pytest.approx(sub_scan.fov_nm, rel=0.01)
        assert receipt.sub_scan.dwell_us == pytest.approx(sub_scan.dwell_us, rel=0.01)
        assert receipt.beam_on_s == pytest.approx(sub_scan.scan_time_s, rel=0.01)
        took_s = receipt.ended_at_s - receipt.started_at_s
        assert took_s == pytest.approx(sub_scan.scan_time_s, rel=0.01)

    async def test_scanning_while_blanked_delivers_no_dose(self, rig: Rig) -> None:
        async with connected(rig) as session:
            receipt, blocks = await acquire(session, rig.sub_scan(), unblank=False)
        assert receipt.completed
        assert receipt.beam_on_s == 0
        assert all(block.data.size for taken in blocks.values() for block in taken)

    async def test_scanning_with_nothing_armed_is_refused(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            with pytest.raises(DriverRefused, match="arm"):
                await session.scan.scan(rig.sub_scan(), deadline_s=DEADLINE_S)

    async def test_frames_of_a_detector_not_armed_are_refused(self, rig: Rig) -> None:
        async with connected(rig) as session:
            for detector in session.detectors.values():
                with pytest.raises(DriverRefused, match="armed"):
                    await collect(detector)

    async def test_disarming_twice_is_fine(self, rig: Rig) -> None:
        async with connected(rig) as session:
            for detector in session.detectors.values():
                await detector.arm(rig.sub_scan(), deadline_s=DEADLINE_S)
                await detector.disarm(deadline_s=DEADLINE_S)
                await detector.disarm(deadline_s=DEADLINE_S)

    async def test_out_of_field_is_refused_with_numbers(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            field_y, _ = session.scan.capabilities.field_nm
            outside = replace(rig.sub_scan(), center_nm=(field_y / 2, 0.0))
            detector = next(iter(session.detectors.values()))
            with pytest.raises(DriverRefused, match=f"{field_y / 2:.4g}"):
                await detector.arm(outside, deadline_s=DEADLINE_S)
            with pytest.raises(DriverRefused):
                await session.scan.scan(outside, deadline_s=DEADLINE_S)

    async def test_bad_dwell_is_refused_with_numbers(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            slow = replace(rig.sub_scan(), dwell_us=session.scan.capabilities.max_dwell_us * 2)
            detector = next(iter(session.detectors.values()))
            with pytest.raises(DriverRefused, match="dwell"):
                await detector.arm(slow, deadline_s=DEADLINE_S)

    async def test_too_many_positions_are_refused(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            side = int(session.scan.capabilities.max_positions**0.5) + 1
            many = replace(rig.sub_scan(), shape=(side, side))
            with pytest.raises(DriverRefused, match="positions"):
                await next(iter(session.detectors.values())).arm(many, deadline_s=DEADLINE_S)

    async def test_cancel_ends_the_scan_at_once_and_says_how_far_it_came(self, rig: Rig) -> None:
        sub_scan = rig.sub_scan(seconds=30)
        async with connected(rig) as session, scanning(session, sub_scan) as (scan, taking):
            assert session.scan is not None
            asked = time.monotonic()
            await session.scan.cancel(deadline_s=DEADLINE_S)
            receipt = await scan
            assert time.monotonic() - asked < 0.5
            for name, task in taking.items():
                blocks = await task
                info = session.detectors[name].info
                assert sum(len(b.data) for b in blocks) < info.expected_frames(sub_scan)
        assert not receipt.completed
        assert receipt.positions_executed < sub_scan.n_positions
        assert 0 < receipt.beam_on_s < sub_scan.scan_time_s

    async def test_a_scan_follows_a_cancelled_one(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            async with scanning(session, rig.sub_scan("s-1", seconds=30)) as (scan, _):
                await session.scan.cancel(deadline_s=DEADLINE_S)
                await scan
            receipt, blocks = await acquire(session, rig.sub_scan("s-2"))
            assert receipt.completed
            assert {b.sub_scan_id for taken in blocks.values() for b in taken} == {"s-2"}

    async def test_a_second_scan_meanwhile_is_refused(self, rig: Rig) -> None:
        first = rig.sub_scan("s-1", seconds=30)
        async with connected(rig) as session, scanning(session, first) as (scan, _):
            assert session.scan is not None
            with pytest.raises(DriverRefused, match="s-1"):
                await session.scan.scan(rig.sub_scan("s-2"), deadline_s=DEADLINE_S)
            await session.scan.cancel(deadline_s=DEADLINE_S)
            assert not (await scan).completed

    async def test_a_second_claim_is_refused_naming_the_holder(self, rig: Rig) -> None:
        async with connected(rig, "Ada's run"):
            second = rig.open()
            with pytest.raises(DriverRefused, match="Ada's run"):
                await second.connect("somebody else", deadline_s=DEADLINE_S)
            await second.close()

    async def test_a_stale_lease_unblanks_nothing(self, rig: Rig) -> None:
        emergency = rig.emergency()
        async with connected(rig, "the zombie") as zombie:
            await asyncio.to_thread(emergency.stop, DEADLINE_S)
            async with connected(rig, "the heir") as heir:
                assert zombie.beam is not None
                assert zombie.scan is not None
                with pytest.raises(DriverRefused):
                    await zombie.beam.unblank(deadline_s=DEADLINE_S)
                with pytest.raises(DriverRefused):
                    await zombie.scan.park_probe(deadline_s=DEADLINE_S)
                with pytest.raises(DriverRefused):
                    await zombie.scan.cancel(deadline_s=DEADLINE_S)
                with pytest.raises(DriverRefused):
                    await zombie.heartbeat()
                assert (await acquire(heir, rig.sub_scan()))[0].completed
        await asyncio.to_thread(emergency.close)

    async def test_emergency_works_during_a_scan_and_latches(self, rig: Rig) -> None:
        emergency = rig.emergency()
        async with (
            connected(rig) as session,
            scanning(session, rig.sub_scan(seconds=30)) as (scan, _),
        ):
            for step in (emergency.stop, emergency.blank, emergency.park_probe):
                await asyncio.to_thread(step, 2.0)
            assert await asyncio.to_thread(emergency.is_blanked, 2.0)
            assert not (await scan).completed
            assert session.beam is not None
            with pytest.raises(DriverRefused):
                await session.beam.unblank(deadline_s=DEADLINE_S)
            assert await session.beam.is_blanked(deadline_s=DEADLINE_S)
        await asyncio.to_thread(emergency.close)

    async def test_leaving_a_scan_cancels_it(self, rig: Rig) -> None:
        async with connected(rig) as session:
            async with scanning(session, rig.sub_scan("s-1", seconds=30)):
                pass  # leaving the block cancels the task that waits for the scan
            assert (await acquire(session, rig.sub_scan("s-2")))[0].completed

    async def test_a_deadline_names_what_was_waited_for(self, rig: Rig) -> None:
        async with connected(rig) as session:
            detector = next(iter(session.detectors.values()))
            await detector.arm(rig.sub_scan("s-9"), deadline_s=DEADLINE_S)
            with pytest.raises(DriverTimeout, match="s-9") as caught:
                await collect(detector, deadline_s=0.05)
            assert caught.value.waited_s == pytest.approx(0.05)

    async def test_a_scan_over_its_deadline_times_out(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            sub_scan = rig.sub_scan("s-9", seconds=30)
            for detector in session.detectors.values():
                await detector.arm(sub_scan, deadline_s=DEADLINE_S)
            with pytest.raises(DriverTimeout, match="s-9"):
                await session.scan.scan(sub_scan, deadline_s=0.1)
            assert (await acquire(session, rig.sub_scan("s-10")))[0].completed

    async def test_a_machine_that_vanishes_raises(self, rig: Rig) -> None:
        if rig.kill is None:
            pytest.skip("this machine lives in the test's own process")
        async with (
            connected(rig) as session,
            scanning(session, rig.sub_scan(seconds=30)) as ongoing,
        ):
            scan, taking = ongoing
            await asyncio.to_thread(rig.kill)
            async with asyncio.timeout(DEADLINE_S):
                results = await asyncio.gather(scan, *taking.values(), return_exceptions=True)
            assert all(isinstance(result, DriverDisconnected) for result in results), results
            assert session.beam is not None
            with pytest.raises(DriverDisconnected):
                await session.beam.is_blanked(deadline_s=DEADLINE_S)
