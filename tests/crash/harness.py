"""Run `probewise` as a process, harm it at a chosen moment, and judge from outside.

The beam, the executed ids and the dose are read from the exposure log that the instrument's own
process keeps; the controller's journal is not asked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filter the frames are compressed with
import numpy as np
import psutil

from drivers.emulator.exposure_log import Exposure, read_exposures
from drivers.vocabulary import E_PER_S_PER_PA, SubScan

PROBEWISE = Path(sys.executable).with_name("probewise")
PATIENCE_S = 60.0
LOCAL_BUDGET_E_PER_A2 = 6.0e4
N_SUB_SCANS = 30

INSTRUMENT = """
[instrument]
name = "crash"
virtual = true

[scan]
driver = "virtual"
field_nm = [10.0, 10.0]
settle_us = 100.0
flyback_us = 10.0

[[detector]]
name = "haadf"
driver = "virtual"
inner_mrad = 80.0
outer_mrad = 200.0
dtype = "uint32"

[[detector]]
name = "maadf"
driver = "virtual"
inner_mrad = 40.0
outer_mrad = 80.0
dtype = "uint32"

[beam]
driver = "virtual"
energy_kV = 60.0
semiangle_mrad = 31.0
current_pA = 20.0

[limits]
max_local_dose_e_per_A2 = 1.0e6
max_total_dose_e_per_A2 = 1.0e6
min_free_disk_gb = 0.1

[drivers.virtual]
seed = 3
specimen = { kind = "graphene", dopants = 4, vacancies = 2 }
"""

EXPERIMENT = f"""
[experiment]
name = "crash"
instrument = "instrument.toml"
operator = "test"

[survey]
shape = [64, 64]
dwell_us = 20.0
max_dose_e_per_A2 = 2.0e3

[sub_scan]
fov_nm = [1.0, 1.0]
shape = [16, 16]
dwell_us = 150.0

[descriptor]
kind = "channel"
detector = "haadf"

[objective]
name = "channel"
params = {{ statistic = "mean" }}

[planner]
kind = "random"

[budget]
n_sub_scans = {N_SUB_SCANS}
max_local_dose_e_per_A2 = {LOCAL_BUDGET_E_PER_A2}
max_total_dose_e_per_A2 = 5.0e4
"""


@dataclass
class Bench:
    """A folder with an experiment, and a state folder of its own."""

    folder: Path
    run: Path
    log: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of `probewise`."""
        return [str(PROBEWISE), *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `probewise` in a process group of its own, its words in words.log."""
        with (self.folder / "words.log").open("ab") as words:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )

    def call(self, *arguments: str) -> int:
        """Run `probewise` to its end and return its exit code."""
        process = self.start(*arguments)
        try:
            return process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def start_run(self) -> subprocess.Popen[bytes]:
        """Start the experiment."""
        return self.start("run", "experiment.toml", "--name", "r", "--no-report")

    def words(self) -> str:
        """Return what was printed so far."""
        return (self.folder / "words.log").read_text()

    def exposures(self) -> list[Exposure]:
        """Return what the instrument wrote down."""
        return read_exposures(self.log) if self.log.exists() else []

    def journal(self) -> list[dict[str, object]]:
        """Return the events in the journal, a torn last line left out."""
        path = self.run / "events.jsonl"
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line)["event"] for line in lines]


@contextmanager
def bench(
    folder: Path, instrument: str = INSTRUMENT, experiment: str = EXPERIMENT
) -> Iterator[Bench]:
    """Give a bench, and end every process that belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instrument.toml").write_text(instrument)
    (folder / "experiment.toml").write_text(experiment)
    state = folder / "state"
    environment = {**os.environ, "PROBEWISE_STATE_DIR": str(state), "NO_COLOR": "1"}
    made = Bench(folder, folder / "runs" / "r", state / "crash" / "exposures.jsonl", environment)
    try:
        yield made
    finally:
        end_processes(str(state), str(folder))


def end_processes(*marks: str) -> None:
    """Kill every process whose command line names one of these folders."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.pid != os.getpid() and any(mark in line for mark in marks):
            process.kill()
            try:
                process.wait(5)
            except psutil.NoSuchProcess:
                continue


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait for a condition that another process brings about."""
    give_up_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_s:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.002)


