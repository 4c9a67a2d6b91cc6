"""One controller per instrument, and a latch that outlives whoever set it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.lease import Latch, LatchCard, Latched, Lease, LeaseTaken, state_folder

HOLD = """
import sys
from controller.lease import Lease
lease = Lease("bench", "the other run")
lease.take()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    """Let another process hold the lease."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_controller_is_refused_by_name_until_the_first_is_killed() -> None:
    mine = Lease("bench", "mine")
    with other_process() as process:
        with pytest.raises(LeaseTaken) as taken:
            mine.take()
        assert "'the other run'" in str(taken.value)
        assert str(process.pid) in str(taken.value)
        assert "abort it" in str(taken.value)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        mine.take()
    with pytest.raises(LeaseTaken, match=rf"'mine' \(process {os.getpid()}"):
        Lease("bench", "third").take()
    mine.release()


def test_a_lease_given_back_can_be_taken_again() -> None:
    first, second = Lease("bench", "first"), Lease("bench", "second")
    for _ in range(2):
        first.take()
        with pytest.raises(LeaseTaken):
            second.take()
        first.release()
        second.take()
        second.release()
    first.release()


def test_each_instrument_has_a_lease_of_its_own() -> None:
    first, second = Lease("bench", "a"), Lease("titan", "b")
    first.take()
    second.take()
    first.release()
    second.release()


def test_a_lease_may_be_given_back_from_another_thread() -> None:
    lease = Lease("bench", "a")
    lease.take()
    thread = threading.Thread(target=lease.release)
    thread.start()
    thread.join()
    again = Lease("bench", "b")
    again.take()
    again.release()


def test_a_holder_without_a_name_still_holds(state_dir: Path) -> None:
    lease = Lease("bench", "a")
    lease.take()
    for card in (b"", b"[]", b"{}", b"7", b"null", b"\x00", b"\xff"):
        (state_dir / "bench" / "lease.json").write_bytes(card)
        with pytest.raises(LeaseTaken, match="it left no name"):
            Lease("bench", "b").take()
    lease.release()


def test_a_lease_that_could_not_be_signed_is_not_held(state_dir: Path) -> None:
    card = state_folder("bench") / "lease.json"
    card.mkdir()
    with pytest.raises(OSError, match="directory"):
        Lease("bench", "a").take()
    card.rmdir()
    lease = Lease("bench", "b")
    lease.take()
    lease.release()


def test_the_state_folder_can_be_moved_and_has_a_default(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_folder("bench") == state_dir / "bench"
    monkeypatch.delenv("PROBEWISE_STATE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder("bench") == tmp_path / ".local" / "state" / "probewise" / "bench"
    assert state_folder("bench").is_dir()


def test_a_latch_is_set_read_and_cleared() -> None:
    latch = Latch("bench")
    latch.check()
    assert latch.read() is None
    assert latch.clear() is False
    latch.set("guardian", "the controller died")
    card = Latch("bench").read()
    assert card is not None
    assert (card.by, card.why) == ("guardian", "the controller died")
    assert card.utc.startswith("20")
    assert latch.clear() is True
    latch.check()


def test_the_first_to_set_the_latch_is_remembered() -> None:
    Latch("bench").set("guardian", "first")
    Latch("bench").set("probewise park", "second")
    card = Latch("bench").read()
    assert card is not None
    assert card.why == "first"


def test_a_latched_instrument_says_who_when_why_and_what_to_do(state_dir: Path) -> None:
    Latch("bench").set("guardian", "the controller died")
    written = json.loads((state_dir / "bench" / "latch.json").read_text())
    with pytest.raises(Latched) as latched:
        Latch("bench").check()
    for part in ("'bench'", "guardian", written["utc"], "the controller died", "acknowledge"):
        assert part in str(latched.value)
    Latch("titan").check()


def test_a_damaged_latch_is_still_a_latch(state_dir: Path) -> None:
    latch = Latch("bench")
    for damage in (b"", b"{", b"[]", b"\xff\xfe", b'{"by": "x"}', b"null", b"0"):
        (state_dir / "bench" / "latch.json").write_bytes(damage)
        assert latch.read() == LatchCard(by="unknown", why="the latch file is damaged", utc="")
        latch.set("guardian", "later")
        with pytest.raises(Latched, match="damaged"):
            latch.check()
        assert latch.clear() is True
        latch.check()


def test_a_latch_leaves_no_scraps(state_dir: Path) -> None:
    Latch("bench").set("guardian", "x")
    assert [path.name for path in (state_dir / "bench").iterdir()] == ["latch.json"]
