"""What can be made to go wrong with an emulated instrument, and where.

The instrument asks ``due(where)`` once each time it passes a place, and does what it is told.

==================  ===========================================================================
place               kinds heeded there
==================  ===========================================================================
any command         ``hang`` (no answer for ``seconds``), ``raise`` (refused), ``disconnect``
``blank``,          ``stuck_blanker``: the command reports success and the beam stays on, from
``emergency.blank`` now on for ``seconds`` (for ever when 0)
``is_blanked``,     ``blank_readback_lies``: says blanked whatever the truth
``emergency.``
``is_blanked``
``cancel``,         ``ignore_cancel``: reports success and scans on
``emergency.stop``
``frame``           once per delivered block: ``dropped_frame``, ``duplicate_frame``,
                    ``late_frame`` (by ``seconds``), ``nan_frame``, ``wrong_shape``
==================  ===========================================================================

Commands are ``connect``, ``scan``, ``cancel``, ``park_probe``, ``read_back``, ``arm``, ``disarm``,
``blank``, ``unblank``, ``is_blanked``, ``current``, ``column``, and the emergency ones
``emergency.stop``, ``emergency.blank``, ``emergency.park_probe``, ``emergency.is_blanked``.
"""

from __future__ import annotations

from typing import Protocol

CALL_KINDS = frozenset({"hang", "raise", "disconnect"})
FRAME_KINDS = frozenset(
    {"dropped_frame", "duplicate_frame", "late_frame", "nan_frame", "wrong_shape"}
)


class Fault(Protocol):
    """One thing that goes wrong now."""

    @property
    def kind(self) -> str:
        """Which kind of fault, see the table above."""

    @property
    def seconds(self) -> float:
        """How long it lasts, where that means something."""


class Faults(Protocol):
    """Decides what goes wrong; called from several threads."""

    def due(self, where: str) -> Fault | None:
        """Return the fault due at this place, this time, if any."""
