"""Recorded channels, matched with the detectors of an instrument file that show them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import constants

from drivers.errors import BadRecording
from drivers.instrument import DetectorPart, InstrumentConfig
from drivers.replay.checks import bad
from drivers.replay.recording import Recording, require_finite
from drivers.vocabulary import AnyArray, Calibration, DetectorInfo, FloatArray, NmPair


def describe(
    part: DetectorPart, recording: Recording, instrument: InstrumentConfig
) -> DetectorInfo:
    """Return what a detector that shows this recording delivers.

    Without a ``dtype`` in the instrument file frames keep the recorded type, and images come in
    the smallest floating type that holds every recorded value and their averages.
    """
    natural = recording.dtype
    if recording.image is not None:
        natural = np.result_type(natural, np.float32)
    nominal = instrument.calibration
    calibration = Calibration(
        mrad_per_px=part.mrad_per_px or _mrad_per_px(recording, instrument.beam.energy_kV),
        rotation_deg=part.rotation_deg,
        flip=part.flip,
        scan_scale=nominal.scan_scale,
        source=nominal.source,
        date=nominal.date,
    )
    return DetectorInfo(
        name=part.name,
        kind=part.kind,
        dtype=part.dtype or natural.name,
        frame_shape=part.frame_shape if part.kind == "pixelated" else None,
        saturation=part.saturation,
        unit=recording.unit or "counts",
        calibration=calibration,
    )


def digitise(values: FloatArray, info: DetectorInfo) -> AnyArray:
    """Convert values to the detector's dtype: clipped at its saturation, rounded for integers."""
    dtype = np.dtype(info.dtype)
    if info.saturation is not None:
        values = np.minimum(values, info.saturation)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.rint(np.clip(values, limits.min, limits.max)).astype(dtype)
    return values.astype(dtype)


def wavelength_A(energy_kV: float) -> float:
    """Return the relativistic wavelength of an electron in Å.

    λ = h c / sqrt(E (E + 2 m c²)), e.g. Kirkland, Advanced Computing in Electron Microscopy, 2nd
    ed., eq. 2.5.
    """
    energy_J = energy_kV * 1e3 * constants.e
    rest_J = constants.m_e * constants.c**2
    momentum = np.sqrt(energy_J * (energy_J + 2 * rest_J))
    return float(constants.h * constants.c / momentum * 1e10)


def _mrad_per_px(recording: Recording, energy_kV: float) -> float | None:
    """Return the scattering angle per frame pixel that the file gives, if it does."""
    if recording.frames is None:
        return None
    scales = recording.scales
    if scales.mrad_per_px is not None or scales.inv_A_per_px is None:
        return scales.mrad_per_px
    return 1e3 * wavelength_A(energy_kV) * scales.inv_A_per_px


def common_field(channels: Mapping[str, Recording]) -> NmPair:
    """Return the field of all channels, or say which two differ."""
    named = iter(channels.items())
    first_name, first = next(named)
    for name, other in named:
        for axis in (0, 1):
            slack = max(first.pixel_nm[axis], other.pixel_nm[axis]) / 2
            if abs(first.field_nm[axis] - other.field_nm[axis]) > slack:
                one, two = first.field_nm, other.field_nm
                why = f"channel '{name}' covers {two[0]:.5g} x {two[1]:.5g} nm"
                why += f", channel '{first_name}' {one[0]:.5g} x {one[1]:.5g} nm"
                raise bad(other.path, why, "give channels of one field, or correct pixel_nm")
    fields = [recording.field_nm for recording in channels.values()]
    return min(y for y, _ in fields), min(x for _, x in fields)


def channel_of(part: DetectorPart, channels: Mapping[str, Recording]) -> Recording:
    """Return the recording a detector shows, checked against what the detector says of itself."""
    name = part.channel or part.name
    if name not in channels:
        known = ", ".join(channels)
        where = f"detector '{part.name}' shows channel '{name}', which is not recorded"
        raise BadRecording(f"{where}; set channel to one of: {known}")
    recording = channels[name]
    kind = "image" if recording.frames is None else "pixelated"
    if part.kind != kind:
        why = f"channel '{name}' is of kind {kind}, detector '{part.name}' says {part.kind}"
        raise bad(recording.path, why, f'set kind = "{kind}"')
    if recording.frames is not None and part.frame_shape != recording.frames.shape[1:]:
        why = f"frames are {recording.frames.shape[1:]}, detector says {part.frame_shape}"
        raise bad(recording.path, why, f"set frame_shape = {list(recording.frames.shape[1:])}")
    whole = part.dtype not in (None, "float32")
    float_frames = recording.frames is not None and recording.dtype.kind == "f"
    if (require_finite(recording) or float_frames) and whole:
        why = f"it can hold values that are not finite, which {part.dtype} can't carry"
        raise bad(recording.path, why, f"leave dtype out for detector '{part.name}'")
    return recording
