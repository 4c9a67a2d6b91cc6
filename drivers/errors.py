"""What can go wrong with an instrument, as types a caller can tell apart."""

from __future__ import annotations


class DriverError(Exception):
    """Something about the instrument failed."""


class DriverTimeout(DriverError):
    """An answer did not come in time."""

    def __init__(self, what: str, waited_s: float) -> None:
        super().__init__(f"{what}: no answer after {waited_s:.3g} s")
        self.what = what
        self.waited_s = waited_s


class DriverDisconnected(DriverError):
    """The peer closed the connection or was never there."""


class DriverRefused(DriverError):
    """The instrument understood the request and said no."""


class DriverUnavailable(DriverError):
    """The driver, or a program or package it needs, is not installed."""


class BadFrame(DriverError):
    """A detector delivered a frame that can't be used: wrong shape, wrong count, not finite."""

    def __init__(self, detector: str, sub_scan_id: str, why: str) -> None:
        super().__init__(f"detector '{detector}', sub-scan {sub_scan_id}: {why}")
        self.detector = detector
        self.sub_scan_id = sub_scan_id
        self.why = why


class BadRecording(DriverError):
    """A data file is missing, corrupt, or not what the instrument file says."""
