"""A plausible finished run folder, made without a controller: for tests of store and report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from controller import commands as c
from controller import events as e
from controller.config import RunConfig
from controller.journal import Journal
from controller.phases import FinishReason, Phase
from controller.rundir import RunFolder, create, manifest_sha256
from controller.store import RunStore
from drivers.vocabulary import (
    E_PER_S_PER_PA,
    AnyArray,
    BeamCurrent,
    Calibration,
    DetectorInfo,
    FloatArray,
    SubScan,
    SubScanData,
    Truth,
)
from models.decision.protocols import Maps
from models.descriptors.protocols import Description, Health

FIELD_NM = (40.0, 40.0)
FOV_NM = (2.5, 2.5)
CURRENT_PA = 10.0
NAMES = ("mean_1", "variance_1")
CAMERA = DetectorInfo(
    "camera", "pixelated", "uint16", (12, 10), 60000.0, calibration=Calibration(mrad_per_px=2.0)
)
HAADF = DetectorInfo("haadf", "image", "uint16", None, 60000.0)


class StepClock:
    """A clock that goes on by a fixed step each time it is asked."""

    is_virtual = True

    def __init__(self, step_s: float = 0.02) -> None:
        self.t = 0.0
        self.step_s = step_s

    def now(self) -> float:
        self.t += self.step_s
        return self.t

    async def sleep(self, seconds: float) -> None:
        self.t += seconds


def config(
    *, camera: bool = False, shape: tuple[int, int] = (32, 32), n: int = 60, **experiment: Any
) -> RunConfig:
    """Return a configuration with an annular detector and, if wanted, a small camera."""
    detectors: list[dict[str, Any]] = [
        {"name": "haadf", "driver": "virtual", "inner_mrad": 60.0, "outer_mrad": 200.0}
    ]
    if camera:
        detectors.append(
            {
                "name": "camera",
                "driver": "virtual",
                "kind": "pixelated",
                "frame_shape": [12, 10],
                "mrad_per_px": 2.0,
                "camera_length_mm": 130.0,
            }
        )
    return RunConfig.model_validate(
        {
            "experiment": {
                "experiment": {
                    "name": "fake",
                    "instrument": "fake.toml",
                    "operator": "A. Person",
                    "sample": "WS2 <flake>",
                    "proposal": "P-17",
                },
                "survey": {"max_dose_e_per_A2": 100.0, "shape": [128, 128]},
                "sub_scan": {"fov_nm": FOV_NM, "shape": shape, "dwell_us": 20.0},
                "objective": {"name": "entry", "params": {"entry": "mean_1"}},
                "budget": {
                    "n_sub_scans": n,
                    "max_local_dose_e_per_A2": 4000.0,
                    "max_total_dose_e_per_A2": 400.0,
                },
                **experiment,
            },
            "instrument": {
                "instrument": {"name": "bench", "virtual": True},
                "scan": {"driver": "virtual", "field_nm": FIELD_NM},
                "detector": detectors,
                "beam": {
                    "driver": "virtual",
                    "energy_kV": 80.0,
                    "semiangle_mrad": 25.0,
                    "current_pA": CURRENT_PA,
                },
                "limits": {"max_local_dose_e_per_A2": 1e6, "max_total_dose_e_per_A2": 1e5},
            },
        }
    )


@dataclass
class Specimen:
    """Two rich patches on a poor field, with point targets where it is rich."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def value(self, points_nm: FloatArray) -> FloatArray:
        """Return how rich each of (..., 2) points is, 0 to 1."""
        out = np.zeros(points_nm.shape[:-1])
        for center, width, height in (((8.0, -9.0), 5.0, 1.0), ((-10.0, 10.0), 4.0, 0.7)):
            out += height * np.exp(-((points_nm - center) ** 2).sum(-1) / (2 * width**2))
        return out

    def image(self, sub_scan: SubScan) -> AnyArray:
        """Return a lattice image whose brightness follows the richness."""
        at = sub_scan.positions_nm()
        lattice = 1 + np.cos(2 * np.pi * at[..., 0] / 0.31) * np.cos(2 * np.pi * at[..., 1] / 0.27)
        rate = 40 + 60 * lattice + 300 * self.value(at)
        return self.rng.poisson(rate).astype(np.uint16)

    def truth(self, n: int = 400) -> Truth:
        """Return targets drawn with a density that follows the richness."""
        points = self.rng.uniform(-20, 20, (20000, 2))
        keep = points[self.rng.random(len(points)) < self.value(points) ** 2][:n]
        return Truth("rich spots", keep)


