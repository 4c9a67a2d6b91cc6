"""Programs we did not write open an unmodified run file, with the right axes and units.

Their environments are made by ``python tests/peers/make_venv.py``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.export import export_emd
from controller.store import read_sub_scan
from tests.controller.fake_run import FakeRun, full_run

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]
REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHAPE = (8, 6)


def ask(environment: str, code: str, *paths: Path) -> Any:
    """Run code in a peer's environment and return the JSON it prints last."""
    python = REPOSITORY / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{environment} is missing: make it with 'python tests/peers/make_venv.py'")
    command = [str(python), "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


HYPERSPY = """
import json, sys
import hdf5plugin
import hyperspy.api as hs
def tell(signal):
    axes = {a.name: [a.size, a.scale, a.offset, str(a.units)] for a in signal.axes_manager._axes}
    return {
        "type": type(signal).__name__,
        "navigation": [a.name for a in signal.axes_manager.navigation_axes],
        "signal": [a.name for a in signal.axes_manager.signal_axes],
        "axes": axes,
        "dtype": str(signal.data.dtype),
        "sum": float(signal.data.sum()),
    }
shown = hs.load(sys.argv[1], lazy=True, use_default=True)
every = hs.load(sys.argv[1], lazy=True, nxdata_only=True)
print(json.dumps({"default": tell(shown), **{s.metadata.General.title: tell(s) for s in every}}))
"""
LIBERTEM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import libertem.api as lt
from libertem.udf.sum import SumUDF
out = {}
with lt.Context.make_with("inline") as context:
    out["auto"] = list(context.load("auto", sys.argv[1]).shape)
    for name in sys.argv[2:]:
        data = context.load("hdf5", path=sys.argv[1], ds_path=name)
        total = float(context.run_udf(dataset=data, udf=SumUDF())["intensity"].data.sum())
        out[name] = [list(data.shape), data.shape.sig.dims, str(data.dtype), total]
print(json.dumps(out))
"""
PY4DSTEM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import py4DSTEM
cube = py4DSTEM.read(sys.argv[1])
c = cube.calibration
print(json.dumps({
    "type": type(cube).__name__, "shape": cube.data.shape, "sum": float(cube.data.sum()),
    "q": [c.get_Q_pixel_size(), c.get_Q_pixel_units()],
    "r": [c.get_R_pixel_size(), c.get_R_pixel_units()],
}))
"""
EMDFILE = """
import json, sys
import emdfile
array = emdfile.read(sys.argv[1])
print(json.dumps({
    "shape": array.shape, "names": array.dim_names, "units": array.dim_units,
    "pitch": [float(dim[1] - dim[0]) for dim in array.dims], "sum": float(array.data.sum()),
    "ids": array.metadata["probewise"]["sub_scan_ids"],
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """Return a finished run of images and diffraction patterns."""
    with full_run(tmp_path_factory.mktemp("peers"), n=5, camera=True, shape=SHAPE) as made:
        pass
    return made


def total(run: FakeRun, detector: str) -> float:
    """Return the sum of all counts of a detector's sub-scans, as we read them."""
    frames = [read_sub_scan(run.folder, f"s{n:06d}").frames[detector] for n in range(2, 7)]
    return float(np.sum(frames, dtype=np.float64))


def test_hyperspy_opens_the_default_with_calibrated_axes(run: FakeRun) -> None:
    told = ask(".venv-peers", HYPERSPY, run.folder.data)["default"]
    assert told["type"] == "LazySignal2D"
    assert (told["navigation"], told["signal"]) == (["step"], ["x", "y"])
    assert told["axes"]["y"] == [8, pytest.approx(2.5 / 8), pytest.approx(-2.5 / 2 * 7 / 8), "nm"]
    assert told["axes"]["x"] == [6, pytest.approx(2.5 / 6), pytest.approx(-2.5 / 2 * 5 / 6), "nm"]
    assert told["sum"] == total(run, "haadf")


def test_hyperspy_finds_every_image_and_stack(run: FakeRun) -> None:
    told = ask(".venv-peers", HYPERSPY, run.folder.data)
    camera = told["subscans_camera"]
    assert camera["signal"] == ["qx", "qy"]
    assert camera["navigation"] == ["x", "y", "step"]
    assert camera["axes"]["qy"] == [12, pytest.approx(2.0), pytest.approx(-11.0), "mrad"]
    assert camera["axes"]["qx"] == [10, pytest.approx(2.0), pytest.approx(-9.0), "mrad"]
    assert camera["dtype"] == "uint16"
    assert camera["sum"] == total(run, "camera")
    survey = told["survey_haadf"]
    assert survey["axes"]["x"] == [
        128,
        pytest.approx(40 / 128),
        pytest.approx(-20 + 20 / 128),
        "nm",
    ]
    assert told["dose"]["axes"]["y"][1:] == [pytest.approx(0.625), pytest.approx(-19.6875), "nm"]
    assert told["surrogate"]["axes"]["x"][3] == "nm"


def test_hyperspy_opens_a_run_with_a_single_sub_scan(tmp_path: Path) -> None:
    with full_run(tmp_path, n=1, camera=True, shape=SHAPE) as run:
        pass
    told = ask(".venv-peers", HYPERSPY, run.folder.data)
    assert told["default"]["axes"]["y"][3] == "nm"
    assert told["subscans_camera"]["axes"]["qx"][:2] == [10, pytest.approx(2.0)]


def test_hyperspy_opens_a_run_that_is_not_finished(tmp_path: Path) -> None:
    with full_run(tmp_path, n=3, camera=True, shape=SHAPE) as run:
        run.finished = False
    renamed = run.folder.data_part.rename(tmp_path / "copy.nxs")
    assert ask(".venv-peers", HYPERSPY, renamed)["default"]["axes"]["step"][0] == 3


def test_libertem_opens_the_stacks(run: FakeRun) -> None:
    paths = [Path("/entry/subscans_haadf/data"), Path("/entry/subscans_camera/data")]
    told = ask(".venv-peers", LIBERTEM, run.folder.data, *paths)
    assert told["auto"]
    assert told[str(paths[0])] == [[5, 8, 6], 2, "uint16", total(run, "haadf")]
    assert told[str(paths[1])] == [[5, 8, 6, 12, 10], 2, "uint16", total(run, "camera")]


def test_py4dstem_opens_an_exported_sub_scan(tmp_path: Path, run: FakeRun) -> None:
    target = export_emd(run.folder, tmp_path / "one.emd", "camera", sub_scan_id="s000003")
    told = ask(".venv-peers-py4dstem", PY4DSTEM, target)
    frames = read_sub_scan(run.folder, "s000003").frames["camera"]
    assert (told["type"], told["shape"]) == ("DataCube", [8, 6, 12, 10])
    assert told["q"] == [2.0, "mrad"]
    assert told["r"] == [pytest.approx(2.5 / 6), "nm"]
    assert told["sum"] == float(frames.sum(dtype=np.float64))


def test_emdfile_opens_an_exported_stack(tmp_path: Path, run: FakeRun) -> None:
    told = ask(".venv-peers", EMDFILE, export_emd(run.folder, tmp_path / "all.emd", "camera"))
    assert told["shape"] == [5, 8, 6, 12, 10]
    assert told["names"] == ["step", "y", "x", "qy", "qx"]
    assert told["units"] == ["", "nm", "nm", "mrad", "mrad"]
    assert told["pitch"][1:] == pytest.approx([2.5 / 8, 2.5 / 6, 2.0, 2.0])
    assert told["sum"] == total(run, "camera")
    assert told["ids"] == ",".join(f"s{n:06d}" for n in range(2, 7))
