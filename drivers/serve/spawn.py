"""Starting a served instrument, or finding one that is alive."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from drivers.errors import DriverDisconnected, DriverError, DriverRefused, DriverTimeout
from drivers.gateway.emergency import GatewayEmergency
from drivers.instrument import InstrumentConfig

COMMAND = (sys.executable, "-P", "-m", "drivers.serve.instrument")
READY_S = 30.0
"""How long an instrument may take to be built."""
PROBE_S = 1.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class ServedInstrument:
    """A process that serves an instrument.

    Attributes
    ----------
    endpoint : str
        Where it takes commands.
    pid : int
        Its process id.
    exposure_log : Path
        Its own record of beam and scans.
    """

    endpoint: str
    pid: int
    exposure_log: Path

    def end(self, timeout_s: float = 5.0) -> None:
        """Ask it to blank and end, and wait until it has; harmless when it is gone.

        Raises
        ------
        DriverTimeout
            If it is still there after ``timeout_s``.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        give_up_s = time.monotonic() + timeout_s
        while is_alive(self.pid):
            if time.monotonic() > give_up_s:
                raise DriverTimeout(f"process {self.pid} to end", timeout_s)
            time.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one of our own that has ended is laid to rest."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return False
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def spawn(
    instrument: InstrumentConfig,
    state_dir: Path,
    exposure_log: Path,
    linger_s: float = 60.0,
    *,
    command: Sequence[str] = COMMAND,
    ready_s: float = READY_S,
) -> ServedInstrument:
    """Start a process that serves an instrument, and wait until it does.

    The process is detached: it outlives a controller that is killed. Its messages go to
    ``<name>.log`` in ``state_dir``.

    Raises
    ------
    DriverTimeout
        If it is not ready within ``ready_s``; it is killed then.
    DriverDisconnected
        If it ended; with its last words.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    name = instrument.instrument.name
    setup, endpoint_file = state_dir / f"{name}.instrument.json", state_dir / f"{name}.endpoint"
    setup.write_text(instrument.model_dump_json())
    endpoint_file.unlink(missing_ok=True)
    words = state_dir / f"{name}.log"
    arguments = [
        *command,
        *("--instrument-json", str(setup), "--exposure-log", str(exposure_log)),
        *("--endpoint-file", str(endpoint_file), "--linger-s", str(linger_s)),
    ]
    with words.open("ab") as log:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait_ready(process, name, endpoint_file, words, ready_s)
    process.returncode = 0  # detached on purpose; `ServedInstrument.end` waits for it by its pid
    return _read(endpoint_file)


def _wait_ready(
    process: subprocess.Popen[bytes], name: str, endpoint_file: Path, words: Path, ready_s: float
) -> None:
    give_up_s = time.monotonic() + ready_s
    while not endpoint_file.exists():
        if process.poll() is not None:
            last = words.read_text(errors="replace").strip().splitlines()[-3:]
            raise DriverDisconnected(f"the served instrument '{name}' ended: {' | '.join(last)}")
        if time.monotonic() > give_up_s:
            process.kill()
            process.wait()
            raise DriverTimeout(f"the served instrument '{name}' to be ready", ready_s)
        time.sleep(POLL_S)


def find(instrument: InstrumentConfig, state_dir: Path) -> ServedInstrument | None:
    """Return the live process that serves an instrument of this name, if there is one.

    Raises
    ------
    DriverError
        If there is one that does not answer: it is not to be forgotten, for its beam may be on.
    """
    endpoint_file = state_dir / f"{instrument.instrument.name}.endpoint"
    try:
        served = _read(endpoint_file)
    except FileNotFoundError:
        return None
    emergency = GatewayEmergency(served.endpoint)
    try:
        emergency.is_blanked(PROBE_S)
    except DriverDisconnected:
        return None
    except DriverTimeout as error:
        name = instrument.instrument.name
        raise DriverError(
            f"process {served.pid} serves '{name}' and does not answer: make sure that its beam "
            f"is off, then end it (kill -9 {served.pid})"
        ) from error
    except DriverRefused:
        return served  # it answers, if with an error
    finally:
        emergency.close()
    return served


def _read(endpoint_file: Path) -> ServedInstrument:
    try:
        ready = json.loads(endpoint_file.read_text())
        return ServedInstrument(ready["endpoint"], ready["pid"], Path(ready["exposure_log"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DriverError(f"{endpoint_file} is not an endpoint file: remove it") from error


def attach_or_spawn(
    instrument: InstrumentConfig,
    state_dir: Path,
    exposure_log: Path,
    linger_s: float = 60.0,
    *,
    command: Sequence[str] = COMMAND,
) -> ServedInstrument:
    """Return the live process that serves this instrument, or start one.

    One that serves an instrument of the same name set up differently is not reused: it is an
    error, for its beam may be on.

    Raises
    ------
    DriverError
        If it can't be started, or is set up differently.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    name = instrument.instrument.name
    with FileLock(state_dir / f"{name}.spawn-lock", timeout=READY_S):
        alive = find(instrument, state_dir)
        if alive is None:
            return spawn(instrument, state_dir, exposure_log, linger_s, command=command)
        serving = (state_dir / f"{name}.instrument.json").read_text()
        if InstrumentConfig.model_validate_json(serving) != instrument:
            raise DriverError(
                f"process {alive.pid} serves an instrument called '{name}' that is set up "
                f"differently: end it (kill {alive.pid}) or use another name"
            )
        return alive
