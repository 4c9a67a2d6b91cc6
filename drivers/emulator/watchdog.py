"""Notices that the holder of a lease has fallen silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls ``bite(token, reason)`` when the holder of ``token`` has been silent for too long.

    Counts real seconds, in a thread of its own; does nothing before `start`.
    """

    def __init__(self, bite: Callable[[str, str], None]) -> None:
        self._timeout_s = 0.0
        self._bite = bite
        self._wake = threading.Condition()
        self._watched: tuple[str, str] | None = None
        self._heard_at_s = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self, timeout_s: float) -> None:
        """Begin to watch; may be called once."""
        self._timeout_s = timeout_s
        self._thread = threading.Thread(target=self._run, name="probewise-watchdog", daemon=True)
        self._thread.start()

    def watch(self, token: str, name: str) -> None:
        """Begin to watch the holder of this token."""
        with self._wake:
            self._watched, self._heard_at_s = (token, name), time.monotonic()
            self._wake.notify()

    def feed(self) -> None:
        """Take note of a sign of life."""
        self._heard_at_s = time.monotonic()

    def rest(self) -> None:
        """Stop watching."""
        with self._wake:
            self._watched = None

    def close(self) -> None:
        """End the thread; harmless when ended already."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._closed:
                    return
                left = None
                if self._watched is not None:
                    left = self._heard_at_s + self._timeout_s - time.monotonic()
                if left is None or left > 0:
                    self._wake.wait(left)
                    continue
                assert self._watched is not None
                token, name = self._watched
                self._watched = None
            self._bite(
                token, f"no heartbeat of {name} for {self._timeout_s:g} s"
            )  # outside the lock: it takes the room's own
