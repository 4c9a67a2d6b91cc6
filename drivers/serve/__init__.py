"""Running an emulated instrument as a process of its own, over the gateway wire."""

from __future__ import annotations

from drivers.serve.spawn import ServedInstrument, attach_or_spawn, spawn

__all__ = ["ServedInstrument", "attach_or_spawn", "spawn"]
