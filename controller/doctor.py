"""`probewise doctor`: whether this machine has what a run needs, and what to do where it has not.

No instrument is connected to; what its parts answer is added by the caller as further findings.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from controller.explain import validate
from controller.lease import state_folder
from controller.problems import dotted
from drivers.errors import DriverUnavailable
from drivers.instrument import InstrumentConfig
from drivers.registry import available, load

PACKAGES = ("numpy", "scipy", "pydantic", "torch", "gpytorch", "botorch", "h5py", "pyzmq")
EXTRAS = {"pyqtgraph": "gui", "PySide6-Essentials": "gui", "rosettasciio": "formats"}
SLOW_FSYNC_MS = 50.0
"""Above this the intent of a sub-scan costs more than scanning it."""
_WRITE_MB = 16
_FSYNCS = 20
_STATE_REMEDY = "make it writable, or set PROBEWISE_STATE_DIR to a folder that is"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    remedy : str
        What to do about it; "" where nothing is wrong.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def doctor(
    instrument: InstrumentConfig | None = None,
    *,
    runs: Path | None = None,
    state: Path | None = None,
) -> list[Finding]:
    """Look at this machine.

    Parameters
    ----------
    instrument
        Its drivers and their settings are looked at too.
    runs
        Folder that runs are written to; "runs" in the current directory when not given.
    """
    return [
        *_python(),
        _torch(),
        *_disk(runs or Path("runs"), instrument),
        _writable(),
        *_drivers(instrument),
    ]


def _python() -> Iterator[Finding]:
    """Yield the versions of Python and of the packages."""
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    detail = f"{platform.python_version()} on {platform.platform(terse=True)}"
    yield Finding("python", good, detail, "" if good else "use Python 3.11 to 3.13")
    for name in PACKAGES:
        found = _version(name)
        remedy = "" if found else "install probewise with its dependencies: pip install -e ."
        yield Finding(name, found is not None, found or "not installed", remedy)
    for name, extra in EXTRAS.items():
        detail = _version(name) or f"not installed; optional: pip install -e .[{extra}]"
        yield Finding(name, True, detail)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> Finding:
    """Say on what torch would compute, and with how many threads."""
    try:
        import torch
    except ImportError as error:
        return Finding("compute", False, f"torch can't be imported: {error}", "reinstall torch")
    cores = os.cpu_count() or 1
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return Finding("compute", True, f"{device}, {torch.get_num_threads()} threads of {cores} cores")


def _disk(runs: Path, instrument: InstrumentConfig | None) -> Iterator[Finding]:
    """Yield free space, write speed and fsync latency where runs are written."""
    place = runs.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    least_gb = instrument.limits.min_free_disk_gb if instrument else 1.0
    free_gb = shutil.disk_usage(place).free / 1e9
    remedy = f"make room, or choose another output.folder: runs hold below {least_gb:g} GB"
    good = free_gb >= least_gb
    yield Finding("disk space", good, f"{free_gb:.1f} GB free in {place}", "" if good else remedy)
    try:
        speed, typical_ms, worst_ms = _measure_disk(place)
    except OSError as error:
        detail = f"{place} can't be written to: {error.strerror}"
        yield Finding("disk speed", False, detail, "choose an output.folder you may write to")
        return
    good = typical_ms < SLOW_FSYNC_MS
    remedy = "" if good else "write runs to a local disk: each decision waits for an fsync"
    detail = f"{speed:.0f} MB/s, fsync {typical_ms:.1f} ms (worst of {_FSYNCS}: {worst_ms:.1f} ms)"
    yield Finding("disk speed", good, detail, remedy)


def _measure_disk(place: Path) -> tuple[float, float, float]:
    """Return MB/s of a synced write, and median and largest time of a small synced append in ms."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=place) as file:
        started = time.perf_counter()
        for _ in range(_WRITE_MB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        speed = _WRITE_MB * len(block) / 1e6 / (time.perf_counter() - started)
        times = []
        for _ in range(_FSYNCS):
            started = time.perf_counter()
            file.write(b"x" * 300)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    return speed, statistics.median(times), max(times)


def _writable() -> Finding:
    """Say whether leases and latches can be written."""
    try:
        folder = state_folder("")
    except OSError as error:
        return Finding("state folder", False, str(error), _STATE_REMEDY)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("state folder", False, f"{folder}: {error.strerror}", _STATE_REMEDY)
    return Finding("state folder", True, f"{folder} is writable")


def _drivers(instrument: InstrumentConfig | None) -> Iterator[Finding]:
    """Yield whether drivers can be imported, and the settings of the instrument's own."""
    used = instrument.driver_names() if instrument else ()
    for name in dict.fromkeys([*available(), *used]):
        try:
            driver = load(name)
        except DriverUnavailable as error:
            remedy = "correct the instrument file, or install what the driver needs"
            yield Finding(f"driver {name}", name not in used, str(error), remedy)
            continue
        kind = "emulated" if driver.emulated else "real beam"
        yield Finding(f"driver {name}", True, f"{driver.summary} ({kind})")
        if instrument is not None and name in used:
            yield _settings(name, instrument)


def _settings(name: str, instrument: InstrumentConfig) -> Finding:
    """Say whether a driver takes its table in the instrument file."""
    table, model = instrument.drivers.get(name, {}), load(name).settings
    _, faults = validate(table, model)
    if faults:
        detail = "; ".join(f"{dotted(fault.path)}: {fault.message}" for fault in faults)
        remedy = f"correct [drivers.{name}] in the instrument file"
        return Finding(f"settings of {name}", False, detail, remedy)
    return Finding(f"settings of {name}", True, f"[drivers.{name}] is accepted")


def render(findings: Sequence[Finding], console: Console) -> None:
    """Print findings for a person, with a remedy below each that is not in order."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for column in ("mark", "name", "detail"):
        table.add_column(column, overflow="fold", no_wrap=column != "detail")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[bold red]no[/]"
        table.add_row(mark, finding.name, escape(finding.detail))
        if finding.remedy and not finding.ok:
            table.add_row("", "", f"[yellow]→ {escape(finding.remedy)}[/]")
    console.print(table)
