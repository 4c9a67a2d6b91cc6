"""The emulated instruments alive in this process, by name."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from drivers.emulator.room import Room
from drivers.errors import DriverDisconnected, DriverRefused
from drivers.instrument import InstrumentConfig

_lock = threading.Lock()
_live: weakref.WeakValueDictionary[str, Room] = weakref.WeakValueDictionary()
_users: weakref.WeakKeyDictionary[Room, int] = weakref.WeakKeyDictionary()


def enter(instrument: InstrumentConfig, make: Callable[[], Room]) -> Room:
    """Return the live room of this instrument, made if there is none; `leave` it once after use.

    Raises
    ------
    DriverRefused
        If a room of that name is alive and set up differently.
    """
    name = instrument.instrument.name
    with _lock:
        room = _live.get(name)
        if room is None or room.closed:
            room = make()
            _live[name] = room
        elif room.instrument != instrument:
            raise DriverRefused(f"instrument '{name}' is alive in this process, set up differently")
        _users[room] = _users.get(room, 0) + 1
        return room


def leave(room: Room) -> None:
    """Say that one user of the room is gone; the last one closes it."""
    with _lock:
        left = _users.get(room, 1) - 1
        _users[room] = left
        if left > 0:
            return
        _users.pop(room, None)
        name = room.instrument.instrument.name
        if _live.get(name) is room:
            del _live[name]
    room.close()


def find(name: str) -> Room:
    """Return the live room of that name.

    Raises
    ------
    DriverDisconnected
        If there is none in this process.
    """
    with _lock:
        room = _live.get(name)
    if room is None or room.closed:
        raise DriverDisconnected(f"no instrument called '{name}' is alive in this process")
    return room
