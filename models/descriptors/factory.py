"""Describers by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from models.descriptors.channel import ChannelDescriber
from models.descriptors.null import NullDescriber
from models.descriptors.protocols import Describer

DESCRIBERS: dict[str, tuple[str, ...]] = {
    "linear": ("detector", "n_components", "sub_scan_shape", "max_order", "features"),
    "channel": ("detector",),
    "null": (),
}
"""Known describers and the options each takes."""


def make_describer(kind: str, options: Mapping[str, object] | None = None) -> Describer:
    """Make a describer.

    Parameters
    ----------
    kind : {"linear", "channel", "null"}
    options : mapping, optional
        linear: ``detector``, ``n_components``, ``sub_scan_shape`` (ny, nx), ``max_order``,
        ``features`` ("amplitudes" or "phases"); channel: ``detector``.

    Raises
    ------
    ValueError
        If the kind or an option is unknown, or of the wrong type.
    """
    options = dict(options or {})
    if kind not in DESCRIBERS:
        close = difflib.get_close_matches(kind, DESCRIBERS, 1, 0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown descriptor {kind!r}: known are {', '.join(DESCRIBERS)}{hint}")
    unknown = sorted(set(options) - set(DESCRIBERS[kind]))
    if unknown:
        raise ValueError(
            f"descriptor {kind}: unknown option {', '.join(unknown)}; "
            f"it takes {', '.join(DESCRIBERS[kind]) or 'none'}"
        )
    detector = options.get("detector")
    if detector is not None and not isinstance(detector, str):
        raise ValueError(f"descriptor {kind}: detector is {detector!r}; it must be a name")
    if kind == "null":
        return NullDescriber()
    if kind == "channel":
        return ChannelDescriber(detector or "")
    from models.descriptors.linear import LinearDescriber

    return LinearDescriber(
        detector,
        _whole(options.get("n_components", 4), "n_components"),
        _shape(options.get("sub_scan_shape")),
        _whole(options.get("max_order", 16), "max_order"),
        str(options.get("features", "amplitudes")),
    )


def _whole(value: object, name: str) -> int:
    """Return a whole number, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"descriptor linear: {name} is {value!r}; it must be a whole number")
    return value


def _shape(value: object) -> tuple[int, int] | None:
    """Return a (ny, nx) pair or None, or raise ValueError."""
    if value is None:
        return None
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return _whole(value[0], "sub_scan_shape"), _whole(value[1], "sub_scan_shape")
    raise ValueError(f"descriptor linear: sub_scan_shape is {value!r}; it must be (ny, nx)")
