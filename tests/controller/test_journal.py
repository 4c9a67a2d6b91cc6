"""The journal: what was appended is read back, torn ends are cut, and a failing disk is told."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import commands as c
from controller import events as e
from controller.journal import Journal, JournalError, read
from controller.phases import Autonomy, Phase
from controller.state import RunState, fold
from tests.controller.core_helpers import sub_scan
from tests.controller.fake_run import StepClock

WAIT_S = 10.0
OPENED = e.RunOpened(run_id="r", manifest_sha256="0", field_nm=(20.0, 20.0), dose_cell_nm=0.5)


def intent(name: str) -> e.Intent:
    return e.Intent(
        id=name,
        purpose="measure",
        author="planner",
        sub_scan=sub_scan(name),
        offset_nm=(0.0, 0.0),
        planned_electrons=1e4,
        planned_dose_e_per_A2=25.0,
        detectors=("haadf",),
    )


def executed(name: str, positions: int = 64) -> e.Executed:
    return e.Executed(
        id=name,
        outcome="complete" if positions == 64 else "partial",
        sub_scan=sub_scan(name),
        positions_executed=positions,
        electrons=150.0 * positions,
        beam_on_s=0.01,
    )


def described(name: str, value: float) -> e.Described:
    return e.Described(
        id=name,
        encoder_version=1,
        names=("a",),
        summary=(value,),
        objective=value,
        health_ok=True,
        health_score=0.5,
    )


STORY: list[e.AnyEvent] = [
    OPENED,
    e.PhaseChanged(old=Phase.IDLE, new=Phase.CONNECTING),
    e.CommandAccepted(command=c.SetAutonomy(id="c1", mode=Autonomy.ADVISE)),
    intent("s000001"),
    executed("s000001"),
    described("s000001", math.nan),
    intent("s000002"),
    executed("s000002", 13),
    e.DoseCharged(electrons=77.0, at_nm=(-10.0, -10.0), why="parked"),
    e.Warned(what="Å µ and a line\nbreak"),
    intent("s000003"),
]


def snapshot(state: RunState) -> dict[str, Any]:
    """Return everything a state holds, in values that can be compared (NaN equal to NaN)."""
    values = {f.name: repr(getattr(state, f.name)) for f in dataclasses.fields(state)}
    ledger = state.ledger
    values["ledger"] = repr(
        (ledger.electrons, ledger.extent_nm, ledger.map_e_per_A2.tolist(), ledger.spots_e_per_A2)
    )
    return values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Journal]]:
    """Return a function that opens journals, which are closed at the end."""
    journals: list[Journal] = []

    def make(path: Path) -> Journal:
        journals.append(Journal(path, StepClock()))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()


def write(path: Path, events: list[e.AnyEvent]) -> RunState:
    """Write a journal and return the state its writer held."""
    journal = Journal(path, StepClock())
    for event in events:
        journal.append(event)
    journal.close()
    return journal.state


def test_the_state_is_the_fold_of_the_file(path: Path) -> None:
    live = write(path, STORY)
    entries, intact = read(path)
    assert snapshot(fold(entries)) == snapshot(live)
    assert [repr(entry.event) for entry in entries] == [repr(event) for event in STORY]
    assert [entry.seq for entry in entries] == list(range(1, len(STORY) + 1))
    assert intact == path.stat().st_size
    assert live.revision == len(STORY)


def test_a_journal_opened_again_goes_on_where_it_was(
    path: Path, opened: Callable[[Path], Journal]
) -> None:
    before = snapshot(write(path, STORY))
    journal = opened(path)
    assert snapshot(journal.state) == before
    entry = journal.append(executed("s000003"))
    assert entry.seq == len(STORY) + 1
    assert entry.t_s >= read(path)[0][len(STORY) - 1].t_s
    journal.close()
    assert snapshot(fold(read(path)[0])) == snapshot(journal.state)


def test_a_last_line_torn_at_any_byte_is_cut_off_and_written_anew(path: Path) -> None:
    write(path, [*STORY, e.Warned(what="torn")])
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    expected = snapshot(fold(read(path)[0][:-1]))
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read(path)[1] == start
        journal = Journal(path, StepClock())
        assert snapshot(journal.state) == expected
        journal.append(e.Warned(what="after the crash"))
        journal.close()
        entries, intact = read(path)
        assert intact == path.stat().st_size
        assert entries[-1].seq == len(STORY) + 1
        assert entries[-1].event == e.Warned(what="after the crash")


def test_a_torn_last_line_whose_newline_is_there_is_cut_off(path: Path) -> None:
    write(path, STORY)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"\n")
    assert len(read(path)[0]) == len(STORY) - 1


@pytest.mark.parametrize("damage", [b"\x00", b"\xff", b"}"])
def test_a_damaged_line_in_the_middle_is_refused_with_its_place(path: Path, damage: bytes) -> None:
    write(path, STORY)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:10] + damage + lines[3][11:]
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"events\.jsonl:4: damaged entry .*restore the file"):
        Journal(path, StepClock())
    assert path.read_bytes() == before


@pytest.mark.parametrize("lost", [0, 5])
def test_a_missing_line_is_refused_with_its_place(path: Path, lost: int) -> None:
    write(path, STORY)
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[lost]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=rf"events\.jsonl:{lost + 1}: entry {lost + 2} where"):
        read(path)


def test_a_folder_that_is_no_run_is_said_so(tmp_path: Path) -> None:
    for attempt in (read, lambda path: Journal(path, StepClock())):
        with pytest.raises(JournalError, match="is this a run folder"):
            attempt(tmp_path / "nowhere" / "events.jsonl")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=4))
def test_values_that_are_not_finite_come_back(tmp_path: Path, values: list[float]) -> None:
    path = tmp_path / "values.jsonl"
    path.unlink(missing_ok=True)
    live = write(
        path, [OPENED, intent("s1"), executed("s1"), *(described("s1", v) for v in values)]
    )
    assert snapshot(fold(read(path)[0])) == snapshot(live)
    assert repr(live.outcomes["s1"].objective) == repr(values[-1])


class Disk:
    """Stands between the journal and the disk: notes each fsync, and can hold or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.synced: list[bytes] = []
        self.opened = threading.Event()
        self.opened.set()
        self.error: OSError | None = None
        self._fsync, self._write, self._path = os.fsync, os.write, path
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "write", self.write)

    def fsync(self, descriptor: int) -> None:
        assert self.opened.wait(WAIT_S)
        self.synced.append(self._path.read_bytes())
        self._fsync(descriptor)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.error is not None and threading.current_thread().name == "journal":
            self._write(descriptor, data[:7])  # a full disk takes a part
            raise self.error
        return self._write(descriptor, data[:50])  # and a healthy one may take less than all


