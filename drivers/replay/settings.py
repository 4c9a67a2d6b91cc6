"""``[drivers.replay]``: which files are replayed, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from drivers.instrument import Part, PositivePair


class ChannelSettings(Part):
    """``[drivers.replay.channels.<name>]``: one recorded channel."""

    path: str
    """The file; ``${PROBEWISE_DATA}`` stands for the folder of recorded data."""
    dataset: str | None = None
    """Which dataset of a file that holds several."""
    pixel_nm: PositivePair | None = None
    """Pitch of the recorded positions, (y, x); the file's own when not given."""
    scan_shape: tuple[PositiveInt, PositiveInt] | None = None
    """Recorded (rows, columns), for a file that holds a stack of frames."""


class TopFraction(Part):
    """Targets are the recorded pixels with the highest values of a channel."""

    kind: Literal["top_fraction"]
    channel: str
    fraction: float = Field(gt=0, lt=1)
    label: str


class Coordinates(Part):
    """Targets are listed in a file: CSV with a heading, or npy with rows of (y, x)."""

    kind: Literal["coordinates"]
    path: str
    columns: tuple[str, str] = ("Y", "X")
    """Headings of y and x in a CSV file."""
    unit: Literal["px", "nm"] = "px"
    """Recorded pixels counted from the centre of the top left one, or scan coordinates in nm."""
    label: str


class ReplaySettings(Part):
    """``[drivers.replay]``: the settings of the replay driver."""

    channels: dict[str, ChannelSettings] = Field(min_length=1)
    """What was recorded, by the name detectors call it by; all on one field."""
    seed: int = 0
    """Seed of the counting noise."""
    counts_per_unit_per_us: PositiveFloat | None = None
    """Expected counts per recorded unit and µs; without it values come as recorded."""
    prerender: bool = False
    """Render images when a detector is armed: for measuring what the controller adds."""
    truth: Annotated[TopFraction | Coordinates, Field(discriminator="kind")] | None = None
    """What counts as a target, where that is known: for judging a run."""
