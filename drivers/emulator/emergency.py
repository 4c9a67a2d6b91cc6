"""The way to a safe state for an emulated instrument in the same process."""

from __future__ import annotations

import threading

from drivers.emulator import rooms
from drivers.emulator.faults import Fault
from drivers.emulator.room import Room
from drivers.errors import DriverDisconnected, DriverRefused, DriverTimeout
from drivers.instrument import InstrumentConfig

FENCED = "an emergency stop took the lease; claim it again to go on"


def suffer(fault: Fault | None, where: str, timeout_s: float, wake: threading.Event) -> None:
    """Let a thread suffer the fault due at a command; ``wake`` ends a hang early.

    Raises
    ------
    DriverTimeout, DriverRefused, DriverDisconnected
        As the fault has it.
    """
    if fault is None:
        return
    if fault.kind == "hang":
        forever = fault.seconds <= 0 or fault.seconds >= timeout_s
        wake.wait(timeout_s if forever else fault.seconds)
        if forever:
            raise DriverTimeout(where, timeout_s)
    elif fault.kind == "raise":
        raise DriverRefused(f"{where}: the instrument reports an error (injected)")
    elif fault.kind == "disconnect":
        raise DriverDisconnected(f"{where}: the instrument closed the connection")


def emergency_stop(room: Room, fault: Fault | None) -> None:
    """Stop any scan and fence."""
    if fault is None or fault.kind != "ignore_cancel":
        room.fence(FENCED)


class EmulatedEmergency:
    """Implements `drivers.protocols.Emergency` over the room alive in this process.

    Works from any thread, whatever the event loop is doing.
    """

    def __init__(self, instrument: InstrumentConfig) -> None:
        self._name = instrument.instrument.name

    def _enter(self, where: str, timeout_s: float) -> tuple[Room, Fault | None]:
        room = rooms.find(self._name)
        fault = room.fault(where)
        suffer(fault, where, timeout_s, threading.Event())
        return room, fault

    def stop(self, timeout_s: float) -> None:
        """Stop any scan, and take the lease from whoever holds it."""
        emergency_stop(*self._enter("emergency.stop", timeout_s))

    def blank(self, timeout_s: float) -> None:
        """Blank the beam."""
        self._enter("emergency.blank", timeout_s)[0].blank()

    def park_probe(self, timeout_s: float) -> None:
        """Move the probe to its park position."""
        self._enter("emergency.park_probe", timeout_s)[0].park_probe_now()

    def is_blanked(self, timeout_s: float) -> bool:
        """Read the blanker's state back."""
        room, fault = self._enter("emergency.is_blanked", timeout_s)
        if fault is not None and fault.kind == "blank_readback_lies":
            return True
        return room.is_blanked()

    def close(self) -> None:
        """Nothing to close."""
