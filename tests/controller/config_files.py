"""Small valid experiment and instrument files for tests, with a way to change a few lines."""

from __future__ import annotations

from pathlib import Path

from controller.config import RunConfig
from controller.loading import load_experiment

INSTRUMENT = """\
[instrument]
name = "bench"
virtual = true

[scan]
driver = "virtual"
field_nm = [20.0, 20.0]
min_dwell_us = 0.5
max_dwell_us = 20_000.0
settle_us = 200.0
flyback_us = 60.0

[[detector]]
name = "haadf"
driver = "virtual"
inner_mrad = 80.0
outer_mrad = 200.0

[[detector]]
name = "maadf"
driver = "virtual"
inner_mrad = 40.0
outer_mrad = 80.0

[beam]
driver = "virtual"
energy_kV = 60.0
semiangle_mrad = 31.0
current_pA = 10.0
current_upper_pA = 12.0
blank_latency_us = 5.0

[limits]
max_local_dose_e_per_A2 = 1.0e6
max_total_dose_e_per_A2 = 1.0e5
max_duration_s = 3600.0

[drivers.virtual]
seed = 1

[drivers.virtual.specimen]
kind = "graphene"
"""

EXPERIMENT = """\
[experiment]
name = "trial"
instrument = "bench.toml"
operator = "Ada"
sample = "graphene"

[survey]
shape = [256, 256]
dwell_us = 1.0
max_dose_e_per_A2 = 2.0e3

[sub_scan]
fov_nm = [2.0, 2.0]
shape = [32, 32]
dwell_us = 4.0

[candidates]
margin_nm = 1.0

[objective]
name = "variance"

[budget]
n_sub_scans = 20
max_local_dose_e_per_A2 = 2.0e4
max_total_dose_e_per_A2 = 1.0e4
"""


def write_files(
    folder: Path,
    experiment: tuple[tuple[str, str], ...] = (),
    instrument: tuple[tuple[str, str], ...] = (),
) -> Path:
    """Write both files with (old, new) replacements; return the path of the experiment file."""
    texts = {"trial.toml": (EXPERIMENT, experiment), "bench.toml": (INSTRUMENT, instrument)}
    for name, (text, changes) in texts.items():
        for old, new in changes:
            assert old in text, f"{old!r} is not in {name}"
            text = text.replace(old, new, 1)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "trial.toml"


def load(
    folder: Path,
    experiment: tuple[tuple[str, str], ...] = (),
    instrument: tuple[tuple[str, str], ...] = (),
    sets: tuple[str, ...] = (),
) -> RunConfig:
    """Write both files and load them."""
    return load_experiment(write_files(folder, experiment, instrument), sets)


def line_of(path: Path, text: str) -> int:
    """Return the line of the first occurrence of a text in a file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return next(number for number, line in enumerate(lines, start=1) if text in line)