def sub_scan(number: int, center_nm: tuple[float, float], **changes: Any) -> SubScan:
    """Return a configured sub-scan with the id of that number."""
    values: dict[str, Any] = {"fov_nm": FOV_NM, "shape": (32, 32), "dwell_us": 20.0, **changes}
    return SubScan(f"s{number:06d}", center_nm, **values)


def data_of(
    scan: SubScan, *, camera: bool = False, specimen: Specimen | None = None
) -> SubScanData:
    """Return frames of a sub-scan; the first pixel says its number."""
    image = (specimen or Specimen()).image(scan)
    image[0, 0] = int(scan.id[1:])
    frames: dict[str, AnyArray] = {"haadf": image[None]}
    detectors = {"haadf": HAADF}
    if camera:
        n = scan.n_positions * 120
        stack = (np.arange(n) + int(scan.id[1:])) % 1000
        frames["camera"] = stack.astype(np.uint16).reshape(-1, 12, 10)
        detectors["camera"] = CAMERA
    return SubScanData(scan, frames, detectors)


def description_of(scan: SubScan, value: float, version: int = 1) -> Description:
    """Return a description of four positions whose first entry is ``value``."""
    z = np.full((4, 2), value)
    positions = scan.corners_nm()
    summary = np.array([value, 0.1])
    return Description(scan.id, z, positions, summary, NAMES, Health(True, 0.2), version)


class FakeRun:
    """Writes a run's journal and file step by step, as a controller would.

    Use as a context manager; leaving it closes journal and store.
    """

    def __init__(self, root: Path, *, name: str = "run", **options: Any) -> None:
        self.camera = bool(options.get("camera", False))
        self.config = config(**options)
        self.folder: RunFolder = create(self.config, root, name=name)
        self.specimen = Specimen()
        self.finished = False
        self.clock = StepClock()
        self.journal = Journal(self.folder.journal, self.clock)
        infos = {"haadf": HAADF, **({"camera": CAMERA} if self.camera else {})}
        self.store = RunStore(self.folder, self.config, infos)
        self.log = self.journal.append
        digest = manifest_sha256(self.folder)
        cell = self.config.experiment.dose_cell_nm
        self.log(
            e.RunOpened(run_id=name, manifest_sha256=digest, field_nm=FIELD_NM, dose_cell_nm=cell)
        )
        self.log(e.CurrentRead(current=BeamCurrent(CURRENT_PA, "configured", 0.0), upper_pA=11.0))

    def __enter__(self) -> FakeRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close(finished=self.finished)
        self.journal.close()

    def phases(self, *phases: Phase) -> None:
        for new in phases:
            self.log(e.PhaseChanged(old=self.journal.state.phase, new=new))

    def expose(self, scan: SubScan, purpose: e.Purpose, *, part: float = 1.0) -> None:
        """Log intent and receipt; ``part`` of the positions are executed."""
        electrons = 1.1 * CURRENT_PA * E_PER_S_PER_PA * scan.scan_time_s
        self.log(
            e.Intent(
                id=scan.id,
                purpose=purpose,
                author="A. Person" if purpose == "forced" else "controller",
                sub_scan=scan,
                offset_nm=(0.0, 0.0),
                planned_electrons=electrons,
                planned_dose_e_per_A2=electrons / scan.area_nm2 / 100,
                detectors=("haadf",),
            )
        )
        self.log(
            e.Executed(
                id=scan.id,
                outcome="complete" if part == 1 else "partial",
                sub_scan=scan,
                positions_executed=int(scan.n_positions * part),
                electrons=electrons * part,
                beam_on_s=scan.scan_time_s * part,
            )
        )

    def survey(self) -> None:
        """Execute and store the survey."""
        self.phases(Phase.CONNECTING, Phase.READY, Phase.SURVEYING)
        shape = self.config.experiment.survey.shape
        scan = SubScan("s000001", (0.0, 0.0), FIELD_NM, shape, 2.0)
        self.expose(scan, "survey")
        at = self.store.write_survey(
            SubScanData(scan, {"haadf": self.specimen.image(scan)[None]}, {"haadf": HAADF})
        )
        self.log(e.Stored(id=scan.id, datasets=at.datasets, indices=at.indices, nbytes=at.nbytes))

    def measure(self, scan: SubScan, *, forced: bool = False, describe: bool = True) -> None:
        """Suggest, execute, store and describe one sub-scan."""
        value = float(self.specimen.value(np.asarray(scan.center_nm)))
        if not forced:
            self.suggest(scan, value)
        self.expose(scan, "forced" if forced else "measure")
        data = data_of(scan, camera=self.camera, specimen=self.specimen)
        at = self.store.write(data, "forced" if forced else "measure")
        self.log(e.Stored(id=scan.id, datasets=at.datasets, indices=at.indices, nbytes=at.nbytes))
        if describe:
            made = description_of(scan, value)
            self.store.write_description(scan.id, made)
            self.log(
                e.Described(
                    id=scan.id,
                    encoder_version=1,
                    names=NAMES,
                    summary=tuple(float(each) for each in made.summary),
                    objective=value,
                    health_ok=True,
                    health_score=0.2,
                )
            )
        stages = {
            "decide": 3 + 2 * float(self.specimen.rng.random()),
            "acquire": 60 + float(self.specimen.rng.random()),
            "describe": 8 + 6 * float(self.specimen.rng.random()),
            "store": 4 + 9 * float(self.specimen.rng.random()) ** 3,
        }
        self.log(e.StepTimed(id=scan.id, stages_ms=stages, duty_cycle=0.93))

    def suggest(self, scan: SubScan, value: float) -> None:
        self.log(
            e.Suggested(
                id=scan.id,
                sub_scan=scan,
                acquisition=value + 0.3,
                mean=value * 0.9,
                sd=0.15,
                reasons={"acquisition": "ucb", "runner-up 1": "(3.0, 4.0) nm, 0.41"},
                n_observed=len(self.journal.state.outcomes),
                encoder_version=1,
                epoch=0,
            )
        )

    def maps(self) -> None:
        """Save and store the surrogate's maps."""
        axis = np.linspace(-18, 18, 16)
        mesh = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
        mean = self.specimen.value(mesh)
        sd = 0.05 + 0.2 * np.abs(np.sin(mesh[..., 0] / 4)) * np.abs(np.cos(mesh[..., 1] / 5))
        arrays = {"y_nm": axis, "x_nm": axis, "mean": mean, "sd": sd, "acquisition": mean + 2 * sd}
        self.folder.save_arrays("maps", {**arrays, "objective": np.array("mean_1")})
        self.store.write_maps(Maps(**arrays, objective="mean_1"))

    def finish(self, reason: FinishReason = FinishReason.COMPLETED, message: str = "done") -> None:
        """Park, say why, and let the file be closed as finished."""
        self.phases(Phase.FINISHING, Phase.PARKING)
        step = e.ParkStep(name="blank", ok=True, took_s=0.01)
        self.log(e.Parked(by="controller", why="end", verified_blanked=True, steps=(step,)))
        self.phases(Phase.SAFE)
        self.log(e.Finished(reason=reason, message=message))
        self.store.write_dose_map(self.journal.state.ledger)
        self.finished = True


