"""The driver `replay`: recorded images and 4-D sets behave as a live microscope."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from drivers.emulator.emergency import EmulatedEmergency
from drivers.emulator.room import Room
from drivers.emulator.session import EmulatedSession
from drivers.errors import BadRecording
from drivers.instrument import InstrumentConfig
from drivers.protocols import Emergency, Session
from drivers.replay.readers import open_recording, resolve
from drivers.replay.recording import Recording
from drivers.replay.scene import Noise, RecordedScene
from drivers.replay.settings import ReplaySettings
from drivers.replay.truth import find_truth
from drivers.vocabulary import Clock, Truth

__all__ = ["DRIVER", "ReplayDriver", "load_channels", "load_scene"]


def settings_of(instrument: InstrumentConfig) -> ReplaySettings:
    """Return the ``[drivers.replay]`` table of an instrument file.

    Raises
    ------
    BadRecording
        If it is missing or wrong; the message lists every wrong key.
    """
    try:
        return ReplaySettings.model_validate(instrument.drivers.get("replay", {}))
    except ValidationError as error:
        where = f"[drivers.replay] of instrument '{instrument.instrument.name}'"
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'channels'}: {one['msg']}"
            for one in error.errors()
        )
        raise BadRecording(f"{where}: {wrong}") from error


def load_channels(settings: ReplaySettings) -> dict[str, Recording]:
    """Open every recorded channel.

    Raises
    ------
    BadRecording, DriverUnavailable
        As `open_recording`.
    """
    return {
        name: open_recording(
            resolve(channel.path),
            dataset=channel.dataset,
            pixel_nm=channel.pixel_nm,
            scan_shape=channel.scan_shape,
        )
        for name, channel in settings.channels.items()
    }


def load_scene(instrument: InstrumentConfig) -> RecordedScene:
    """Open what an instrument file replays.

    Raises
    ------
    BadRecording, DriverUnavailable
        If a file is missing, corrupt or not what the instrument file says.
    """
    settings = settings_of(instrument)
    noise = Noise(settings.seed, settings.counts_per_unit_per_us)
    return RecordedScene(instrument, load_channels(settings), noise)


class ReplayDriver:
    """Recorded data served as if they were being acquired now."""

    name = "replay"
    summary = "recorded images and 4-D sets, scanned as if they were live"
    emulated = True
    settings = ReplaySettings

    def open(self, instrument: InstrumentConfig, clock: Clock) -> Session:
        """Return a session, not yet connected, in this process."""
        return EmulatedSession(instrument, lambda: self.room(instrument, clock), driver=self.name)

    def emergency(self, instrument: InstrumentConfig) -> Emergency:
        """Return the way to park the instrument of this name that lives in this process."""
        return EmulatedEmergency(instrument)

    def room(
        self, instrument: InstrumentConfig, clock: Clock, exposure_log: Path | None = None
    ) -> Room:
        """Build the instrument: blanked, parked, leased to nobody.

        Raises
        ------
        BadRecording, DriverUnavailable
            If a recording can't be read.
        """
        return Room(
            instrument,
            load_scene(instrument),
            clock,
            exposure_log=exposure_log,
            prerender=settings_of(instrument).prerender,
        )

    def truth(self, instrument: InstrumentConfig) -> Truth | None:
        """Return the targets that the settings name, if any."""
        settings = settings_of(instrument)
        if settings.truth is None:
            return None
        return find_truth(settings.truth, load_channels(settings))


DRIVER = ReplayDriver()
