"""What the loop adds to an acquisition: overhead, duty cycle, memory, and the time of `--help`.

The instrument is a process of its own that replays a recorded image, on the real clock; its frames
are cut out of the image while the scan runs. Two rows: a null describer and a raster planner, so
that nothing but the loop is measured; and the linear describer with the BoTorch planner, on
sub-scans of 100 ms.

Run with ``make bench-loop``; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from controller import events as e
from controller.journal import Journal
from controller.loading import load_experiment
from controller.rundir import create
from controller.session import new_session

INSTRUMENT = """
[instrument]
name = "bench-{name}"
virtual = true

[scan]
driver = "replay"
field_nm = [102.4, 102.4]

[[detector]]
name = "haadf"
driver = "replay"
dtype = "float32"

[beam]
driver = "replay"
energy_kV = 200.0
semiangle_mrad = 20.0
current_pA = 20.0

[limits]
max_local_dose_e_per_A2 = 1.0e9
max_total_dose_e_per_A2 = 1.0e9
min_free_disk_gb = 0.1

[drivers.replay]
channels = {{ haadf = {{ path = "image.npy", pixel_nm = [0.1, 0.1] }} }}
"""

EXPERIMENT = """
[experiment]
name = "bench-{name}"
instrument = "instrument.toml"
operator = "benchmark"

[survey]
shape = [256, 256]
dwell_us = 1.0
max_dose_e_per_A2 = 1.0e8

[sub_scan]
fov_nm = {fov}
shape = [16, 16]
dwell_us = {dwell_us}

[descriptor]
kind = "{describer}"

[objective]
{objective}

[planner]
kind = "{planner}"

[budget]
n_sub_scans = {n}
max_local_dose_e_per_A2 = 1.0e8
max_total_dose_e_per_A2 = 1.0e8
"""


class Watch:
    """Collects the timings of each step, and the memory after the 500th."""

    def __init__(self, journal: Journal) -> None:
        self.stages: dict[str, array[float]] = {}
        self.n = 0
        self.duty = array("d")
        self.rss_mb: list[float] = []
        self._process = psutil.Process()
        journal.listen(self.take)

    def take(self, entry: e.Entry) -> None:
        """Take in one journal entry."""
        if isinstance(entry.event, e.StepTimed):
            self.n += 1
            for name, took_ms in entry.event.stages_ms.items():
                self.stages.setdefault(name, array("d")).append(took_ms)
            if entry.event.duty_cycle is not None:
                self.duty.append(entry.event.duty_cycle)
            if self.n % 100 == 0:
                self.rss_mb.append(self._process.memory_info().rss / 1e6)

    def column(self, name: str) -> np.ndarray:
        """Return one stage of every step that has it, in ms."""
        return np.array(self.stages.get(name, ()))


def run_row(folder: Path, name: str, **settings: object) -> Watch:
    """Run one experiment to its end and return its timings."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    coarse = rng.random((64, 64))
    image = np.kron(coarse, np.ones((16, 16))) + 0.05 * rng.random((1024, 1024))
    np.save(folder / "image.npy", image.astype(np.float32))
    (folder / "instrument.toml").write_text(INSTRUMENT.format(name=name))
    (folder / "experiment.toml").write_text(EXPERIMENT.format(name=name, **settings))
    config = load_experiment(folder / "experiment.toml")
    run = create(config, folder / "runs", name="r")
    with new_session(run, config) as session:
        watch = Watch(session.journal)
        end = asyncio.run(session.controller.run())
    if session.journal.state.n_measured != settings["n"]:
        raise SystemExit(f"{name}: the run ended early: {end}")
    return watch


def help_s(repeats: int = 5) -> list[float]:
    """Return the wall time of `probewise --help`, in s."""
    command = [str(Path(sys.executable).with_name("probewise")), "--help"]
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    return took


def spread(values: np.ndarray) -> str:
    """Return median, 99th percentile and largest of some milliseconds."""
    if not len(values):
        return "-"
    p50, p99 = np.percentile(values, [50, 99])
    return f"{p50:.2f} / {p99:.2f} / {values.max():.2f}"


def main() -> None:
    """Run both rows and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000, help="sub-scans of the first row")
    parser.add_argument("--n-models", type=int, default=200, help="sub-scans of the second row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["PROBEWISE_STATE_DIR"] = str(Path(place) / "state")
        null = run_row(
            Path(place) / "null", "null", fov=[1.4, 1.4], dwell_us=40.0, describer="null",
            objective='name = "component"\nparams = { name = "constant" }', planner="raster",
            n=options.n,
        )  # fmt: skip
        real = run_row(
            Path(place) / "models", "models", fov=[3.2, 3.2], dwell_us=400.0,
            describer="linear", objective='name = "component"\nparams = { name = "mean_1" }',
            planner="botorch", n=options.n_models,
        )  # fmt: skip
    seconds = help_s()
    table = Table("p50 / p99 / max, ms", "null + raster", "linear + BoTorch")
    for stage in ("overhead", "wait for decision", "scan", "arm", "unblank", "blank", "frames",
                  "read back", "decide", "describe", "store"):  # fmt: skip
        table.add_row(stage, spread(null.column(stage)), spread(real.column(stage)))
    table.add_row("duty cycle", f"{np.median(null.duty):.3f}", f"{np.median(real.duty):.3f}")
    console = Console()
    console.print(table)
    growth_mb = max(null.rss_mb[5:], default=0.0) - (
        null.rss_mb[4] if len(null.rss_mb) > 4 else 0.0
    )
    console.print(
        f"{options.n} sub-scans; RSS grew {growth_mb:.1f} MB from the 500th on; "
        f"--help {min(seconds):.2f} to {max(seconds):.2f} s"
    )
    overhead, with_models = null.column("overhead"), real.column("overhead")
    values = {
        "overhead_p50_ms": float(np.percentile(overhead, 50)),
        "overhead_p99_ms": float(np.percentile(overhead, 99)),
        "overhead_models_p50_ms": float(np.percentile(with_models, 50)),
        "overhead_models_p99_ms": float(np.percentile(with_models, 99)),
        "wait_models_p99_ms": float(np.percentile(real.column("wait for decision"), 99)),
        "duty_cycle": float(np.median(real.duty)),
        "duty_cycle_mean": float(np.mean(real.duty)),
        "rss_growth_mb": growth_mb,
        "help_s": float(np.median(seconds)),
        "n": options.n,
    }
    print(json.dumps({"area": "loop", "ratios": {}, "values": values}))


if __name__ == "__main__":
    main()