def centers(n: int, seed: int = 3) -> list[tuple[float, float]]:
    """Return window centres that do not overlap, the richest first."""
    axis = np.arange(-18.75, 19, 2.5)
    mesh = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    score = Specimen().value(mesh) + np.random.default_rng(seed).normal(0, 0.25, len(mesh))
    return [(float(y), float(x)) for y, x in mesh[np.argsort(-score)[:n]]]


def full_run(root: Path, n: int = 30, **options: Any) -> FakeRun:
    """Write a whole run with a survey, commands, limits, a forced and a rejected sub-scan."""
    run = FakeRun(root, n=n, **options)
    run.survey()
    run.phases(Phase.RUNNING)
    shape = options.get("shape", (32, 32))
    for i, center in enumerate(centers(n)):
        forced = i % 11 == 5
        run.measure(sub_scan(i + 2, center, shape=shape), forced=forced)
    run.log(e.CommandAccepted(command=c.Annotate(id="c1", by="A. Person", text="nice", reason="")))
    run.log(
        e.CommandRefused(
            command=c.Resume(id="c2", by="guest", reason="impatient"),
            why="'resume' can't be done while running",
        )
    )
    run.log(
        e.LimitTripped(
            rule="local dose",
            value=4100.0,
            limit=4000.0,
            unit="e/Å²",
            action="refused",
            sub_scan_id=f"s{n + 2:06d}",
        )
    )
    run.log(e.SuspenderTripped(name="drift", why="12 nm/min"))
    run.log(e.SuspenderCleared(name="drift"))
    run.log(e.FrameRejected(sub_scan_id="s000003", detector="haadf", why="2 frames missing"))
    run.maps()
    run.finish()
    return run
