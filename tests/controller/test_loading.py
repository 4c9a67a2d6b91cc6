"""Reading configuration files: what is accepted, and where values come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.config import RunConfig
from controller.loading import ConfigError, load_experiment, load_instrument
from controller.phases import Autonomy
from tests.controller.config_files import INSTRUMENT, load, write_files

EXPERIMENTS = sorted((Path(__file__).resolve().parents[2] / "configs/experiments").glob("*.toml"))


def test_experiment_and_instrument_are_read_whole(tmp_path: Path) -> None:
    config = load(tmp_path, (("[budget]", '[autonomy]\nmode = "advise"\n\n[budget]'),))
    assert config.experiment.experiment.name == "trial"
    assert config.experiment.sub_scan.shape == (32, 32)
    assert config.experiment.autonomy.mode is Autonomy.ADVISE
    assert config.instrument.scan.field_nm == (20.0, 20.0)
    assert [part.name for part in config.instrument.detector] == ["haadf", "maadf"]
    assert config.instrument.drivers["virtual"]["specimen"] == {"kind": "graphene"}
    assert config.sources["experiment"] == str(tmp_path / "trial.toml")
    assert config.sources["instrument"] == str(tmp_path / "bench.toml")


def test_a_loaded_configuration_survives_a_round_trip_through_a_manifest(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_instrument_path_is_relative_to_the_experiment_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    path = write_files(tmp_path, (("bench.toml", "../bench.toml"),))
    moved = path.rename(tmp_path / "experiments" / "trial.toml")
    monkeypatch.chdir(tmp_path / "experiments")
    assert load_experiment(moved.name).instrument.instrument.name == "bench"
    assert load_experiment(moved).sources["instrument"] == str(tmp_path / "bench.toml")


def value_at(config: RunConfig, path: str) -> object:
    """Return what stands at a dotted path of attributes, keys and indices."""
    node: Any = config
    for part in path.split("."):
        if isinstance(node, tuple):
            node = node[int(part)]
        else:
            node = node.get(part) if isinstance(node, dict) else getattr(node, part)
    return node


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("sub_scan.dwell_us=8", "experiment.sub_scan.dwell_us", 8.0),
        ("budget.dose_cell_nm=1e-1", "experiment.budget.dose_cell_nm", 0.1),
        ("sub_scan.shape=[8, 16]", "experiment.sub_scan.shape", (8, 16)),
        ("experiment.operator=Grace Hopper", "experiment.experiment.operator", "Grace Hopper"),
        ('experiment.operator="1e3"', "experiment.experiment.operator", "1e3"),
        ("budget.budget_is_the_end=false", "experiment.budget.budget_is_the_end", False),
        ("planner.options.n_initial=5", "experiment.planner.options", {"n_initial": 5}),
        ("instrument.beam.current_upper_pA=15", "instrument.beam.upper_pA", 15.0),
        ("instrument.instrument.name=other", "instrument.instrument.name", "other"),
        ("instrument.detector.1.name=adf", "instrument.detector.1.name", "adf"),
        ("instrument.drivers.virtual.seed=7", "instrument.drivers.virtual.seed", 7),
    ],
)
def test_assignments_lie_over_the_files(
    tmp_path: Path, assignment: str, path: str, value: object
) -> None:
    assert value_at(load(tmp_path), path) != value
    config = load(tmp_path, sets=(assignment,))
    assert value_at(config, path) == value
    assert config.sources["set 1"] == assignment


def test_a_later_assignment_wins(tmp_path: Path) -> None:
    config = load(tmp_path, sets=("sub_scan.dwell_us=8", "sub_scan.dwell_us=9"))
    assert config.experiment.sub_scan.dwell_us == 9.0


def test_instrument_file_alone_takes_assignments_with_and_without_prefix(tmp_path: Path) -> None:
    write_files(tmp_path)
    sets = ("limits.max_duration_s=60", "instrument.beam.current_pA=3", "instrument.name=solo")
    config = load_instrument(tmp_path / "bench.toml", sets)
    assert config.limits.max_duration_s == 60.0
    assert config.beam.current_pA == 3.0
    assert config.instrument.name == "solo"


def test_paths_in_driver_settings_are_relative_to_the_instrument_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = INSTRUMENT[: INSTRUMENT.index("[drivers")].replace('"virtual"', '"replay"')
    absolute = (tmp_path / "elsewhere" / "c.npy").as_posix()
    text += (
        '[drivers.replay.channels.haadf]\npath = "data/a.npy"\n'
        '[drivers.replay.channels.maadf]\npath = "${PROBEWISE_DATA}/b.npy"\n'
        f'[drivers.replay.channels.other]\npath = "{absolute}"\n'
        '[drivers.replay.truth]\nkind = "coordinates"\npath = "../t.csv"\nlabel = "atoms"\n'
    )
    folder = tmp_path / "instruments"
    folder.mkdir()
    (folder / "bench.toml").write_text(text)
    monkeypatch.chdir("/")
    settings = load_instrument(folder / "bench.toml").drivers["replay"]
    paths = {name: channel["path"] for name, channel in settings["channels"].items()}
    assert paths == {
        "haadf": str(folder / "data" / "a.npy"),
        "maadf": "${PROBEWISE_DATA}/b.npy",
        "other": absolute,
    }
    assert settings["truth"]["path"] == str(tmp_path / "t.csv")


def test_dates_may_be_written_without_quotes(tmp_path: Path) -> None:
    dated = '[calibration]\nsource = "grating"\ndate = 2026-03-01\n\n[drivers.virtual]'
    config = load(tmp_path, instrument=(("[drivers.virtual]", dated),))
    assert config.instrument.calibration.date == "2026-03-01"


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    path = write_files(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_experiment(path).experiment.experiment.name == "trial"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_shipped_experiments_load(path: Path, real_data: Callable[[str], Path]) -> None:
    config = load_experiment(path)
    channels = config.instrument.drivers.get("replay", {}).get("channels", {})
    for channel in channels.values():
        real_data(channel["path"].replace("${PROBEWISE_DATA}/", ""))
    assert config.instrument.instrument.virtual
    assert config.survey_detectors()


def test_all_shipped_experiments_are_found() -> None:
    names = {path.stem for path in EXPERIMENTS}
    assert names >= {"demo", "batio3-domains", "ws2-wse2", "cuzn", "graphene-gb", "mos2", "srtio3"}


def test_reading_configurations_loads_no_heavy_package() -> None:
    code = (
        "import sys, controller.loading, controller.preflight, controller.schema\n"
        "import controller.candidates, controller.doctor\n"
        "heavy = {'torch', 'botorch', 'gpytorch', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_missing_files_are_named_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path / 'none.toml'}: there is no such file"
    path = write_files(tmp_path)
    (tmp_path / "bench.toml").unlink()
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    target = tmp_path / "bench.toml"
    assert str(caught.value) == f"{path}:3: experiment.instrument: there is no file {target}"
    with pytest.raises(ConfigError, match="Is a directory"):
        load_instrument(tmp_path)
