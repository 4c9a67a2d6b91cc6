"""Signals that hold a run: each bad just above its limit, good at it, and told once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.limits import Verdict
from controller.suspenders import (
    Suspender,
    changes,
    check_saturation,
    fast_drift,
    low_disk,
    saturated_fraction,
    silent_operator,
)
from drivers.vocabulary import AnyArray, DetectorInfo, SubScanData
from tests.controller.core_helpers import instrument, sub_scan

LIMITS = instrument(
    limits={
        "min_free_disk_gb": 2.0,
        "max_drift_nm_per_min": 3.0,
        "operator_heartbeat_s": 60.0,
        "max_saturated_fraction": 0.25,
    }
).limits
ABOVE = 1 + 1e-6


def said(suspender: Suspender) -> tuple[str, str] | None:
    verdict = suspender.look()
    return None if verdict is None else (verdict.rule, verdict.action)


def test_a_disk_that_is_nearly_full_holds() -> None:
    assert said(low_disk(lambda: 2e9, LIMITS)) is None
    assert said(low_disk(lambda: 2e9 / ABOVE, LIMITS)) == ("free disk", "hold")


def test_fast_drift_holds_where_there_is_a_limit() -> None:
    assert said(fast_drift(lambda: 3.0, LIMITS)) is None
    assert said(fast_drift(lambda: 3.0 * ABOVE, LIMITS)) == ("drift rate", "hold")
    assert said(fast_drift(lambda: math.nan, LIMITS)) == ("drift rate", "hold")
    assert said(fast_drift(lambda: 1e9, instrument().limits)) is None


def test_an_operator_who_is_needed_may_not_be_silent() -> None:
    assert said(silent_operator(lambda: None, LIMITS)) is None
    assert said(silent_operator(lambda: 60.0, LIMITS)) is None
    assert said(silent_operator(lambda: 60.0 * ABOVE, LIMITS)) == ("operator silent", "hold")


def data(saturation: float | None = 100.0, **frames: AnyArray) -> SubScanData:
    infos = {
        name: DetectorInfo(name, "image", str(array.dtype), saturation=saturation)
        for name, array in frames.items()
    }
    return SubScanData(sub_scan(shape=(2, 4)), frames, infos)


def image(n_saturated: int, dtype: str = "uint16") -> AnyArray:
    values = np.full(8, 99, dtype)
    values[:n_saturated] = 100
    return values.reshape(1, 2, 4)


@given(st.integers(0, 8), st.integers(0, 8))
def test_the_worst_detector_counts(first: int, second: int) -> None:
    assert saturated_fraction(data(a=image(first), b=image(second))) == max(first, second) / 8


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_saturation_trips_above_its_fraction(dtype: str) -> None:
    assert check_saturation(data(a=image(2, dtype)), LIMITS) is None
    verdict = check_saturation(data(a=image(3, dtype)), LIMITS)
    assert verdict is not None
    assert (verdict.rule, verdict.value, verdict.limit) == ("saturated fraction", 0.375, 0.25)


def test_a_detector_without_a_ceiling_never_saturates() -> None:
    assert check_saturation(data(saturation=None, a=image(8)), LIMITS) is None


def switch(name: str, *, bad: bool) -> Suspender:
    return Suspender(name, lambda: Verdict(name, 2.0, 1.0, "", "hold") if bad else None)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.booleans()), st.frozensets(st.sampled_from("abcd"))
)
def test_only_changes_are_told(bad: dict[str, bool], tripped: frozenset[str]) -> None:
    suspenders = [switch(name, bad=is_bad) for name, is_bad in bad.items()]
    newly, recovered = changes(suspenders, tripped)
    assert {suspender.name for suspender, _ in newly} == {
        name for name, is_bad in bad.items() if is_bad and name not in tripped
    }
    assert set(recovered) == {
        name for name, is_bad in bad.items() if not is_bad and name in tripped
    }
