"""Who may use an instrument: one lease per instrument, and the latch an outside park leaves.

Both are files in the state folder (``PROBEWISE_STATE_DIR``, else ``~/.local/state/probewise``),
so that they hold between processes and survive them. The operating system frees a dead
controller's lease; a latch stays until an operator acknowledges it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from drivers.vocabulary import utc_now


class LeaseTaken(Exception):
    """Another run holds the instrument."""


class Latched(Exception):
    """The instrument was parked from outside; nothing may be exposed until acknowledged."""


def state_folder(instrument_name: str) -> Path:
    """Return the folder of an instrument's lease, latch and endpoint; made when missing."""
    root = os.environ.get("PROBEWISE_STATE_DIR")
    base = Path(root) if root else Path.home() / ".local" / "state" / "probewise"
    folder = base / instrument_name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    run: str
    pid: int
    since_utc: str


class Lease:
    """The right to use an instrument, held by one controller at a time."""

    def __init__(self, instrument_name: str, run: str) -> None:
        folder = state_folder(instrument_name)
        self.instrument_name = instrument_name
        self._lock = FileLock(folder / "lease.lock", timeout=0, thread_local=False)
        self._card = folder / "lease.json"
        self._holder = Holder(run=run, pid=os.getpid(), since_utc=utc_now())

    def take(self) -> None:
        """Take the lease.

        Raises
        ------
        LeaseTaken
            If another controller has it; the message names it.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise LeaseTaken(
                f"instrument '{self.instrument_name}' is in use by {self._describe_holder()}; "
                "wait for it to end, or abort it"
            ) from None
        try:
            self._card.write_text(json.dumps(asdict(self._holder)))
        except OSError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lease back; harmless when not held."""
        if self._lock.is_locked:
            self._card.unlink(missing_ok=True)
            self._lock.release()

    def _describe_holder(self) -> str:
        try:
            holder = Holder(**json.loads(self._card.read_text()))
        except (OSError, ValueError, TypeError):
            return "another controller (it left no name)"
        return f"run '{holder.run}' (process {holder.pid}, since {holder.since_utc})"


@dataclass(frozen=True, slots=True)
class LatchCard:
    """Who parked the instrument from outside, when and why."""

    by: str
    why: str
    utc: str


class Latch:
    """The mark an outside park leaves; while it is there the governor does not unblank."""

    def __init__(self, instrument_name: str) -> None:
        self.instrument_name = instrument_name
        self._path = state_folder(instrument_name) / "latch.json"

    def set(self, by: str, why: str) -> None:
        """Leave the mark; an earlier one is kept."""
        if not self._path.exists():
            part = self._path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(asdict(LatchCard(by=by, why=why, utc=utc_now()))))
            part.replace(self._path)

    def read(self) -> LatchCard | None:
        """Return what the mark says, None when there is none."""
        try:
            return LatchCard(**json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            return LatchCard(by="unknown", why="the latch file is damaged", utc="")

    def check(self) -> None:
        """Raise `Latched` when the mark is there."""
        card = self.read()
        if card is not None:
            raise Latched(
                f"instrument '{self.instrument_name}' was parked by {card.by} at {card.utc} "
                f"({card.why}); look at it, then run 'probewise acknowledge --instrument FILE'"
            )

    def clear(self) -> bool:
        """Remove the mark; say whether there was one."""
        existed = self._path.exists()
        self._path.unlink(missing_ok=True)
        return existed
