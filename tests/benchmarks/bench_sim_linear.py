"""How long linear imaging takes: build, first image, 512 x 512 survey, 32 x 32 sub-scan.

Run as a script; the last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from drivers.instrument import InstrumentConfig
from drivers.virtual import SimulatedScene, build_specimen
from drivers.vocabulary import SubScan

FILES = sorted((Path(__file__).parents[2] / "configs" / "instruments").glob("virtual-*.toml"))
REPEATS = 9


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of a call, in CPU seconds."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def measure(path: Path) -> dict[str, float]:
    """Return the times for one instrument file, in s."""
    config = InstrumentConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    build_specimen.cache_clear()
    built_s = seconds(lambda: SimulatedScene(config), 1)
    scene = SimulatedScene(config)
    survey = SubScan("survey", (0.0, 0.0), config.scan.field_nm, (512, 512), 10.0)
    small = SubScan("small", (0.0, 0.0), (2.0, 2.0), (32, 32), 100.0, rotation_deg=33.0)

    def render(scan: SubScan) -> object:
        return scene.image(scan, "haadf", current_pA=30.0, time_s=60.0)

    first_s = seconds(lambda: render(survey), 1)
    return {
        "build_s": built_s,
        "first_survey512_s": first_s,
        "survey512_s": seconds(lambda: render(survey)),
        "subscan32_ms": 1e3 * seconds(lambda: [render(small) for _ in range(20)]) / 20,
    }


def main() -> None:
    """Print a table and the JSON line."""
    values: dict[str, float] = {}
    for path in FILES:
        for key, value in measure(path).items():
            print(f"{path.stem:20} {key:20} {value:.4f}")
            values[f"{path.stem.removeprefix('virtual-')}_{key}"] = round(value, 5)
    print(json.dumps({"area": "sim_linear", "ratios": {}, "values": values}))


if __name__ == "__main__":
    main()
