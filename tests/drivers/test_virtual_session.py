"""The virtual microscope as an instrument: conformance, virtual time, faults, its files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from drivers.clock import RealClock
from drivers.emulator.driver import EmulatedDriver
from drivers.errors import DriverRefused
from drivers.instrument import InstrumentConfig
from drivers.virtual import DRIVER, SimulatedScene, read_settings
from drivers.vocabulary import SubScan
from sim.clock import VirtualClock
from sim.scanner import beam_on_s
from tests.conformance.suite import DEADLINE_S, InstrumentConformance, Rig, acquire, connected
from tests.drivers.test_virtual import instrument

FILES = sorted((Path(__file__).parents[2] / "configs" / "instruments").glob("virtual-*.toml"))


class TestVirtualMicroscope(InstrumentConformance):
    @pytest.fixture
    def rig(self) -> Rig:
        config = instrument("virtual-conformance")
        return Rig(
            open=lambda: DRIVER.open(config, RealClock()),
            emergency=lambda: DRIVER.emergency(config),
            center_nm=(0.5, -1.0),
        )


def rig_on(clock: VirtualClock, config: InstrumentConfig) -> Rig:
    return Rig(open=lambda: DRIVER.open(config, clock), emergency=lambda: DRIVER.emergency(config))


async def test_half_an_hour_of_scanning_passes_on_the_virtual_clock_alone() -> None:
    clock, config = VirtualClock(), instrument("virtual-hours")
    rig = rig_on(clock, config)
    each_s = beam_on_s((8, 12), 9e6 / 96, settle_us=100, flyback_us=50)
    async with connected(rig) as session:
        for number in range(200):
            began_s = clock.now()
            receipt, blocks = await acquire(session, rig.sub_scan(f"s-{number}", seconds=9.0))
            assert receipt.completed
            assert receipt.beam_on_s == pytest.approx(each_s, abs=1e-6)
            assert clock.now() - began_s == pytest.approx(each_s, abs=1e-3)
            assert set(blocks) == {"haadf", "maadf", "bf"}
    assert clock.now() > 1800


async def test_what_arrives_is_what_the_scene_renders() -> None:
    config = instrument("virtual-same")
    rig = rig_on(VirtualClock(), config)
    scan = rig.sub_scan()
    async with connected(rig) as session:
        _, blocks = await acquire(session, scan)
    expected = SimulatedScene(config).image(scan, "maadf", current_pA=30.0, time_s=0.0)
    assert np.array_equal(blocks["maadf"][0].data, expected[None])


async def test_a_planned_fault_happens_at_its_call() -> None:
    fault = {"kind": "raise", "where": "scan", "nth": 2}
    rig = rig_on(VirtualClock(), instrument("virtual-faulty", faults=[fault]))
    async with connected(rig) as session:
        assert session.scan is not None
        await acquire(session, rig.sub_scan("s-1"))
        with pytest.raises(DriverRefused):
            await session.scan.scan(rig.sub_scan("s-2"), deadline_s=DEADLINE_S)


def test_it_can_be_served_by_a_process_of_its_own(tmp_path: Path) -> None:
    assert isinstance(DRIVER, EmulatedDriver)
    log = tmp_path / "exposures.jsonl"
    room = DRIVER.room(instrument("virtual-served"), VirtualClock(), log)
    room.close()
    assert log.exists()


def test_there_are_three_instrument_files() -> None:
    assert [path.stem for path in FILES] == [
        "virtual-batio3", "virtual-graphene", "virtual-ws2-wse2",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_instrument_files_are_complete_and_sensible(path: Path) -> None:
    config = InstrumentConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    assert config.instrument.name == path.stem
    assert config.instrument.virtual
    assert config.driver_names() == ("virtual",)
    assert len(config.detector) == 2
    assert config.beam.current_pA is not None
    assert config.beam.upper_pA >= config.beam.current_pA
    scene = SimulatedScene(config)
    assert scene.probe.fwhm_nm() == pytest.approx(config.beam.probe_size_nm, rel=0.1)
    truth = DRIVER.truth(config)
    assert len(truth.targets_nm) > 10
    assert np.all(np.abs(truth.targets_nm) <= np.asarray(config.scan.field_nm) / 2)
    assert read_settings(config).specimen.kind.replace("_", "-") in path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_short_survey_shows_the_lattice(path: Path) -> None:
    """Counts far from empty, far from saturated, and structure well above shot noise."""
    config = InstrumentConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    scene = SimulatedScene(config)
    field = config.scan.field_nm
    scan = SubScan("survey", (0.0, 0.0), field, (256, 256), dwell_us=40.0)
    current_pA = config.beam.current_pA or 0.0
    for name in scene.detectors:
        seen = scene.image(scan, name, current_pA=current_pA, time_s=0.0).astype(float)
        assert seen.mean() > 0.5
        assert seen.var() > 1.2 * seen.mean()
