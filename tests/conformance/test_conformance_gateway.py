"""The emulated instrument in a process of its own passes the suite over the gateway wire."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.clock import RealClock
from drivers.gateway import DRIVER
from drivers.serve import ServedInstrument, spawn
from tests.conformance.scenes import instrument
from tests.conformance.suite import InstrumentConformance, Rig

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("serve_scene.py")))


def rig_of(served: ServedInstrument) -> Rig:
    config, clock = instrument().served_by_gateway(served.endpoint), RealClock()
    return Rig(open=lambda: DRIVER.open(config, clock), emergency=lambda: DRIVER.emergency(config))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedInstrument]:
    folder = tmp_path_factory.mktemp("served")
    served = spawn(instrument(), folder, folder / "exposures.jsonl", command=COMMAND)
    yield served
    served.end()


class TestGateway(InstrumentConformance):
    @pytest.fixture
    def rig(self, served: ServedInstrument) -> Rig:
        return rig_of(served)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_machine_that_vanishes_raises(tmp_path: Path, how: signal.Signals) -> None:
    served = spawn(instrument(), tmp_path, tmp_path / "exposures.jsonl", command=COMMAND)
    rig = rig_of(served)
    rig.kill = lambda: os.kill(served.pid, how)
    try:
        await TestGateway().test_a_machine_that_vanishes_raises(rig)
    finally:
        os.kill(served.pid, signal.SIGCONT)
        served.end()
