"""A process of its own that parks the instrument when the controller dies or falls silent.

The controller writes a byte to the guardian's standard input several times a second. Silence for
longer than ``guardian_s``, or the end of that stream without a goodbye, means: leave a latch,
park. The guardian has its own connection to the instrument, opened before the run starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from controller.lease import Latch
from controller.park import alarm, park
from drivers.errors import DriverError
from drivers.instrument import InstrumentConfig
from drivers.protocols import Emergency

BEAT, GOODBYE = b".", b"q"
ARMED = "armed"


class GuardianFailed(Exception):
    """The guardian could not be armed; the run must not start."""


class Guardian:
    """The controller's handle on its guardian."""

    def __init__(self, instrument: InstrumentConfig, report: Path, run: str) -> None:
        self._instrument = instrument
        self._report = report
        self._run = run
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, deadline_s: float = 20.0) -> None:
        """Start the guardian and wait until it is armed.

        Raises
        ------
        GuardianFailed
            If it does not say so in time.
        """
        config = self._report.with_name("guardian-instrument.json")
        config.write_text(self._instrument.model_dump_json())
        command = [sys.executable, "-P", "-m", "controller.guardian"]
        self._process = subprocess.Popen(
            [*command, str(config), str(self._report), self._run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        answer: list[bytes] = []
        stdout = self._process.stdout
        assert stdout is not None
        reader = threading.Thread(target=lambda: answer.append(stdout.readline()), daemon=True)
        reader.start()
        reader.join(deadline_s)
        if not answer or answer[0].decode().strip() != ARMED:
            self._process.kill()
            self._reap()
            said = answer[0].decode().strip() if answer else f"nothing in {deadline_s:g} s"
            raise GuardianFailed(f"the guardian could not be armed: {said}")

    def beat(self) -> None:
        """Tell the guardian that the controller is alive.

        Raises
        ------
        GuardianFailed
            If the guardian is gone: nobody would park in our stead.
        """
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(BEAT)
            self._process.stdin.flush()
        except OSError as error:
            raise GuardianFailed("the guardian process is gone") from error

    def dismiss(self) -> None:
        """Say goodbye: the controller has parked by itself. Harmless when never started."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):  # gone already, and the instrument is parked
            self._goodbye()
        self._reap()

    def abandon(self) -> None:
        """End the stream without a goodbye: the guardian parks as well, and leaves the latch."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._reap(patience_s=4 * self._instrument.limits.park_step_s + 5)

    def _goodbye(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(GOODBYE)
        self._process.stdin.flush()
        self._process.stdin.close()

    def _reap(self, patience_s: float = 5.0) -> None:
        assert self._process is not None
        try:
            self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):  # unsent beats to one that has gone
                    stream.close()
        self._process = None


class Watch:
    """Listens to the heartbeats on a file descriptor, in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last_s: float | None = None
        self._ended: str | None = None
        self._changed = threading.Event()
        threading.Thread(target=self._listen, name="heartbeats", daemon=True).start()

    def _listen(self) -> None:
        while self._ended is None:
            data = os.read(self._descriptor, 4096)
            self._last_s = time.monotonic()
            if not data:
                self._ended = "died"
            elif GOODBYE in data:
                self._ended = "goodbye"
        self._changed.set()

    def wait(self, silence_s: float) -> str:
        """Wait until the controller says goodbye, dies, or is silent; return which.

        Silence counts from the first heartbeat on: before it nothing has been exposed.
        """
        while True:
            last_s = self._last_s
            left = silence_s if last_s is None else last_s + silence_s - time.monotonic()
            if self._ended is not None:
                return self._ended
            if left <= 0:
                return "silent"
            self._changed.wait(left)


def main(arguments: list[str]) -> int:
    """Run as the guardian process; arguments: instrument JSON, report file, run name."""
    from controller.opening import emergency_for

    config_path, report_path, run = arguments
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    instrument = InstrumentConfig.model_validate_json(Path(config_path).read_text())
    emergency = emergency_for(instrument)
    try:
        try:
            emergency.is_blanked(instrument.limits.park_step_s)
        except DriverError as error:
            _say(f"{type(error).__name__}: {error}")
            return 1
        watch = Watch(sys.stdin.fileno())
        _say(ARMED)
        end = watch.wait(instrument.limits.guardian_s)
        if end != "goodbye":
            why = "the controller died" if end == "died" else "the controller fell silent"
            return guard(instrument, emergency, Path(report_path), f"{why} (run {run})")
        return 0
    finally:
        emergency.close()


def guard(instrument: InstrumentConfig, emergency: Emergency, report: Path, why: str) -> int:
    """Leave the latch, park, write down how it went; 0 when the beam is verifiably blanked."""
    Latch(instrument.instrument.name).set("guardian", why)
    parked = park(emergency, step_s=instrument.limits.park_step_s, by="guardian", why=why)
    if not parked.verified_blanked:
        _say(alarm(parked), sys.stderr.fileno())
    try:
        report.write_text(json.dumps(parked.model_dump(mode="json")))
    except OSError as error:
        _say(f"guardian report not written: {error}", sys.stderr.fileno())
    return 0 if parked.verified_blanked else 1


def _say(text: str, descriptor: int = 1) -> None:
    """Write a line where nobody may be listening any more."""
    with contextlib.suppress(OSError):  # parking matters more than telling
        os.write(descriptor, text.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
