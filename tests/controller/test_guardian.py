"""The guardian parks when the controller dies or falls silent, and only then."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller import guardian as module
from controller.events import Parked
from controller.guardian import BEAT, GOODBYE, Guardian, GuardianFailed, guard, listen
from controller.lease import Latch
from drivers.errors import DriverDisconnected
from drivers.instrument import InstrumentConfig
from tests.conformance.scenes import instrument
from tests.conformance.serving import Served, serving

WAIT_S = 30.0


def scene(endpoint: str, **limits: float) -> InstrumentConfig:
    """Return the served scene as a guardian reaches it."""
    config = instrument()
    limits = {"park_step_s": 5.0, "guardian_s": 0.2, **limits}
    config = config.model_copy(update={"limits": config.limits.model_copy(update=limits)})
    return config.served_by_gateway(endpoint)


@pytest.fixture
def served() -> Iterator[Served]:
    """An instrument whose beam is on, with nobody else to blank it."""
    with serving() as made:
        token = made.room.claim("a controller")
        made.room.unblank(token)
        assert not made.room.is_blanked()
        yield made


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "guardian.json"


@pytest.fixture
def guarded(served: Served, report: Path) -> Iterator[Guardian]:
    made = Guardian(scene(served.endpoint), report, "run-7")
    made.start(WAIT_S)
    yield made
    made.dismiss()


def wait_for(true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < give_up_s, "did not come true"
        threading.Event().wait(0.01)


def assert_parked(served: Served, report: Path, why: str) -> None:
    assert served.room.is_blanked()
    card = Latch("scene").read()
    assert card is not None
    assert (card.by, card.why) == ("guardian", why)
    told = Parked.model_validate(json.loads(report.read_text()))
    assert told.verified_blanked
    assert (told.by, told.why) == ("guardian", why)


def test_a_controller_that_ends_without_goodbye_is_parked_for(
    served: Served, guarded: Guardian, report: Path
) -> None:
    assert not served.room.is_blanked()  # arming touches nothing
    guarded.abandon()
    assert_parked(served, report, "the controller died (run run-7)")


def test_silence_after_the_first_heartbeat_is_parked_for(
    served: Served, guarded: Guardian, report: Path
) -> None:
    guarded.beat()
    wait_for(report.exists)
    assert_parked(served, report, "the controller fell silent (run run-7)")


def test_a_goodbye_leaves_everything_as_it_is(
    served: Served, guarded: Guardian, report: Path
) -> None:
    guarded.beat()
    guarded.dismiss()
    guarded.dismiss()
    assert not served.room.is_blanked()
    assert Latch("scene").read() is None
    assert not report.exists()


def test_signals_meant_for_the_controller_do_not_end_it(
    served: Served, guarded: Guardian, report: Path
) -> None:
    assert guarded._process is not None
    pid = guarded._process.pid
    assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C in the controller's terminal is not for it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.killpg(os.getpgid(pid), number)
    guarded.abandon()
    assert_parked(served, report, "the controller died (run run-7)")


def test_a_guardian_that_is_gone_is_noticed_at_the_next_heartbeat(guarded: Guardian) -> None:
    assert guarded._process is not None
    guarded._process.kill()
    guarded._process.wait(WAIT_S)
    with pytest.raises(GuardianFailed, match="gone"):
        guarded.beat()
    guarded.dismiss()
    guarded.beat()


CONTROLLER = """
import os, signal, sys
from pathlib import Path
from controller.guardian import Guardian
from drivers.instrument import InstrumentConfig
config = InstrumentConfig.model_validate_json(Path(sys.argv[1]).read_text())
guardian = Guardian(config, Path(sys.argv[2]), "run-7")
guardian.start(30.0)
guardian.beat()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_controller_that_is_killed_is_parked_for(
    served: Served, report: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(scene(served.endpoint, guardian_s=60.0).model_dump_json())
    command = [sys.executable, "-c", CONTROLLER, str(config), str(report)]
    done = subprocess.run(command, timeout=WAIT_S, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_for(report.exists)
    assert_parked(served, report, "the controller died (run run-7)")


def test_an_instrument_that_can_not_be_reached_can_not_be_guarded(report: Path) -> None:
    nowhere = scene("tcp://127.0.0.1:1", park_step_s=0.2)
    made = Guardian(nowhere, report, "run-7")
    with pytest.raises(
        GuardianFailed, match=r"could not be armed: DriverDisconnected: .*127\.0\.0\.1"
    ):
        made.start(WAIT_S)
    made.dismiss()
    assert Latch("scene").read() is None


def test_an_unknown_driver_can_not_be_guarded(report: Path) -> None:
    made = Guardian(instrument(), report, "run-7")
    with pytest.raises(GuardianFailed, match=r"could not be armed: DriverUnavailable: .*scene"):
        made.start(WAIT_S)


def test_a_guardian_that_does_not_answer_in_time_is_not_waited_for(report: Path) -> None:
    made = Guardian(instrument(), report, "run-7")
    with pytest.raises(GuardianFailed, match="nothing in 0 s"):
        made.start(deadline_s=0.0)


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    """The two ends of a stream of heartbeats."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)
    try:
        os.close(write_end)
    except OSError:
        return  # closed by the test


@pytest.mark.parametrize(
    ("sent", "heard"),
    [(GOODBYE, "goodbye"), (BEAT * 9 + GOODBYE, "goodbye"), (BEAT, "died"), (b"", "died")],
)
def test_a_stream_that_ended_says_how(line: tuple[int, int], sent: bytes, heard: str) -> None:
    os.write(line[1], sent)
    os.close(line[1])
    assert listen(line[0], 60.0) == heard


def test_what_waits_to_be_read_is_no_silence(line: tuple[int, int]) -> None:
    os.write(line[1], BEAT)
    reads = 0

    def late(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            os.write(line[1], GOODBYE)  # came while the guardian itself was held up
        return select.select(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "select", type("Slow", (), {"select": staticmethod(late)}))
        assert listen(line[0], 0.0) == "goodbye"


def test_silence_counts_from_the_first_heartbeat_on(line: tuple[int, int]) -> None:
    patience: list[float | None] = []

    def note(read: list[int], write: list[int], other: list[int], timeout: float | None) -> Any:
        patience.append(timeout)
        if len(patience) == 1:
            os.write(line[1], BEAT)
        return select.select(read, write, other, 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "select", type("Noted", (), {"select": staticmethod(note)}))
        assert listen(line[0], 7.0) == "silent"
    assert patience == [None, 7.0]


def test_a_broken_stream_is_a_death(line: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, n: int) -> bytes:
        raise OSError("I/O error")

    os.write(line[1], BEAT)
    monkeypatch.setattr(os, "read", fail)
    assert listen(line[0], 60.0) == "died"


class Column:
    """A way to park that says what it is told to."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def stop(self, timeout_s: float) -> None:
        self.calls.append("stop")

    def blank(self, timeout_s: float) -> None:
        self.calls.append("blank")

    def park_probe(self, timeout_s: float) -> None:
        self.calls.append("park_probe")

    def is_blanked(self, timeout_s: float) -> bool:
        if not self.answers:
            raise DriverDisconnected("no answer")
        return "blank" in self.calls

    def close(self) -> None:
        pass


def test_guarding_latches_before_it_parks(report: Path) -> None:
    class Looking(Column):
        def stop(self, timeout_s: float) -> None:
            assert Latch("scene").read() is not None
            super().stop(timeout_s)

    column = Looking()
    assert guard(instrument(), column, report, "test") == 0
    assert column.calls == ["stop", "blank", "park_probe"]
    assert Parked.model_validate_json(report.read_text()).verified_blanked
    assert [path.name for path in report.parent.iterdir()] == [report.name]


def test_a_latch_that_can_not_be_set_does_not_keep_the_beam_on(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "no folder"
    full.write_text("")
    monkeypatch.setenv("PROBEWISE_STATE_DIR", str(full))
    column = Column()
    assert guard(instrument(), column, report, "test") == 0
    assert "blank" in column.calls
    assert "latch not set" in capfd.readouterr().err


def test_a_report_that_can_not_be_written_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    column = Column()
    assert guard(instrument(), column, tmp_path / "nowhere" / "g.json", "test") == 0
    assert "report not written" in capfd.readouterr().err


def test_a_park_that_could_not_be_verified_raises_the_alarm(
    report: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert guard(instrument(), Column(answers=False), report, "test") == 1
    assert "THE BEAM MAY BE ON" in capfd.readouterr().err
    assert not Parked.model_validate_json(report.read_text()).verified_blanked
