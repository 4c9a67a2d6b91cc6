"""What is wrong with configuration files is said all at once, with file, line and key."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from controller.consistency import ACQUISITIONS, OBJECTIVES
from controller.loading import ConfigError, Problem, load_instrument
from models.decision.objectives import make_objective
from tests.controller.config_files import EXPERIMENT, INSTRUMENT, line_of, load, write_files

Change = tuple[str, str]


def problems(
    folder: Path,
    *experiment: Change,
    instrument: tuple[Change, ...] = (),
    sets: tuple[str, ...] = (),
) -> list[Problem]:
    """Load changed files, which must fail, and return what is said."""
    with pytest.raises(ConfigError) as caught:
        load(folder, experiment, instrument, sets)
    assert caught.value.problems
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("dwell_us = 4.0", "dwel_us = 4.0", "sub_scan.dwel_us",
         "unknown key (got 4.0), did you mean 'dwell_us'?"),
        ("dwell_us = 4.0", "", "sub_scan.dwell_us", "is missing, and has no default"),
        ("dwell_us = 4.0", 'dwell_us = "4.0"', "sub_scan.dwell_us",
         'must be a number (got "4.0")'),
        ("dwell_us = 4.0", "dwell_us = true", "sub_scan.dwell_us", "must be a number (got true)"),
        ("dwell_us = 4.0", "dwell_us = -1", "sub_scan.dwell_us",
         "must be greater than 0 (got -1)"),
        ("dwell_us = 4.0", "dwell_us = nan", "sub_scan.dwell_us",
         "must be a finite number"),
        ("dwell_us = 4.0", "dwell_us = inf", "sub_scan.dwell_us", "must be a finite number"),
        ("shape = [32, 32]", "shape = [32]", "sub_scan.shape[1]",
         "is missing, and has no default"),
        ("shape = [32, 32]", "shape = [32, 1.5]", "sub_scan.shape[1]",
         "must be a whole number (got 1.5)"),
        ("shape = [32, 32]", "shape = 32", "sub_scan.shape", "must be a list (got 32)"),
        ("shape = [32, 32]", "shape = [32, 32, 32]", "sub_scan.shape",
         "must have at most 2 entries, not 3 (got [32, 32, 32])"),
        ('name = "trial"', 'name = "1 trial"', "experiment.name",
         "must begin with a letter and have only letters, digits, '_' and '-' (got \"1 trial\")"),
        ('name = "trial"', "name = 3", "experiment.name", "must be text in quotes (got 3)"),
        ("[candidates]", '[autonomy]\nmode = "advice"\n[candidates]', "autonomy.mode",
         "must be one of auto, advise, manual (got \"advice\"), did you mean 'advise'?"),
        ("[candidates]", "[survey.extra]\n[candidates]", "survey.extra",
         "unknown key; known: detectors, dwell_us, enabled, fov_nm, max_dose_e_per_A2, shape"),
        ("n_sub_scans = 20", "n_sub_scans = 20\nbudget_is_the_end = 1", "budget.budget_is_the_end",
         "must be true or false (got 1)"),
        ("[objective]", "[planner]\nparams = { beta = [1] }\n[objective]", "planner.params.beta",
         "must be a number (got [1])"),
        ("[objective]", "[descriptor]\noptions = { n_components = [3] }\n[objective]",
         "descriptor.options.n_components",
         "must be a number or a whole number or text in quotes or true or false (got [3])"),
        ('name = "variance"', 'name = "varience"', "objective.name",
         "there is no objective 'varience', did you mean 'variance'?"),
        ('name = "variance"', 'name = "variance"\nparams = { componant = 1 }', "objective.params",
         "objective variance: unknown parameter componant; it takes component, sign"),
        ("[objective]", '[planner]\nkind = "botoch"\n[objective]', "planner.kind",
         "there is no planner 'botoch', did you mean 'botorch'?"),
        ("[objective]", '[planner]\nacquisition = "uct"\n[objective]', "planner.acquisition",
         "there is no acquisition 'uct', did you mean 'ucb'?"),
        ("[objective]", "[planner]\nparams = { bta = 2.0 }\n[objective]", "planner.params.bta",
         "acquisition 'ucb' takes no such parameter, did you mean 'beta'?"),
        ("[objective]", "[planner]\noptions = { n_inital = 4 }\n[objective]",
         "planner.options.n_inital",
         "planner 'botorch' takes no such option, did you mean 'n_initial'?"),
        ("[objective]", '[descriptor]\nkind = "linaer"\n[objective]', "descriptor.kind",
         "there is no descriptor 'linaer', did you mean 'linear'?"),
        ("[objective]", '[descriptor]\nkind = "channel"\n[objective]', "objective.name",
         "'variance' needs numbers of the descriptor 'linear', but descriptor.kind is 'channel'"),
        ("[survey]", "[survey]\nenabled = false", "descriptor.kind",
         "'linear' is fitted on the survey of detector 'haadf', which is not recorded: survey "
         "with it, or use 'channel'"),
        ("[survey]", '[survey]\ndetectors = ["haadf", "hadf"]', "survey.detectors[1]",
         "the instrument has no detector 'hadf', did you mean 'haadf'?"),
        ("[sub_scan]", "[sub_scan]\ndetectors = []", "sub_scan.detectors",
         "names no detector; known: haadf, maadf"),
        ("[sub_scan]", '[sub_scan]\ndetectors = ["haadf", "haadf"]', "sub_scan.detectors[1]",
         "detector 'haadf' is named twice"),
        ("max_local_dose_e_per_A2 = 2.0e4", "max_local_dose_e_per_A2 = 2.0e6",
         "budget.max_local_dose_e_per_A2",
         "2e+06 e/Å² is above the instrument's ceiling limits.max_local_dose_e_per_A2 = 1e+06 "
         "e/Å²"),
        ("n_sub_scans = 20", "n_sub_scans = 20\nmax_duration_s = 7200", "budget.max_duration_s",
         "7200 s is above the instrument's ceiling limits.max_duration_s = 3600 s"),
        ("max_dose_e_per_A2 = 2.0e3", "max_dose_e_per_A2 = 2.0e7", "survey.max_dose_e_per_A2",
         "2e+07 e/Å² is above the instrument's ceiling limits.max_local_dose_e_per_A2 = 1e+06 "
         "e/Å²"),
        ("n_sub_scans = 20", "n_sub_scans = 20\ndose_cell_nm = 3.0", "budget.dose_cell_nm",
         "3 nm is wider than a sub-scan (2 nm): local dose would be understated"),
        ("fov_nm = [2.0, 2.0]", "fov_nm = [2.0, 21.0]", "sub_scan.fov_nm",
         "2 x 21 nm does not fit in the field of 20 x 20 nm"),
        ("margin_nm = 1.0", "margin_nm = 9.5", "candidates",
         "no sub-scan fits: its window of 2 x 2 nm and a margin of 9.5 nm on each side need more "
         "than the field of 20 x 20 nm"),
        ("dwell_us = 4.0", "dwell_us = 0.1", "sub_scan.dwell_us",
         "0.1 µs is outside what the scan generator can do, 0.5 to 20000 µs"),
        ("shape = [256, 256]", "shape = [9999, 9999]", "survey.shape",
         "99980001 positions are more than scan.max_positions = 16777216"),
    ],
)  # fmt: skip
def test_one_mistake_in_the_experiment_file(
    tmp_path: Path, old: str, new: str, key: str, said: str
) -> None:
    (problem,) = problems(tmp_path, (old, new))
    assert (problem.key, problem.message) == (key, said)
    assert problem.file == str(tmp_path / "trial.toml")
    assert_right_line(problem)


def assert_right_line(problem: Problem) -> None:
    """Check that the line has the key or, for what is not there, the header of its table."""
    lines = Path(problem.file).read_text(encoding="utf-8").split("\n")
    assert problem.line is not None
    text = lines[problem.line - 1]
    names = [part.split("[")[0] for part in problem.key.split(".")]
    table = ".".join(names[:-1])
    has_key = names[-1] in text
    has_header = text in (f"[{table}]", f"[[{table}]]")
    no_table = problem.line == 1 and not any(line.startswith(f"[{names[0]}") for line in lines)
    assert has_key or has_header or no_table


@pytest.mark.parametrize(
    ("old", "new", "at", "key", "said"),
    [
        ('name = "maadf"', 'name = "haadf"', 1, "", "two detectors are called haadf"),
        ("inner_mrad = 40.0", "inner_mrad = 90.0", "inner_mrad = 90.0", "detector[1].inner_mrad",
         "90 is not below outer_mrad = 80"),
        ('name = "maadf"\ndriver = "virtual"', 'name = "maadf"', 19, "detector[1].driver",
         "is missing, and has no default"),
        ('name = "maadf"\n', 'name = "maadf"\nkindd = "image"\n', "kindd", "detector[1].kindd",
         "unknown key (got \"image\"), did you mean 'kind'?"),
        ('name = "maadf"\n', 'name = "maadf"\nkind = "pixelated"\n', 19, "detector[1]",
         "a pixelated detector needs frame_shape = [ky, kx]"),
        ("current_upper_pA = 12.0", "current_upper_pA = 8.0", "current_upper_pA",
         "beam.current_upper_pA", "8 is below beam.current_pA = 10"),
        ("min_dwell_us = 0.5", "min_dwell_us = 5e4", "min_dwell_us", "scan.min_dwell_us",
         "50000 is above scan.max_dwell_us = 20000"),
        ("settle_us = 200.0", "settle_us = 2e5", "settle_us", "scan.settle_us",
         "200000 µs leaves the probe in one place longer than the instrument's ceiling "
         "limits.max_stationary_probe_ms = 50 ms"),
        ("[limits]", 'blanker = "none"\n[limits]', "[beam]", "beam",
         'blanker = "none" leaves the beam on the specimen between sub-scans: set '
         "accept_no_blanker = true to work like this"),
        ("seed = 1", "seeed = 1", "seeed", "drivers.virtual.seeed",
         "unknown key (got 1), did you mean 'seed'?"),
        ('kind = "graphene"', 'kind = "graphite"', 'kind = "graphite"',
         "drivers.virtual.specimen.kind",
         "must be one of graphene, batio3, ws2_wse2 (got \"graphite\"), did you mean 'graphene'?"),
        ('kind = "graphene"', 'kind = "graphene"\ndopant = 3', "dopant = 3",
         "drivers.virtual.specimen.dopant", "unknown key (got 3), did you mean 'dopants'?"),
        ('kind = "graphene"', 'kind = "graphene"\n[[drivers.virtual.faults]]\nkind = "hang"\n'
         'where = "scan"\nnth = 1\n[[drivers.virtual.faults]]\nkind = "hang"\nwhere = "scan"\n'
         "nth = 0", "nth = 0", "drivers.virtual.faults[1].nth", "must be at least 1 (got 0)"),
        ("[drivers.virtual]", "[drivers.vitual]\n[drivers.virtual]", "[drivers.vitual]",
         "drivers.vitual", "no part uses this driver, did you mean 'virtual'?"),
    ],
)  # fmt: skip
def test_one_mistake_in_the_instrument_file(
    tmp_path: Path, old: str, new: str, at: str | int, key: str, said: str
) -> None:
    write_files(tmp_path, (), ((old, new),))
    path = tmp_path / "bench.toml"
    with pytest.raises(ConfigError) as caught:
        load_instrument(path)
    (problem,) = caught.value.problems
    assert (problem.key, problem.message) == (key, said)
    assert problem.file == str(path)
    assert problem.line == (at if isinstance(at, int) else line_of(path, at))


def test_an_unknown_driver_is_named_where_it_is_first_used(tmp_path: Path) -> None:
    old = 'name = "maadf"\ndriver = "virtual"'
    found = problems(tmp_path, instrument=((old, old.replace("virtual", "virtul")),))
    assert [(each.key, each.line) for each in found] == [("detector[1].driver", 21)]
    assert "no driver is called 'virtul', did you mean 'virtual'?" in found[0].message


def test_all_problems_of_both_files_are_said_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ("dwell_us = 1.0", "dwell_us = 0"),
        ("n_sub_scans = 20", "n_sub_scan = 20"),
        ('name = "variance"', 'name = "variance"\nwrong = 1'),
        instrument=(("energy_kV = 60.0", "energy_keV = 60.0"), ("seed = 1", "seed = -1")),
    )
    keys = {problem.key for problem in found}
    assert keys == {
        "survey.dwell_us",
        "budget.n_sub_scan",
        "objective.wrong",
        "beam.energy_keV",
    }
    assert {Path(problem.file).name for problem in found} == {"trial.toml", "bench.toml"}


def test_wrong_choices_are_said_beside_other_mistakes(tmp_path: Path) -> None:
    planner = '[planner]\nkind = "rastr"\noptions = { max_overlap = "half" }\n[objective]'
    found = problems(
        tmp_path, ("dwell_us = 1.0", "dwell_us = 0"), ("[objective]", planner),
        ('name = "variance"', 'name = "novelti"'),
    )  # fmt: skip
    assert {problem.key: problem.message for problem in found} == {
        "survey.dwell_us": "must be greater than 0 (got 0)",
        "planner.kind": "there is no planner 'rastr', did you mean 'raster'?",
        "planner.options.max_overlap": 'must be a number (got "half")',
        "objective.name": "there is no objective 'novelti', did you mean 'novelty'?",
    }


def test_contradictions_are_said_together(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ("max_local_dose_e_per_A2 = 2.0e4", "max_local_dose_e_per_A2 = 2.0e7"),
        ('name = "variance"', 'name = "novlty"'),
        ("[survey]", '[survey]\ndetectors = ["adf"]'),
    )
    assert len(found) == 4
    assert {problem.key for problem in found} == {
        "budget.max_local_dose_e_per_A2",
        "objective.name",
        "survey.detectors[0]",
        "descriptor.kind",
    }


def test_rotated_sub_scans_and_anchors_must_fit_too(tmp_path: Path) -> None:
    turned = ("fov_nm = [2.0, 2.0]", "fov_nm = [15.0, 15.0]\nrotation_deg = 45")
    anchor = (
        '[[anchor]]\nname = "a"\ncenter_nm = [9.5, 0]\nfov_nm = [2, 2]\nmax_dose_e_per_A2 = 1\n'
        '[[anchor]]\nname = "a"\ncenter_nm = [0, 0]\nfov_nm = [2, 2]\nmax_dose_e_per_A2 = 1\n'
    )
    found = problems(tmp_path, turned, ("[candidates]", anchor + "[candidates]"))
    texts = {problem.key: problem.message for problem in found}
    assert texts == {
        "sub_scan.fov_nm": "15 x 15 nm turned by 45° does not fit in the field of 20 x 20 nm",
        "anchor[0].fov_nm": "2 x 2 nm at 9.5 x 0 nm does not fit in the field of 20 x 20 nm",
        "anchor[1].name": "two anchors are called 'a'",
    }


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("dwell_us = 4.0", "dwell_us = ", 15, "Invalid value, at column 12"),
        ("[budget]", "[budget", 23, "at column 8"),
        ("dwell_us = 4.0", "dwell_us = 4.0\ndwell_us = 5.0", 16, "Cannot overwrite a value"),
        ("n_sub_scans = 20", 'n = """', 26, "at the end of the file"),
    ],
)
def test_broken_toml_is_said_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    (problem,) = problems(tmp_path, (old, new))
    assert problem.line == line
    assert problem.message.startswith("not valid TOML: ")
    assert said in problem.message


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    write_files(tmp_path)
    path = tmp_path / "bench.toml"
    path.write_bytes(INSTRUMENT.replace('"bench"', '"b\u00e9nch"').encode("latin-1"))
    with pytest.raises(ConfigError, match=r"byte 22 is not UTF-8; save the file as UTF-8"):
        load_instrument(path)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("sub_scan.dwell_us", "--set sub_scan.dwell_us: must look like table.key=value"),
        (".x=1", "--set .x=1: must look like table.key=value"),
        ("sub_scan.dwell_us=fast", "--set sub_scan.dwell_us=fast: sub_scan.dwell_us: must be a "
         'number (got "fast")'),
        ("sub_scan.dwel_us=1", "--set sub_scan.dwel_us=1: sub_scan.dwel_us: unknown key (got 1), "
         "did you mean 'dwell_us'?"),
        ("survey.shape.x=1", "--set survey.shape.x=1: survey.shape.x: can't be set: survey.shape "
         "is neither a table nor that long"),
        ("instrument.detector.7.name=x", "--set instrument.detector.7.name=x: "
         "detector.7.name: can't be set: detector[7] is neither a table nor that long"),
        ("instrument.limits.max_local_dose_e_per_A2=1e4", "budget.max_local_dose_e_per_A2: 20000 "
         "e/Å² is above the instrument's ceiling limits.max_local_dose_e_per_A2 = 10000 e/Å²"),
    ],
)  # fmt: skip
def test_wrong_assignments_are_named_instead_of_a_line(
    tmp_path: Path, assignment: str, said: str
) -> None:
    found = [str(problem) for problem in problems(tmp_path, sets=(assignment,))]
    assert len(found) == 1
    assert found[0].endswith(said)


