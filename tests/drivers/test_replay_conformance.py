"""The replay driver passes what every instrument driver must, on images and on 4-D frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.clock import RealClock
from drivers.instrument import InstrumentConfig
from drivers.replay import DRIVER
from tests.conformance.suite import DEADLINE_S, InstrumentConformance, Rig, acquire, connected
from tests.drivers.replay_files import FRAME_SHAPE, instrument, save_npy

FIELD_NM = (20.0, 30.0)
ADF = np.random.default_rng(1).random((40, 60))
FRAMES = np.random.default_rng(2).integers(0, 50, (20, 30, *FRAME_SHAPE)).astype(np.uint16)


def rig_of(config: InstrumentConfig) -> Rig:
    """Return the rig of an instrument in this process."""
    return Rig(
        open=lambda: DRIVER.open(config, RealClock()),
        emergency=lambda: DRIVER.emergency(config),
        center_nm=(1.0, -2.0),
    )


def two_channels(tmp_path: Path) -> InstrumentConfig:
    """Return an instrument of two images recorded at once."""
    channels: dict[str, dict[str, Any]] = {
        name: {"path": save_npy(tmp_path / f"{name}.npy", array), "pixel_nm": [0.5, 0.5]}
        for name, array in {"adf": ADF, "abf": 1 - ADF}.items()
    }
    return instrument(channels, field_nm=FIELD_NM, counts_per_unit_per_us=0.1)


class TestReplayOfImages(InstrumentConformance):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Rig:
        return rig_of(two_channels(tmp_path))

    async def test_the_same_sub_scan_brings_the_same_image(self, rig: Rig) -> None:
        seen = []
        for _ in range(2):
            async with connected(rig) as session:
                _, blocks = await acquire(session, rig.sub_scan())
                seen.append(blocks["adf"][0].data)
        assert seen[0].any()
        assert np.array_equal(seen[0], seen[1])

    async def test_with_the_beam_blanked_images_are_dark(self, rig: Rig) -> None:
        async with connected(rig) as session:
            _, blocks = await acquire(session, rig.sub_scan(), unblank=False)
        assert not any(block.data.any() for taken in blocks.values() for block in taken)

    async def test_the_field_is_the_recorded_one(self, rig: Rig) -> None:
        async with connected(rig) as session:
            assert session.scan is not None
            assert session.scan.capabilities.field_nm == FIELD_NM
            state = await session.scan.read_back(deadline_s=DEADLINE_S)
            assert state.field_nm == FIELD_NM


class TestReplayOfFrames(InstrumentConformance):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Rig:
        path = save_npy(tmp_path / "frames.npy", FRAMES)
        detector = {"name": "camera", "kind": "pixelated", "frame_shape": FRAME_SHAPE}
        channels = {"camera": {"path": path, "pixel_nm": [1.0, 1.0]}}
        return rig_of(instrument(channels, [detector], field_nm=FIELD_NM))

    async def test_frames_come_from_where_the_probe_is(self, rig: Rig) -> None:
        sub_scan = rig.sub_scan()
        async with connected(rig) as session:
            _, blocks = await acquire(session, sub_scan)
        seen = np.concatenate([block.data for block in blocks["camera"]])
        y, x = np.moveaxis(
            np.floor(sub_scan.positions_nm() + np.array([10, 15])).astype(int), -1, 0
        )
        assert np.array_equal(seen, FRAMES[y, x].reshape(-1, *FRAME_SHAPE))
