"""Load the large libraries once, and keep the garbage collector and BLAS from wasting time."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import botorch  # noqa: F401
import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def light_footprint() -> Iterator[None]:
    """Spare each collection the walk through PyTorch, and small matrices the threads of BLAS."""
    gc.collect()
    gc.freeze()
    with threadpool_limits(1):
        yield
    gc.unfreeze()
