"""A run's folder: what is in it, made once and never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from controller.config import RunConfig
from drivers.vocabulary import AnyArray, utc_now

_PACKAGES = ("probewise", "numpy", "scipy", "torch", "gpytorch", "botorch", "scikit-learn", "h5py")


class RunFolderError(Exception):
    """A run folder exists already, is missing, or is not one."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run's folder."""

    path: Path

    @property
    def manifest(self) -> Path:
        """Resolved configuration, versions, seeds, driver identities."""
        return self.path / "manifest.json"

    @property
    def journal(self) -> Path:
        """The journal of record."""
        return self.path / "events.jsonl"

    @property
    def data(self) -> Path:
        """The run file, once closed."""
        return self.path / "run.nxs"

    @property
    def data_part(self) -> Path:
        """The run file while it is written."""
        return self.path / "run.nxs.part"

    @property
    def checkpoints(self) -> Path:
        """Encoders, planner and maps as plain arrays."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The report for a person."""
        return self.path / "report.html"

    @property
    def guardian(self) -> Path:
        """What the guardian did, written by it alone."""
        return self.path / "guardian.json"

    def save_arrays(self, name: str, arrays: Mapping[str, AnyArray]) -> tuple[str, str]:
        """Save named arrays under checkpoints; return the relative path and its sha256.

        Raises
        ------
        ValueError
            If an array holds Python objects: they would be pickled.
        """
        for key, array in arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"array '{key}' of {name} holds Python objects, not numbers")
        target = self.checkpoints / f"{name}.npz"
        part = target.with_suffix(".npz.part")
        with part.open("wb") as file:
            named: dict[str, Any] = dict(arrays)
            np.savez(file, **named)
            file.flush()
            os.fsync(file.fileno())
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        part.replace(target)
        return str(target.relative_to(self.path)), digest

    def load_arrays(self, relative: str) -> dict[str, AnyArray]:
        """Load arrays that `save_arrays` saved."""
        with np.load(self.path / relative, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest.

        Raises
        ------
        RunFolderError
            If there is none, or it is not JSON.
        """
        try:
            loaded: Any = json.loads(self.manifest.read_text())
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.path} is not a run folder: {error}") from error
        if not isinstance(loaded, dict) or "config" not in loaded:
            raise RunFolderError(f"{self.manifest} is not a manifest: it holds no configuration")
        return loaded

    def config(self) -> RunConfig:
        """Return the configuration the run was made with."""
        return RunConfig.model_validate(self.read_manifest()["config"])


def create(config: RunConfig, root: Path, *, name: str | None = None) -> RunFolder:
    """Make a new run folder with its manifest.

    Raises
    ------
    RunFolderError
        If a folder of that name exists, or can't be made.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = root / (name or f"{stamp}-{config.experiment.experiment.name}")
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise RunFolderError(
            f"{path} exists already; a run is never overwritten: choose another --name, or use "
            f"'probewise resume {path}' to go on with it"
        ) from error
    except OSError as error:
        raise RunFolderError(f"{path} can't be made: {error.strerror or error}") from error
    folder = RunFolder(path)
    folder.checkpoints.mkdir()
    manifest = {
        "run_id": path.name,
        "created_utc": utc_now(),
        "config": config.model_dump(mode="json"),
        "versions": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "seeds": {"experiment": config.experiment.experiment.seed},
        "drivers": {name: _identity(name) for name in config.instrument.driver_names()},
        "weights": {},
    }
    part = folder.manifest.with_suffix(".json.part")
    part.write_text(json.dumps(manifest, indent=1))
    part.replace(folder.manifest)
    return folder


def open_folder(path: Path) -> RunFolder:
    """Return an existing run folder.

    Raises
    ------
    RunFolderError
        If it is not one.
    """
    folder = RunFolder(path)
    folder.read_manifest()
    return folder


def manifest_sha256(folder: RunFolder) -> str:
    """Return the digest of the manifest that the journal names."""
    return hashlib.sha256(folder.manifest.read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _identity(driver: str) -> dict[str, str]:
    """Return which distribution and module a driver comes from."""
    from drivers.registry import available

    point = available().get(driver)
    if point is None:
        return {"module": "not installed"}
    made_by = point.dist.version if point.dist else "unknown"
    return {"module": point.value, "version": made_by}
