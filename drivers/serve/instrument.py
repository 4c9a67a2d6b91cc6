"""`probewise serve instrument`: one emulated instrument, as a process of its own.

It outlives the controller, keeps its own exposure log, and blanks by itself when the holder of
its lease falls silent.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from drivers.clock import RealClock
from drivers.emulator.driver import EmulatedDriver
from drivers.emulator.room import Room
from drivers.errors import DriverRefused
from drivers.instrument import InstrumentConfig
from drivers.registry import load
from drivers.serve.server import InstrumentServer

HEARTBEAT_TIMEOUT_S = 2.0
LINGER_S = 60.0
SWITCH_INTERVAL_S = 5e-4
"""How soon the command loop gets the interpreter back from a rendering thread."""

Announce = Callable[[str], None]


def emulated_driver(instrument: InstrumentConfig) -> EmulatedDriver:
    """Return the one emulated driver that all parts of an instrument name.

    Raises
    ------
    DriverRefused
        If the parts name several drivers, or one with a real machine behind it.
    DriverUnavailable
        If the driver is not installed.
    """
    names = instrument.driver_names()
    name = instrument.instrument.name
    if len(names) != 1:
        raise DriverRefused(f"'{name}' can't be served: its parts name {', '.join(names)}")
    driver = load(names[0])
    if not isinstance(driver, EmulatedDriver):
        raise DriverRefused(f"'{name}' can't be served: driver '{names[0]}' is not emulated")
    return driver


def serve(
    instrument: InstrumentConfig,
    *,
    endpoint: str = "tcp://127.0.0.1:0",
    exposure_log: Path | None,
    linger_s: float = LINGER_S,
    announce: Announce | None = None,
    driver: EmulatedDriver | None = None,
    heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
) -> None:
    """Serve an instrument until SIGTERM, SIGINT, or ``linger_s`` without a client.

    Must be called from the main thread. Every way out cancels, blanks and parks.

    Parameters
    ----------
    announce : Callable or None
        Given one JSON line with name, endpoint and pid when commands are taken.
    driver : EmulatedDriver or None
        Builds the room; found by the name in the instrument file when None.

    Raises
    ------
    DriverError, ValueError
        If the instrument can't be built or the endpoint is not allowed.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    maker = driver or emulated_driver(instrument)
    room = maker.room(instrument, RealClock(), exposure_log)
    try:
        room.watch_holder(heartbeat_timeout_s)
        _serve_room(room, endpoint, linger_s, announce, exposure_log)
    finally:
        room.close()


def _serve_room(
    room: Room,
    endpoint: str,
    linger_s: float,
    announce: Announce | None,
    exposure_log: Path | None,
) -> None:
    server = InstrumentServer(room, endpoint, linger_s)

    def stop(signal_number: int, frame: FrameType | None) -> None:
        server.stop()

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    former_fd = signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)
    try:
        if announce is not None:
            ready = {"instrument": room.instrument.instrument.name, "endpoint": server.endpoint}
            ready |= {"exposure_log": str(exposure_log or "")}
            announce(json.dumps(ready | {"pid": os.getpid()}))
        server.run()
    finally:
        signal.set_wakeup_fd(former_fd)
        server.close()
        for number, handler in former.items():
            signal.signal(number, handler)


def announcer(endpoint_file: Path | None) -> Announce:
    """Return a function that prints the line, and writes it to the file in one go."""

    def announce(line: str) -> None:
        if endpoint_file is not None:
            part = endpoint_file.with_name(f"{endpoint_file.name}.{os.getpid()}")
            part.write_text(line + "\n")
            part.replace(endpoint_file)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    return announce


def forget(endpoint_file: Path | None) -> None:
    """Remove the endpoint file if it is still this process's."""
    if endpoint_file is None or not endpoint_file.exists():
        return
    if json.loads(endpoint_file.read_text()).get("pid") == os.getpid():
        endpoint_file.unlink()


def main(argv: list[str] | None = None, *, driver: EmulatedDriver | None = None) -> None:
    """Serve the instrument that a JSON file describes."""
    parser = argparse.ArgumentParser(prog="drivers.serve.instrument", description=main.__doc__)
    parser.add_argument("--instrument-json", type=Path, required=True)
    parser.add_argument("--exposure-log", type=Path)
    parser.add_argument("--endpoint-file", type=Path)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:0")
    parser.add_argument("--linger-s", type=float, default=LINGER_S)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    instrument = InstrumentConfig.model_validate_json(options.instrument_json.read_text())
    try:
        serve(
            instrument,
            endpoint=options.endpoint,
            exposure_log=options.exposure_log,
            linger_s=options.linger_s,
            announce=announcer(options.endpoint_file),
            driver=driver,
        )
    finally:
        forget(options.endpoint_file)


if __name__ == "__main__":
    main()
