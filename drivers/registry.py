"""Find drivers by name, and open an instrument from the parts its file names."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from drivers.errors import DriverUnavailable
from drivers.protocols import Driver

GROUP = "probewise.drivers"


def available() -> dict[str, EntryPoint]:
    """Return the installed drivers by name, none imported yet."""
    return {point.name: point for point in sorted(entry_points(group=GROUP))}


def load(name: str) -> Driver:
    """Import a driver.

    Raises
    ------
    DriverUnavailable
        If no driver of that name is installed, or it can't be imported.
    """
    points = available()
    if name not in points:
        close = difflib.get_close_matches(name, points, n=1)
        hint = f", did you mean '{close[0]}'?" if close else f" (known: {', '.join(points)})"
        raise DriverUnavailable(f"no driver is called '{name}'{hint}")
    try:
        driver = points[name].load()
    except ImportError as error:
        raise DriverUnavailable(f"driver '{name}' can't be loaded: {error}") from error
    if not isinstance(driver, Driver):
        raise DriverUnavailable(f"'{points[name].value}' is not a driver (see drivers.protocols)")
    return driver
