"""The emulated instrument in process passes the conformance suite."""

from __future__ import annotations

import pytest

from drivers.clock import RealClock
from tests.conformance.scenes import SceneDriver, instrument
from tests.conformance.suite import InstrumentConformance, Rig


class TestEmulatorInProcess(InstrumentConformance):
    @pytest.fixture
    def rig(self) -> Rig:
        config, driver, clock = instrument(), SceneDriver(), RealClock()
        return Rig(
            open=lambda: driver.open(config, clock), emergency=lambda: driver.emergency(config)
        )