def beam_off_at_s(exposures: list[Exposure], harmed_at_s: float) -> float:
    """Return when the beam went off for good after a moment; that moment if it was off already.

    ``inf`` when the log ends with the beam on.
    """
    on = False
    off_at_s = harmed_at_s
    for exposure in exposures:
        if on and exposure.blanked:
            off_at_s = max(harmed_at_s, exposure.t_s)
        on = not exposure.blanked
    return float("inf") if on else off_at_s


def check_no_id_twice(exposures: list[Exposure]) -> None:
    """No sub-scan id was ever begun twice."""
    ids = Counter(e.sub_scan_id for e in exposures if e.event == "scan_start")
    assert not [key for key, n in ids.items() if n > 1], ids


def check_dose(exposures: list[Exposure], field_nm: float = 10.0, cell_nm: float = 0.05) -> None:
    """No place got more than the local budget, on a finer grid than the controller's.

    Each scan's electrons are spread over the rows it had begun.
    """
    n = round(field_nm / cell_nm)
    axis = (np.arange(n) + 0.5) * cell_nm - field_nm / 2
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    dose = np.zeros((n, n))
    for exposure in exposures:
        if exposure.event != "scan_end" or not exposure.electrons:
            continue
        assert exposure.center_nm and exposure.fov_nm and exposure.shape
        ny, nx = exposure.shape
        rows = max(1, -(-(exposure.executed or 0) // nx))
        height = exposure.fov_nm[0] * rows / ny
        center = (exposure.center_nm[0] - (exposure.fov_nm[0] - height) / 2, exposure.center_nm[1])
        part = SubScan("part", center, (height, exposure.fov_nm[1]), (rows, nx), 1.0)
        dose[part.contains(points)] += exposure.electrons / (part.area_nm2 * 100)
    assert dose.max() <= LOCAL_BUDGET_E_PER_A2, dose.max()
    assert dose.max() > 0, "nothing was exposed: the check would prove nothing"


def check_charged(bench: Bench) -> None:
    """The ledger was charged at least what the instrument delivered."""
    delivered = sum(e.electrons or 0.0 for e in bench.exposures() if e.event == "scan_end")
    charged = sum(
        float(event["electrons"])  # type: ignore[arg-type]
        for event in bench.journal()
        if event["kind"] == "executed"
    )
    assert charged >= delivered * (1 - 1e-9), (charged, delivered)
    assert delivered > 0
    assert E_PER_S_PER_PA > 0


def closed_ids(bench: Bench) -> set[str]:
    """Return the sub-scans the journal calls stored."""
    return {str(event["id"]) for event in bench.journal() if event["kind"] == "stored"}


def check_kept(bench: Bench, closed: set[str]) -> None:
    """Every closed sub-scan is in the run file, with finite frames, and the file just opens."""
    path = bench.run / "run.nxs"
    found: set[str] = set()
    with h5py.File(path if path.exists() else path.with_name("run.nxs.part"), "r") as file:
        entry = file["entry"]
        for name, group in entry.items():
            if name.startswith("subscans_haadf"):
                ids = [value.decode() for value in group["sub_scan_id"][()]]
                frames = group["data"][()]
                assert len(frames) == len(ids)
                found |= set(ids)
            elif name.startswith("survey_haadf"):
                assert group["data"][()].sum() > 0
                found.add("s000001")
    assert closed <= found, closed - found


def send(process: subprocess.Popen[bytes], signal_number: int) -> float:
    """Send a signal to the controller alone; return when."""
    os.kill(process.pid, signal_number)
    return time.monotonic()


SIGKILL, SIGSTOP, SIGCONT = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
