"""A process of its own that parks the instrument when the controller dies or falls silent.

The controller writes a byte to the guardian's standard input several times a second. Silence for
longer than ``guardian_s``, or the end of that stream without a goodbye, means: leave a latch,
park. The guardian has its own connection to the instrument, opened before the run starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from controller.errors import describe
from controller.lease import Latch
from controller.park import alarm, longest_s, park_instrument
from drivers.errors import DriverError
from drivers.instrument import InstrumentConfig
from drivers.protocols import Emergency

BEAT, GOODBYE = b".", b"q"
ARMED = "armed"
ENDING_S = 5.0
"""Time to write the latch and the report and to end."""


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
            said = _said(answer, deadline_s)
            self._process.kill()
            self._reap()
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
            self._reap()

    def _goodbye(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(GOODBYE)
        self._process.stdin.flush()
        self._process.stdin.close()

    def _reap(self) -> None:
        """Wait for the process to end, long enough for a park, and kill it then."""
        assert self._process is not None
        patience_s = longest_s(self._instrument.limits.park_step_s) + ENDING_S
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


def _said(answer: list[bytes], deadline_s: float) -> str:
    """Return what a guardian said instead of being armed."""
    if not answer:
        return f"nothing in {deadline_s:g} s"
    return answer[0].decode().strip() or "it ended without a word"


def listen(descriptor: int, silence_s: float) -> str:
    """Listen to heartbeats until "goodbye", until the controller "died", or is "silent".

    Silence counts from the first heartbeat on: before it nothing has been exposed. What waits
    to be read counts as heard, so that a guardian that was held up itself does not park for it.
    """
    patience_s: float | None = None
    while select.select([descriptor], [], [], patience_s)[0]:
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            return "died"
        if not data:
            return "died"
        if GOODBYE in data:
            return "goodbye"
        patience_s = silence_s
    return "silent"


def main(arguments: list[str]) -> int:
    """Run as the guardian process; arguments: instrument JSON, report file, run name."""
    from controller.opening import emergency_for

    config_path, report_path, run = arguments
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    instrument = InstrumentConfig.model_validate_json(Path(config_path).read_text())
    try:
        emergency = emergency_for(instrument)
    except DriverError as error:
        _say(describe(error))
        return 1
    try:
        try:
            emergency.is_blanked(instrument.limits.park_step_s)
        except DriverError as error:
            _say(describe(error))
            return 1
        _say(ARMED)
        end = listen(sys.stdin.fileno(), instrument.limits.guardian_s)
        if end != "goodbye":
            why = "the controller died" if end == "died" else "the controller fell silent"
            return guard(instrument, emergency, Path(report_path), f"{why} (run {run})")
        return 0
    finally:
        emergency.close()


def guard(instrument: InstrumentConfig, emergency: Emergency, report: Path, why: str) -> int:
    """Leave the latch, park, write down how it went; 0 when the beam is verifiably blanked."""
    try:
        Latch(instrument.instrument.name).set("guardian", why)
    except OSError as error:  # parking matters more
        _say(f"latch not set: {error}", sys.stderr.fileno())
    parked = park_instrument(instrument, emergency, by="guardian", why=why)
    if not parked.at_rest:
        _say(alarm(parked), sys.stderr.fileno())
    try:
        part = report.with_suffix(".part")
        part.write_text(json.dumps(parked.model_dump(mode="json")))
        part.replace(report)
    except OSError as error:
        _say(f"guardian report not written: {error}", sys.stderr.fileno())
    return 0 if parked.at_rest else 1


def _say(text: str, descriptor: int = 1) -> None:
    """Write a line where nobody may be listening any more."""
    with contextlib.suppress(OSError):  # parking matters more than telling
        os.write(descriptor, text.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
