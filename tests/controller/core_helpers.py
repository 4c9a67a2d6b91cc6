"""An instrument, sub-scans and strategies that the tests of the controller's core share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from drivers.instrument import InstrumentConfig
from drivers.vocabulary import Region, SubScan

INSTRUMENT = "bench"


def instrument(**tables: dict[str, Any]) -> InstrumentConfig:
    """Return an instrument with one imaging detector; keywords change or add to its tables."""
    base: dict[str, Any] = {
        "instrument": {"name": INSTRUMENT, "virtual": True, "serve": "in_process"},
        "scan": {
            "driver": "fake",
            "field_nm": [20.0, 40.0],
            "min_dwell_us": 1.0,
            "max_dwell_us": 1000.0,
            "settle_us": 100.0,
            "flyback_us": 50.0,
        },
        "detector": [{"name": "haadf", "driver": "fake"}],
        "beam": {
            "driver": "fake",
            "energy_kV": 60.0,
            "semiangle_mrad": 30.0,
            "current_pA": 20.0,
            "current_upper_pA": 20.0,
        },
        "limits": {
            "max_local_dose_e_per_A2": 1e6,
            "max_total_dose_e_per_A2": 1e5,
            "max_duration_s": 3600.0,
            "max_stationary_probe_ms": 10.0,
            "min_free_disk_gb": 2.0,
            "call_deadline_s": 1.0,
            "park_step_s": 0.2,
            "guardian_s": 0.5,
        },
    }
    for name, table in tables.items():
        base[name] = {**base.get(name, {}), **table}
    return InstrumentConfig.model_validate(base)


def sub_scan(
    name: str = "s000001", center_nm: tuple[float, float] = (0.0, 0.0), **changes: Any
) -> SubScan:
    """Return a sub-scan of 2 x 2 nm with 8 x 8 positions of 10 µs, with changes."""
    values: dict[str, Any] = {"fov_nm": (2.0, 2.0), "shape": (8, 8), "dwell_us": 10.0}
    return SubScan(name, center_nm, **{**values, **changes})


coordinates = st.floats(-1e4, 1e4, allow_nan=False)
sizes = st.floats(1e-3, 1e3)


@st.composite
def sub_scans(draw: st.DrawFn) -> SubScan:
    """Any sub-scan."""
    return SubScan(
        id=draw(st.text(min_size=1, max_size=8)),
        center_nm=(draw(coordinates), draw(coordinates)),
        fov_nm=(draw(sizes), draw(sizes)),
        shape=(draw(st.integers(1, 4096)), draw(st.integers(1, 4096))),
        dwell_us=draw(st.floats(1e-3, 1e6)),
        rotation_deg=draw(st.floats(-720, 720)),
    )


regions = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=6).map(
    lambda corners: Region(tuple(corners))
)
any_float = st.floats(allow_nan=True, allow_infinity=True)
