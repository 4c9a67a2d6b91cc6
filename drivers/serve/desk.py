"""What each command of the gateway wire does to a room."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import zmq
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from drivers.emulator.drive import deliver_blocking, sit_out
from drivers.emulator.emergency import emergency_stop, suffer
from drivers.emulator.faults import Fault
from drivers.emulator.room import Room
from drivers.emulator.scan_run import ScanRun
from drivers.errors import BadFrame, DriverRefused
from drivers.gateway.wire import Command, Granted, Welcome, dump
from drivers.serve.data import DataLink
from drivers.vocabulary import SubScan


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Holder(_Args):
    holder: str = Field(min_length=1, max_length=200)


class _Scan(_Args):
    sub_scan: SubScan


class _Arm(_Args):
    detector: str
    sub_scan: SubScan


class _Detector(_Args):
    detector: str


logger = logging.getLogger(__name__)
A = TypeVar("A", bound=_Args)
Later = Callable[[], JsonValue]
"""The rest of a command that takes time, for a thread."""
_PLACES = {"claim": "connect"}
_WITHOUT_FAULTS = frozenset({"hello", "heartbeat", "release"})


class Desk:
    """Carries out commands; quick ones at once, the others by what they return to be called.

    Parameters
    ----------
    room : Room
        The instrument.
    context : zmq.Context
        For the holders' data links.
    """

    def __init__(self, room: Room, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._room = room
        self._context = context
        self._links: dict[str, DataLink] = {}
        self._closing = threading.Event()
        self._deliverers = ThreadPoolExecutor(4, thread_name_prefix="probewise-deliver")
        self._handlers: dict[str, Callable[[Command, Fault | None], JsonValue | Later]] = {
            "hello": self._hello,
            "claim": self._claim,
            "release": self._release,
            "heartbeat": self._heartbeat,
            "scan": self._scan,
            "cancel": self._cancel,
            "park_probe": self._park_probe,
            "read_back": lambda *_: dump(room.scan_state()),
            "arm": self._arm,
            "disarm": self._disarm,
            "blank": lambda *_: room.blank(),
            "unblank": lambda command, _: room.unblank(command.token),
            "is_blanked": self._is_blanked,
            "current": lambda *_: dump(room.beam_current()),
            "column": lambda *_: dump(room.column_state()),
            "emergency.stop": lambda _, fault: emergency_stop(room, fault),
            "emergency.blank": lambda *_: room.blank(),
            "emergency.park_probe": lambda *_: room.park_probe_now(),
            "emergency.is_blanked": self._is_blanked,
        }

    def handle(self, command: Command) -> JsonValue | Later:
        """Carry a command out.

        Raises
        ------
        DriverError
            As the room has it.
        DriverRefused
            If there is no such command.
        pydantic.ValidationError
            If its arguments are wrong.
        """
        handler = self._handlers.get(command.cmd)
        if handler is None:
            known = ", ".join(self._handlers)
            raise DriverRefused(f"there is no command '{command.cmd}' (there are: {known})")
        fault = None
        if command.cmd not in _WITHOUT_FAULTS:
            place = _PLACES.get(command.cmd, command.cmd)
            fault = self._room.fault(place)
            suffer(fault, place, command.deadline_s, self._closing)
        return handler(command, fault)

    def close(self) -> None:
        """End hangs and data links."""
        self._closing.set()
        self._deliverers.shutdown(wait=True, cancel_futures=True)
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _hello(self, command: Command, fault: Fault | None) -> JsonValue:
        room = self._room
        welcome = Welcome(
            instrument=room.instrument.instrument.name,
            capabilities=room.capabilities,
            detectors=room.scene.detectors,
            has_column=room.instrument.column is not None,
        )
        return dump(welcome)

    def _claim(self, command: Command, fault: Fault | None) -> JsonValue:
        holder = _args(_Holder, command).holder
        token = self._room.claim(holder)
        self._drop_links()
        link = self._links[token] = DataLink(self._context)
        return Granted(token=token, data=link.endpoint).model_dump(mode="json")

    def _release(self, command: Command, fault: Fault | None) -> None:
        self._room.release(command.token)
        link = self._links.pop(command.token or "", None)
        if link is not None:
            link.close()

    def _drop_links(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _heartbeat(self, command: Command, fault: Fault | None) -> None:
        self._room.heartbeat(command.token)

    def _arm(self, command: Command, fault: Fault | None) -> JsonValue | Later:
        args = _args(_Arm, command)

        def arm() -> JsonValue:
            self._room.arm(command.token, args.detector, args.sub_scan)
            return None

        return arm if self._room.prerender else arm()

    def _disarm(self, command: Command, fault: Fault | None) -> None:
        self._room.disarm(command.token, _args(_Detector, command).detector)

    def _cancel(self, command: Command, fault: Fault | None) -> None:
        if fault is None or fault.kind != "ignore_cancel":
            self._room.cancel(command.token)

    def _park_probe(self, command: Command, fault: Fault | None) -> None:
        self._room.park_probe(command.token)

    def _is_blanked(self, command: Command, fault: Fault | None) -> bool:
        lies = fault is not None and fault.kind == "blank_readback_lies"
        return lies or self._room.is_blanked()

    def _scan(self, command: Command, fault: Fault | None) -> Later:
        sub_scan = _args(_Scan, command).sub_scan
        run = self._room.begin_scan(command.token, sub_scan)
        link = self._links.get(command.token or "")
        if link is None:  # the lease ended this very moment
            self._room.finish(run)
            raise DriverRefused(f"scan {sub_scan.id}: the lease has ended")
        return lambda: self._drive(run, link)

    def _drive(self, run: ScanRun, link: DataLink) -> JsonValue:
        """Sit the scan out while its frames are delivered; they may come after its end."""
        self._deliverers.submit(self._deliver, run, link)
        try:
            receipt = sit_out(self._room, run)
        finally:
            self._room.finish(run)
        return dump(receipt)

    def _deliver(self, run: ScanRun, link: DataLink) -> None:
        completed = False
        try:
            completed = deliver_blocking(self._room, run, link.send_block)
        except Exception:
            # the client learns it from the end that comes too early
            logger.exception("frames of sub-scan %s are lost", run.sub_scan.id)
        finally:
            for detector in run.armed:
                with contextlib.suppress(BadFrame):  # it takes nothing any more
                    link.send_end(detector, run.sub_scan.id, completed=completed)


def _args(model: type[A], command: Command) -> A:
    return model.model_validate(command.args)
