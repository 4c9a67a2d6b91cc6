"""Read experiment and instrument files; explain everything that is wrong with them at once.

Values are taken from the file, then from ``--set`` assignments. They are checked by the models of
`controller.config` and `drivers.instrument`, by each driver's own settings model, and against each
other (`controller.consistency`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from controller.config import (
    DescriptorPart,
    ExperimentConfig,
    ObjectivePart,
    PlannerPart,
    RunConfig,
)
from controller.consistency import contradictions, instrument_contradictions, wrong_choices
from controller.documents import (
    Assignment,
    Document,
    assign,
    parse_sets,
    read_document,
    split_sets,
    without_prefix,
)
from controller.explain import validate
from controller.problems import ConfigError, Fault, Problem, did_you_mean
from controller.toml_lines import KeyPath
from drivers.errors import DriverUnavailable
from drivers.instrument import InstrumentConfig
from drivers.registry import load as load_driver

__all__ = ["ConfigError", "Problem", "load_experiment", "load_instrument"]

M = TypeVar("M", bound=BaseModel)


def load_experiment(path: Path | str, sets: Sequence[str] = ()) -> RunConfig:
    """Read an experiment file and the instrument file it names.

    Parameters
    ----------
    path
        The experiment file. Its ``experiment.instrument`` is relative to its folder.
    sets
        Assignments ``a.b=c``; the value is TOML, or plain text where it is no TOML. Keys that
        begin with ``instrument.`` are those of the instrument file. ``detector.0.name`` names an
        item of an array, counted from 0.

    Raises
    ------
    ConfigError
        With every problem of both files.
    """
    problems: list[Problem] = []
    of_experiment, of_instrument = split_sets(parse_sets(sets, problems))
    document = read_document(Path(path), problems)
    if document is None:
        raise ConfigError(problems)
    assign(document, of_experiment, problems)
    experiment = _validated(document, ExperimentConfig, problems)
    problems += [document.problem(fault) for fault in _choice_faults(document.data)]
    named = document.data.get("experiment")
    name = named.get("instrument") if isinstance(named, dict) else None
    if not isinstance(name, str):
        raise ConfigError(problems)
    target = Path(os.path.normpath(document.folder / name))
    if not target.is_file():
        problems.append(document.problem(Fault(("experiment", "instrument"), _no_file(target))))
        raise ConfigError(problems)
    instrument = _instrument(target, of_instrument, problems)
    if experiment is not None and instrument is not None:
        problems += [document.problem(f) for f in contradictions(experiment, instrument)]
    if problems or experiment is None or instrument is None:
        raise ConfigError(problems)
    sources = {"experiment": document.file, "instrument": str(target)}
    sources.update({f"set {number}": text for number, text in enumerate(sets, start=1)})
    return RunConfig(experiment=experiment, instrument=instrument, sources=sources)


def load_instrument(path: Path | str, sets: Sequence[str] = ()) -> InstrumentConfig:
    """Read an instrument file; assignments may, but need not, begin with ``instrument.``.

    Raises
    ------
    ConfigError
        With every problem of the file.
    """
    problems: list[Problem] = []
    assignments = [without_prefix(each) for each in parse_sets(sets, problems)]
    config = _instrument(Path(path), assignments, problems)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _instrument(
    path: Path, assignments: Sequence[Assignment], problems: list[Problem]
) -> InstrumentConfig | None:
    """Read and check an instrument file; add what is wrong to ``problems``."""
    document = read_document(path, problems)
    if document is None:
        return None
    assign(document, assignments, problems)
    settings = document.data.get("drivers")
    if isinstance(settings, dict):
        document.data["drivers"] = _resolved(settings, document.folder)
    config = _validated(document, InstrumentConfig, problems)
    if config is not None:
        faults = [*_driver_faults(config), *instrument_contradictions(config)]
        problems += [document.problem(fault) for fault in faults]
    return config


def _no_file(path: Path) -> str:
    return f"there is no file {path}"


def _validated(document: Document, model: type[M], problems: list[Problem]) -> M | None:
    """Check data by a model; add what is wrong to ``problems``."""
    config, faults = validate(document.data, model)
    problems += [document.problem(fault) for fault in faults]
    return config


def _choice_faults(data: dict[str, Any]) -> list[Fault]:
    """Return wrong choices of describer, objective and planner, whatever else is wrong."""
    descriptor, _ = validate(data.get("descriptor", {}), DescriptorPart)
    objective, _ = validate(data.get("objective", {}), ObjectivePart)
    planner, _ = validate(data.get("planner", {}), PlannerPart)
    if descriptor is None or objective is None or planner is None:
        return []
    return list(wrong_choices(descriptor, objective, planner))


def _resolved(node: Any, folder: Path) -> Any:
    """Return settings with relative ``path`` and ``..._path`` values made absolute."""
    if isinstance(node, list):
        return [_resolved(value, folder) for value in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        names_file = key == "path" or key.endswith("_path")
        if names_file and isinstance(value, str) and value and "${" not in value:
            out[key] = str((folder / value).resolve())
        else:
            out[key] = _resolved(value, folder)
    return out


def _driver_faults(config: InstrumentConfig) -> Iterator[Fault]:
    """Yield unknown drivers, wrong settings, and settings of drivers that no part names."""
    used = config.driver_names()
    for name in used:
        try:
            driver = load_driver(name)
        except DriverUnavailable as error:
            yield Fault(_first_use(config, name), str(error))
            continue
        settings = config.drivers.get(name, {})
        for fault in validate(settings, driver.settings)[1]:
            yield Fault(("drivers", name, *fault.path), fault.message)
    for name in config.drivers:
        if name not in used:
            yield Fault(("drivers", name), f"no part uses this driver{did_you_mean(name, used)}")


def _first_use(config: InstrumentConfig, driver: str) -> KeyPath:
    """Return the path of the first part that names a driver."""
    if config.scan.driver == driver:
        return ("scan", "driver")
    for index, detector in enumerate(config.detector):
        if detector.driver == driver:
            return ("detector", index, "driver")
    return ("beam", "driver") if config.beam.driver == driver else ("column", "driver")
