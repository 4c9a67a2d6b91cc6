"""The doctor sees what is there, and says what to do about what is not."""

from __future__ import annotations

import builtins
import io
import os
import sys
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from controller import doctor as module
from controller.doctor import Finding, doctor, render
from tests.controller.config_files import load


def found(findings: list[Finding], name: str) -> Finding:
    return next(each for each in findings if each.name == name)


def test_a_sound_machine_has_nothing_to_remedy(tmp_path: Path, state_dir: Path) -> None:
    findings = doctor(load(tmp_path).instrument, runs=tmp_path / "runs")
    assert [each for each in findings if not each.ok] == []
    assert found(findings, "numpy").detail == version("numpy")
    assert found(findings, "driver virtual").detail.endswith("(emulated)")
    assert found(findings, "settings of virtual").ok
    assert str(state_dir) in found(findings, "state folder").detail
    assert "threads" in found(findings, "compute").detail
    assert "fsync" in found(findings, "disk speed").detail


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    doctor(None, runs=tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_without_an_instrument_no_settings_are_looked_at(tmp_path: Path) -> None:
    names = [each.name for each in doctor(runs=tmp_path)]
    assert "driver virtual" in names
    assert not [name for name in names if name.startswith("settings of")]


def test_missing_packages_are_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setattr(module, "EXTRAS", {"no-such-gui": "gui"})
    findings = doctor(runs=tmp_path)
    lost = found(findings, "no-such-package")
    assert (lost.ok, lost.detail) == (False, "not installed")
    assert "pip install" in lost.remedy
    optional = found(findings, "no-such-gui")
    assert optional.ok
    assert "[gui]" in optional.detail


def test_torch_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch":
            raise ImportError("libtorch.so: cannot open")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    finding = found(doctor(runs=tmp_path), "compute")
    assert not finding.ok
    assert "libtorch.so" in finding.detail


def test_too_little_room_and_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tmp_path).instrument
    limits = config.limits.model_copy(update={"min_free_disk_gb": 1e9})
    monkeypatch.setattr(module, "_measure_disk", lambda _: (3.0, 120.0, 400.0))
    findings = doctor(config.model_copy(update={"limits": limits}), runs=tmp_path)
    assert "1e+09 GB" in found(findings, "disk space").remedy
    speed = found(findings, "disk speed")
    assert not speed.ok
    assert "120.0 ms" in speed.detail
    assert "local disk" in speed.remedy


@pytest.mark.skipif(os.geteuid() != 0 and not Path("/proc").exists(), reason="needs /proc")
def test_folders_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc refuses new files from everybody, root included."""
    monkeypatch.setenv("PROBEWISE_STATE_DIR", "/proc/probewise")
    findings = doctor(runs=Path("/proc/runs"))
    assert not found(findings, "disk speed").ok
    assert not found(findings, "state folder").ok
    assert "PROBEWISE_STATE_DIR" in found(findings, "state folder").remedy


def test_drivers_that_do_not_load_and_settings_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(tmp_path).instrument
    wrong = config.model_copy(update={"drivers": {"virtual": {"seeed": 1}}})
    finding = found(doctor(wrong, runs=tmp_path), "settings of virtual")
    assert not finding.ok
    assert finding.detail == "seeed: unknown key (got 1), did you mean 'seed'?"
    assert "[drivers.virtual]" in finding.remedy
    broken = EntryPoint("virtual", "no_such_module_at_all:DRIVER", "probewise.drivers")
    for place in ("drivers.registry", "controller.doctor"):
        monkeypatch.setattr(f"{place}.available", lambda: {"virtual": broken})
    used = found(doctor(config, runs=tmp_path), "driver virtual")
    assert not used.ok
    assert "no_such_module_at_all" in used.detail
    assert found(doctor(runs=tmp_path), "driver virtual").ok


def test_what_is_printed(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100)
    render([Finding("a", True, "fine [x]"), Finding("b", False, "bad", "do [this]")], console)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines == ["ok  a  fine [x]", "no  b  bad", "       → do [this]"]