def test_durable_is_done_only_after_the_disk_has_it(
    path: Path, opened: Callable[[Path], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    journal = opened(path)
    disk.opened.clear()
    future = journal.durable(intent("s000001"))
    assert not future.done()
    assert journal.state.intents
    disk.opened.set()
    future.result(WAIT_S)
    assert b'"intent"' in disk.synced[-1]
    assert disk.synced[-1].endswith(b"\n")


def test_what_durable_promises_covers_everything_before_it(
    path: Path, opened: Callable[[Path], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    journal = opened(path)
    for _ in range(20):
        journal.append(e.Warned(what="not durable by itself"))
    journal.durable(e.Warned(what="last")).result(WAIT_S)
    assert disk.synced[-1].count(b"\n") == 21


def test_dose_and_phases_are_synced_without_being_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    write(path, [e.Warned(what="x")])
    assert disk.synced == []
    path.unlink()
    write(path, [executed("s1")])
    assert len(disk.synced) == 1


def test_a_full_disk_is_told_once_and_to_everyone_who_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    journal = Journal(path, StepClock())
    told: list[OSError] = []
    journal.when_failing(told.append)
    journal.durable(OPENED).result(WAIT_S)
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    waiting: list[Future[None]] = [journal.durable(intent(f"s{i:06d}")) for i in range(5)]
    for future in waiting:
        assert isinstance(future.exception(WAIT_S), OSError)
    disk.error = None  # there is room again, but the file has a gap: nothing may follow
    assert isinstance(journal.durable(e.Warned(what="x")).exception(WAIT_S), OSError)
    journal.close()
    assert [error.errno for error in told] == [errno.ENOSPC]
    assert journal.failure is told[0]
    assert [entry.event for entry in read(path)[0]] == [OPENED]


def test_a_failure_before_anyone_listens_is_told_at_once(
    path: Path, opened: Callable[[Path], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, path)
    disk.error = OSError(errno.EIO, "I/O error")
    journal = opened(path)
    assert journal.durable(OPENED).exception(WAIT_S) is disk.error
    told: list[OSError] = []
    journal.when_failing(told.append)
    assert told == [disk.error]
    assert isinstance(journal.durable(OPENED).exception(WAIT_S), OSError)
    assert told == [disk.error]


def test_threads_that_append_together_leave_no_gap(path: Path) -> None:
    journal = Journal(path, StepClock())
    seen: list[int] = []
    journal.listen(lambda entry: seen.append(entry.seq))
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for i in range(50):
            journal.append(e.Warned(what=f"{number}:{i}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    entries, _ = read(path)
    assert [entry.seq for entry in entries] == list(range(1, 201))
    assert sorted(seen) == list(range(1, 201))
    for number in range(4):
        mine = [x.event.what for x in entries if x.event.what.startswith(f"{number}:")]  # type: ignore[union-attr]
        assert mine == [f"{number}:{i}" for i in range(50)]


def test_a_listener_hears_of_an_entry_when_the_state_has_it(
    path: Path, opened: Callable[[Path], Journal]
) -> None:
    journal = opened(path)
    heard: list[tuple[str, bool]] = []
    journal.listen(lambda entry: heard.append((entry.event.kind, bool(journal.state.intents))))
    journal.append(intent("s000001"))
    assert heard == [("intent", True)]


def test_what_can_not_be_written_leaves_no_gap(
    path: Path, opened: Callable[[Path], Journal]
) -> None:
    journal = opened(path)
    journal.append(OPENED)
    with pytest.raises(ValueError, match="surrogates"):
        journal.append(e.Warned(what="a path that is no text: \udcff"))
    assert journal.state.revision == 1
    journal.append(e.Warned(what="fine"))
    journal.close()
    assert len(read(path)[0]) == 2


def test_a_closed_journal_says_so_instead_of_forgetting(path: Path) -> None:
    journal = Journal(path, StepClock())
    journal.append(OPENED)
    journal.close()
    journal.close()
    for attempt in (journal.append, journal.durable):
        with pytest.raises(JournalError, match="is closed"):
            attempt(e.Warned(what="too late"))
    assert journal.state.revision == len(read(path)[0]) == 1


def test_only_one_controller_writes_a_journal(
    path: Path, opened: Callable[[Path], Journal]
) -> None:
    journal = opened(path)
    journal.durable(OPENED).result(WAIT_S)
    with pytest.raises(JournalError, match="a controller is writing it"):
        opened(path)
    assert len(read(path)[0]) == 1  # reading is always possible
    journal.close()
    assert opened(path).state.revision == 1


WRITER = """
import os, sys, signal
from pathlib import Path
from controller import events as e
from controller.journal import Journal
from drivers.clock import RealClock
journal = Journal(Path(sys.argv[1]), RealClock())
for i in range(1000):
    journal.append(e.Warned(what=str(i)))
journal.durable(e.Warned(what="last")).result()
print("durable", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_durable_survives_a_kill_and_the_lock_does_not(
    path: Path, opened: Callable[[Path], Journal]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)], capture_output=True, timeout=60, check=False
    )
    assert done.stdout == b"durable\n", done.stderr.decode()
    entries, _ = read(path)
    assert len(entries) == 1001
    assert entries[-1].event == e.Warned(what="last")
    assert opened(path).append(e.Warned(what="next")).seq == 1002


def test_lines_are_json_objects_one_per_entry(path: Path) -> None:
    write(path, STORY)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(STORY)
    assert [json.loads(line)["event"]["kind"] for line in lines] == [ev.kind for ev in STORY]
