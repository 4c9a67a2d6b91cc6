"""The append-only truth of a run: one JSON object per line, and the state it folds to.

Appending updates the state at once and hands the line to a writer thread. Kinds in
`events.DURABLE` are fsynced, several together where they come close; `durable` waits until what
was appended so far is on disk. A last line torn by a crash is tolerated and cut off.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from pydantic import ValidationError

from controller.events import DURABLE, ENTRIES, AnyEvent, Entry
from controller.state import RunState, fold
from drivers.vocabulary import Clock, utc_now


class JournalError(Exception):
    """The journal can't be read or written; the message says which line, and what to do."""


def read(path: Path) -> tuple[list[Entry], int]:
    """Return the entries of a journal and the length in bytes of its intact part.

    Raises
    ------
    JournalError
        If the file is missing, a line other than the last is damaged, or entries are missing.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror or error}; is this a run folder?") from error
    entries: list[Entry] = []
    intact = 0
    while intact < len(raw):
        end = raw.find(b"\n", intact)
        if end < 0:
            break  # torn last line: the crash came before the newline
        try:
            entry = ENTRIES.validate_json(raw[intact:end])
        except ValidationError as error:
            if end + 1 == len(raw):
                break  # torn last line whose newline made it to disk
            raise JournalError(
                f"{path}:{len(entries) + 1}: damaged entry ({error.errors()[0]['msg']}); lines "
                "after it are intact, so this is no crash of ours: restore the file from a copy"
            ) from error
        if entry.seq != len(entries) + 1:
            raise JournalError(
                f"{path}:{len(entries) + 1}: entry {entry.seq} where {len(entries) + 1} should be;"
                " lines are missing: restore the file from a copy"
            )
        entries.append(entry)
        intact = end + 1
    return entries, intact


Listener = Callable[[Entry], None]


class Journal:
    """Appends events, keeps the state they fold to, and gets them to disk.

    Parameters
    ----------
    path : Path
        ``events.jsonl``; created when missing, continued when there.
    clock : Clock
        Gives each entry its monotonic time.

    Raises
    ------
    JournalError
        If another controller writes it, or it is damaged.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = _open_for_writing(path)
        try:
            entries, intact = read(path)
            os.ftruncate(self._file, intact)
            os.lseek(self._file, 0, os.SEEK_END)
        except BaseException:
            os.close(self._file)
            raise
        self.path = path
        self.state: RunState = fold(entries)
        self.failure: OSError | None = None
        self._clock = clock
        self._t0_s = clock.now() - self.state.t_s
        self._on_failure: Callable[[OSError], None] | None = None
        self._told = False
        self._closed = False
        self._listeners: list[Listener] = []
        self._seq = len(entries)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[bytes, bool, Future[None] | None] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with each entry, after the state took it in."""
        self._listeners.append(listener)

    def when_failing(self, act: Callable[[OSError], None]) -> None:
        """Call ``act`` once with the error that stopped the writing, from the writer thread.

        It is called at once when writing has failed already.
        """
        with self._lock:
            self._on_failure = act
        self._tell()

    def append(self, event: AnyEvent) -> Entry:
        """Record an event; the state is changed when this returns, the disk soon after.

        Raises
        ------
        JournalError
            If the journal was closed.
        """
        return self._append(event, None)

    def durable(self, event: AnyEvent) -> Future[None]:
        """Record an event and return a future that is done when it is on disk.

        The future raises `OSError` when it could not be written.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what is being written can't be cancelled
        self._append(event, future)
        return future

    def close(self) -> None:
        """Write what is left and close the file; harmless when closed already."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, event: AnyEvent, future: Future[None] | None) -> Entry:
        with self._lock:
            if self._closed:
                raise JournalError(f"{self.path} is closed: {event.kind} can't be recorded")
            t_s = round(self._clock.now() - self._t0_s, 6)
            entry = Entry(seq=self._seq + 1, utc=utc_now(), t_s=t_s, event=event)
            line = entry.model_dump_json().encode() + b"\n"
            self.state.apply(entry)  # what can't be written or applied leaves no gap in the numbers
            self._seq += 1
            self._queue.put((line, event.kind in DURABLE or future is not None, future))
        for listener in self._listeners:
            listener(entry)
        return entry

    def _write_all(self) -> None:
        """Writer thread: take all that waits, write it in one go, fsync when asked for."""
        running = True
        while running:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            running = None not in batch
            items = [item for item in batch if item is not None]
            futures = [future for _, _, future in items if future is not None]
            try:
                self._write(b"".join(line for line, _, _ in items))
                if any(sync for _, sync, _ in items):
                    os.fsync(self._file)
            except OSError as error:
                self._fail(error, futures)
            else:
                for future in futures:
                    future.set_result(None)

    def _write(self, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        while data:
            data = data[os.write(self._file, data) :]

    def _fail(self, error: OSError, futures: list[Future[None]]) -> None:
        with self._lock:
            self.failure = error
        for future in futures:
            future.set_exception(error)
        self._tell()

    def _tell(self) -> None:
        """Tell who wants to know of a failure, once."""
        with self._lock:
            if self._told or self.failure is None or self._on_failure is None:
                return
            self._told = True
        self._on_failure(self.failure)


def _open_for_writing(path: Path) -> int:
    """Open a journal so that nobody else can write it meanwhile; return the descriptor."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror or error}; is this a run folder?") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalError(
            f"{path}: a controller is writing it; wait for that run to end, or abort it"
        ) from error
    return descriptor
