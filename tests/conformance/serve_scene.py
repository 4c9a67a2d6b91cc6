"""Serves an instrument over `MarkedScene` as a process of its own, for tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drivers.serve.instrument import main
from tests.conformance.scenes import SceneDriver

if __name__ == "__main__":
    main(driver=SceneDriver(prerender=os.environ.get("PROBEWISE_TEST_PRERENDER") == "1"))