def test_settings_of_any_driver_are_checked_by_its_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivers.virtual import VirtualDriver
    from drivers.virtual_settings import DriftSettings

    class Bench(VirtualDriver):
        name = "bench"
        settings = DriftSettings

    module = ModuleType("a_driver_for_this_test")
    module.DRIVER = Bench()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    point = EntryPoint("bench", f"{module.__name__}:DRIVER", "probewise.drivers")
    monkeypatch.setattr("drivers.registry.available", lambda: {"bench": point})
    text = INSTRUMENT.replace('"virtual"', '"bench"').replace("drivers.virtual", "drivers.bench")
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_instrument(path)
    assert {problem.key for problem in caught.value.problems} == {
        "drivers.bench.seed",
        "drivers.bench.specimen",
    }


def test_names_known_here_are_those_of_the_models() -> None:
    from models.decision.acquisition import Acquisition

    for name, parameters in ACQUISITIONS.items():
        made = Acquisition(name)
        assert set(made.params) == set(parameters)
    with pytest.raises(ValueError, match="known are " + ", ".join(ACQUISITIONS)):
        Acquisition("none")
    with pytest.raises(ValueError, match="known are component, channel, variance, novelty"):
        make_objective("none", {})
    assert OBJECTIVES == ("component", "channel", "variance", "novelty")


def test_no_message_quotes_a_url_or_a_type_of_python(tmp_path: Path) -> None:
    """Replace every value of both files by one of a wrong type."""
    for line in EXPERIMENT.split("\n"):
        if " = " not in line:
            continue
        text = EXPERIMENT.replace(line, line.split(" = ")[0] + " = [[1979-05-27]]", 1)
        (tmp_path / "bench.toml").write_text(INSTRUMENT)
        (tmp_path / "trial.toml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_again(tmp_path)
        for problem in caught.value.problems:
            assert problem.message.startswith(("must be ", "is missing"))
            assert "http" not in problem.message
            assert "Input" not in problem.message


def load_again(folder: Path) -> None:
    """Load the files as they are in a folder."""
    from controller.loading import load_experiment

    load_experiment(folder / "trial.toml")
