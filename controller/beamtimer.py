"""A safety timer in a thread of its own: parks when the beam stays on too long.

Independent of the event loop: it fires when the loop hangs, when a driver hangs, and when a
command that should have ended the exposure is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class BeamTimer:
    """Calls ``on_expiry(allowed_s)`` once if `disarm` does not come in time after `arm`.

    Without ``on_expiry`` it can't be armed.
    """

    def __init__(self, on_expiry: Callable[[float], None] | None = None) -> None:
        self.on_expiry = on_expiry
        self._changed = threading.Condition()
        self._deadline_s: float | None = None
        self._allowed_s = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="beam timer", daemon=True)
        self._thread.start()

    def arm(self, allowed_s: float) -> None:
        """Start counting; the beam is about to be unblanked.

        Raises
        ------
        ValueError
            If there is no ``on_expiry``.
        RuntimeError
            If the timer was closed, or ``on_expiry`` failed the last time.
        """
        if self.on_expiry is None:
            raise ValueError("nobody would act when the beam stays on")
        if not self._thread.is_alive():
            raise RuntimeError("the safety timer has ended: nothing may be exposed")
        with self._changed:
            self._allowed_s = allowed_s
            self._deadline_s = time.monotonic() + allowed_s
            self._changed.notify()

    def disarm(self) -> None:
        """Stop counting; the beam is verifiably blanked."""
        with self._changed:
            self._deadline_s = None

    def close(self) -> None:
        """End the thread; harmless when ended already."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                left = None if self._deadline_s is None else self._deadline_s - time.monotonic()
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                self._deadline_s = None
                allowed_s = self._allowed_s
            if self.on_expiry is not None:
                self.on_expiry(allowed_s)
