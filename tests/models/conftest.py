"""Load the large libraries once, and keep the garbage collector off what they leave."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import botorch  # noqa: F401
import pytest


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> Iterator[None]:
    """Spare each test's collection the walk through the modules of PyTorch."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
