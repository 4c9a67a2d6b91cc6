"""One exposure, in the order that nothing can change. The governor's hand; nobody else's.

1. arm the detectors;
2. check the latch, start the safety timer, unblank, read the blanker back;
3. scan;
4. blank (or park the probe), read the blanker back, stop the timer;
5. take the frames, or say why they can't be used;
6. disarm.

Every way out of 2 to 4 blanks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from controller.assembler import Stack, collect
from controller.beamtimer import BeamTimer
from controller.channels import ChannelFull
from controller.errors import innermost
from controller.lease import Latch
from controller.limits import beam_on_s
from controller.opening import OpenInstrument
from controller.readback import ReadBack
from drivers.errors import BadFrame, DriverError, DriverTimeout
from drivers.protocols import Detector
from drivers.vocabulary import AnyArray, Receipt, SubScan


class BlankerLied(DriverError):
    """The blanker's read-back is not what was commanded."""


@dataclass(slots=True)
class ExposureRecord:
    """What happened in one exposure."""

    scan_coords: SubScan
    detectors: tuple[str, ...]
    begun: bool = False
    """Whether the beam was commanded onto the specimen."""
    receipt: Receipt | None = None
    frames: dict[str, AnyArray] = field(default_factory=dict)
    rejected: BadFrame | None = None
    overrun: ChannelFull | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    scan_command_at_s: float = 0.0
    ended_at_s: float = 0.0
    """When the scan was over and the last frame in."""
    reading: asyncio.Task[str | None] | None = None
    """Reads back what was changed at the vendor's console."""
    unblanked_s: float = 0.0
    """How long the beam was on since it was last accounted for, on the controller's clock."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            took_ms = (time.perf_counter() - started) * 1e3
            self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + took_ms


class Exposer:
    """Executes exposures on an open instrument."""

    def __init__(
        self, instrument: OpenInstrument, latch: Latch, timer: BeamTimer, read_back: ReadBack
    ) -> None:
        self._instrument = instrument
        self._read_back = read_back
        self._latch = latch
        self._timer = timer
        self._limits = instrument.config.limits
        self._beam = instrument.config.beam
        self._on_since_s: float | None = None
        self._scanning = False
        self._stop_wanted = False
        self._on_scanning: Callable[[], None] | None = None

    async def cancel(self) -> None:
        """Stop the scan in progress, or the one about to begin, if any."""
        self._stop_wanted = True
        if self._scanning:
            await self._instrument.scan.cancel(deadline_s=self._limits.call_deadline_s)

    async def expose(
        self, record: ExposureRecord, on_scanning: Callable[[], None] | None = None
    ) -> None:
        """Execute one exposure; ``record`` tells what happened, also when this raises.

        ``on_scanning`` is called once the scan has been commanded. The detectors are disarmed
        when this raises; otherwise `close` is to be called next.
        """
        self._on_scanning, self._stop_wanted = on_scanning, False
        deadline_s = self._limits.call_deadline_s
        planned_s = beam_on_s(record.scan_coords, self._instrument.config.scan)
        detectors = {name: self._instrument.detectors[name] for name in record.detectors}
        try:
            with record.timed("arm"):
                await self._arm(record.scan_coords, detectors)
            receiving = asyncio.create_task(
                collect(detectors, record.scan_coords, deadline_s=planned_s + deadline_s),
                name=f"collect {record.scan_coords.id}",
            )
            try:
                await self._with_beam(record, receiving, planned_s)
                with record.timed("frames"):
                    await self._take_frames(record, receiving, planned_s)
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
        except BaseException:
            if record.reading is not None:
                record.reading.cancel()
                await asyncio.gather(record.reading, return_exceptions=True)
            await self._disarm(record)
            raise

    async def close(self, record: ExposureRecord) -> str | None:
        """Disarm after an exposure that went well; return what was changed at the console."""
        assert record.reading is not None
        changed, _ = await asyncio.gather(
            record.reading, self._disarm(record), return_exceptions=True
        )
        if isinstance(changed, BaseException):
            raise changed  # only now that the detectors are disarmed
        return changed

    async def _disarm(self, record: ExposureRecord) -> None:
        deadline_s = self._limits.call_deadline_s
        detectors = (self._instrument.detectors[name] for name in record.detectors)
        await asyncio.gather(
            *(detector.disarm(deadline_s=deadline_s) for detector in detectors),
            return_exceptions=True,
        )

    async def _arm(self, scan_coords: SubScan, detectors: Mapping[str, Detector]) -> None:
        """Arm all detectors; when one fails, the others have answered before it is told."""
        deadline_s = self._limits.call_deadline_s
        answers = await asyncio.gather(
            *(d.arm(scan_coords, deadline_s=deadline_s) for d in detectors.values()),
            return_exceptions=True,
        )
        for answer in answers:
            if answer is not None:
                raise answer

    async def _with_beam(
        self,
        record: ExposureRecord,
        receiving: asyncio.Task[dict[str, Stack]],
        planned_s: float,
    ) -> None:
        try:
            with record.timed("unblank"):
                await self._unblank(record, planned_s)
            record.scan_command_at_s = time.perf_counter()
            record.receipt = await self._scan(record, receiving, planned_s)
            record.ended_at_s = time.perf_counter()
            # begun once the command to blank has gone out, for nothing goes before that
            record.reading = asyncio.create_task(self._read_back.changed(), name="read back")
        finally:
            with record.timed("blank"):
                await self._end_beam(record)

    async def _unblank(self, record: ExposureRecord, planned_s: float) -> None:
        """Let the beam onto the specimen, unless the latch says no.

        Raises
        ------
        Latched
            If the instrument was parked from outside.
        BlankerLied
            If the read-back says that the beam is still off.
        """
        self._latch.check()
        record.begun = True
        self._timer.arm(planned_s * 1.5 + self._limits.call_deadline_s)
        if self._on_since_s is None:
            self._on_since_s = time.perf_counter()
        if self._beam.blanker == "none":
            return
        deadline_s = self._limits.call_deadline_s
        await self._instrument.beam.unblank(deadline_s=deadline_s)
        if await self._instrument.beam.is_blanked(deadline_s=deadline_s):
            raise BlankerLied("unblanked, but the instrument says the beam is blanked")

    async def _scan(
        self,
        record: ExposureRecord,
        receiving: asyncio.Task[dict[str, Stack]],
        planned_s: float,
    ) -> Receipt:
        """Scan; when receiving fails meanwhile, stop the scan at once."""
        deadline_s = planned_s * 1.5 + self._limits.call_deadline_s
        scanning = asyncio.create_task(
            self._instrument.scan.scan(record.scan_coords, deadline_s=deadline_s),
            name=f"scan {record.scan_coords.id}",
        )
        try:
            await asyncio.sleep(0)  # lets the command go out
            self._scanning = True
            if self._stop_wanted:
                await self.cancel()
            if self._on_scanning is not None:
                self._on_scanning()
            await asyncio.wait({scanning, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not scanning.done() and receiving.exception() is not None:
                await self.cancel()
            return await scanning
        finally:
            self._scanning = False
            if not scanning.done():
                scanning.cancel()
                await asyncio.gather(scanning, return_exceptions=True)

    async def _end_beam(self, record: ExposureRecord) -> None:
        """Blank or park the probe, verify, and say how long the beam was on."""
        if self._on_since_s is None:
            return
        try:
            if self._beam.between_sub_scans == "park_probe":
                deadline_s = self._limits.call_deadline_s
                await self._instrument.scan.park_probe(deadline_s=deadline_s)
            else:
                await self.blank()
        finally:
            now_s = time.perf_counter()
            record.unblanked_s = now_s - self._on_since_s
        stays_on = self._beam.between_sub_scans == "park_probe"
        self._on_since_s = now_s if stays_on else None
        self._timer.disarm()

    def beam_is_on(self) -> None:
        """Begin to count: without a blanker the beam is on from the start."""
        self._on_since_s = time.perf_counter()

    async def rest(self) -> float:
        """Blank a parked probe, where there is a blanker; return how long it was on, in s."""
        if self._on_since_s is None:
            return 0.0
        if self._beam.blanker != "none":
            await self.blank()
        now_s = time.perf_counter()
        parked_s = now_s - self._on_since_s
        self._on_since_s = None if self._beam.blanker != "none" else now_s
        return parked_s

    async def blank(self) -> None:
        """Blank and read back.

        Raises
        ------
        BlankerLied
            If the read-back says that the beam is on.
        """
        deadline_s = self._limits.call_deadline_s
        await self._instrument.beam.blank(deadline_s=deadline_s)
        if not await self._instrument.beam.is_blanked(deadline_s=deadline_s):
            raise BlankerLied("blanked, but the instrument says the beam is on")

    async def _take_frames(
        self,
        record: ExposureRecord,
        receiving: asyncio.Task[dict[str, Stack]],
        planned_s: float,
    ) -> None:
        """Take the frames, or note why they can't be used."""
        assert record.receipt is not None
        completed = record.receipt.completed
        try:
            # each detector bounds its own waiting; a cancelled scan may leave one without frames
            patience_s = planned_s + self._limits.call_deadline_s if completed else 0.5
            stacks = await asyncio.wait_for(receiving, patience_s)
            frames = {name: stack.finish(completed=completed) for name, stack in stacks.items()}
            record.frames = {name: data for name, data in frames.items() if data is not None}
        except (Exception, TimeoutError) as error:  # noqa: BLE001 - sorted below, never dropped
            self._reject(record, innermost(error), completed=completed)
        record.ended_at_s = max(record.ended_at_s, time.perf_counter())

    def _reject(self, record: ExposureRecord, error: BaseException, *, completed: bool) -> None:
        """Note what is wrong with the frames; raise what is not about frames."""
        if isinstance(error, BadFrame):
            record.rejected = error
        elif isinstance(error, ChannelFull):
            record.overrun = error
            record.rejected = BadFrame("a detector", record.scan_coords.id, f"overrun: {error}")
        elif isinstance(error, (DriverTimeout, TimeoutError)):
            if completed:
                why = f"frames are missing: {error or 'none in time'}"
                record.rejected = BadFrame("a detector", record.scan_coords.id, why)
        else:
            raise error
