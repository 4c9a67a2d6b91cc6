"""The linear workflow: windowed Fourier spectra, reduced by principal components.

After Creange et al., Mach. Learn.: Sci. Technol. 3 (2022) 015024: local Fourier transforms of an
image, unmixed linearly. The components are fitted on the survey and then frozen. Magnitudes of
the transform are blind to the sense of a displacement; phases of triple products are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drivers.vocabulary import AnyArray, FloatArray, NmPair, SubScanData
from models.descriptors.components import Encoder, fit_encoder
from models.descriptors.images import choose_detectors, image_of
from models.descriptors.patches import Tiling, cut_sub_scan, cut_survey
from models.descriptors.protocols import Description, Health
from models.descriptors.spectra import FrequencyGrid, fitting_orders, log_spectra
from models.descriptors.triples import Triples

FEATURES = ("amplitudes", "phases")
"""What the components are made of."""


class LinearDescriber:
    """Windowed Fourier spectra of local patches of a sub-scan → principal components.

    The summary holds "mean_1" ... and "variance_1" ... of each component over the patches of the
    sub-scan, then "intensity" (mean of the first detector's image) and "contrast" (its standard
    deviation over its mean). Which of several detectors is first is alphabetical.

    Compared are the spatial frequencies that survey and sub-scan both have. A survey coarser than
    half the finest lattice spacing shows that lattice folded to other frequencies: windows then
    look unhealthy until `refit`.

    Parameters
    ----------
    detector : str, optional
        The detector to describe; else all imaging ones, their spectra side by side.
    n_components : int
    sub_scan_shape : (ny, nx), optional
        Probe positions of the sub-scans to come; lets `prepare` refuse one too small, and
        choose the patches for it.
    max_order : int
        Highest Fourier order of a patch along an axis: bounds the work.
    features : {"amplitudes", "phases"}
        "amplitudes": logarithms of Fourier magnitudes, which tell lattices, orientations, spacings
        and compositions apart. "phases": triple products of the lattice reflections found in the
        survey (`models.descriptors.triples`), which tell the senses of polar displacements apart
        and ignore all that leaves an inversion centre.

    Raises
    ------
    ValueError
        If a number is out of range, or ``features`` unknown.
    """

    name = "linear"

    def __init__(
        self,
        detector: str | None = None,
        n_components: int = 4,
        sub_scan_shape: tuple[int, int] | None = None,
        max_order: int = 16,
        features: str = "amplitudes",
    ) -> None:
        if features not in FEATURES:
            raise ValueError(
                f"descriptor linear: features is {features!r}; known are {', '.join(FEATURES)}"
            )
        if n_components < 1 or max_order < 1:
            raise ValueError("descriptor linear: n_components and max_order must be at least 1")
        self._wanted, self._n_components, self._max_order = detector, n_components, max_order
        self._kind = features
        self._sub_scan_shape = sub_scan_shape
        self.version = 0
        self._detectors: tuple[str, ...] = ()
        self._tiling: Tiling | None = None
        self._basis: FrequencyGrid | Triples | None = None
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The principal components in use.

        Raises
        ------
        RuntimeError
            Before `prepare` or `restore`.
        """
        if self._encoder is None:
            raise RuntimeError("descriptor linear: call prepare with a survey first")
        return self._encoder

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the summary's entries."""
        numbers = range(1, len(self.encoder.components) + 1)
        latents = [f"{kind}_{k}" for kind in ("mean", "variance") for k in numbers]
        return (*latents, "intensity", "contrast")

    def prepare(self, survey: SubScanData | None, window_nm: NmPair) -> None:
        """Fit the components on the survey, cut in patches of a sub-scan; version 1.

        Raises
        ------
        ValueError
            If there is no survey, it is too small or too coarse for the windows, the sub-scans
            are too small for a windowed Fourier transform, or phases are wanted of a survey that
            shows no lattice.
        """
        if survey is None:
            raise ValueError(
                "descriptor linear needs a survey to fit on; configure one, "
                "or use descriptor kind 'channel'"
            )
        tiling = Tiling.choose(window_nm, self._sub_scan_shape, survey.sub_scan)
        pitches = [survey.sub_scan.pixel_nm]
        if self._sub_scan_shape is not None:
            ny, nx = self._sub_scan_shape
            pitches.append((window_nm[0] / ny, window_nm[1] / nx))
        coarsest = max(p[0] for p in pitches), max(p[1] for p in pitches)
        detectors = choose_detectors(survey, self._wanted)
        images = [image_of(survey, name) for name in detectors]
        basis: FrequencyGrid | Triples
        if self._kind == "phases":
            basis = Triples.find(images[0], pitches[0], tiling.patch_nm, coarsest)
        else:
            orders = fitting_orders(tiling.patch_nm, coarsest, 0.8, self._max_order)
            basis = FrequencyGrid(tiling.patch_nm, orders)
        features = [
            _features(cut_survey(image, survey.sub_scan, tiling), pitches[0], basis)
            for image in images
        ]
        self._encoder = fit_encoder(np.hstack(features), self._n_components)
        self._tiling, self._basis, self._detectors, self.version = tiling, basis, detectors, 1

    def refit(self, outcomes: Sequence[SubScanData]) -> None:
        """Fit the components anew, on the patches of what was measured; the next version.

        Raises
        ------
        ValueError
            If the outcomes have too few patches; the encoder in use then stays.
        """
        d = len(self.encoder.components)
        features = [self._features(data) for data in outcomes]
        patches = np.vstack(features) if features else np.zeros((0, d))
        if len(patches) <= d:
            raise ValueError(
                f"descriptor linear: {len(patches)} patches of {len(outcomes)} sub-scans are too "
                f"few to fit {d} components anew; at least {d + 1} are needed"
            )
        self._encoder = fit_encoder(patches, d)
        self.version += 1

    def describe(self, data: SubScanData) -> Description:
        """Describe one sub-scan with the present components.

        Raises
        ------
        ValueError
            If a detector is missing or the sub-scan is too small.
        RuntimeError
            Before `prepare`.
        """
        encoder, tiling = self.encoder, self._tiling
        assert tiling is not None
        features = self._features(data)
        z = encoder.encode(features)
        image = image_of(data, self._detectors[0])
        summary = np.concatenate([z.mean(axis=0), z.var(axis=0), intensity_and_contrast(image)])
        k = tiling.per_axis
        return Description(
            data.sub_scan.id,
            z,
            data.sub_scan.to_plane(tiling.centers_nm()),
            summary,
            self.names,
            self._health(features, z),
            self.version,
            {f"component_{i + 1}": column.reshape(k, k) for i, column in enumerate(z.T)},
        )

    def _features(self, data: SubScanData) -> FloatArray:
        """Return the spectra of all patches of a sub-scan: (n, f)."""
        tiling, basis = self._tiling, self._basis
        if tiling is None or basis is None:
            raise RuntimeError("descriptor linear: call prepare with a survey first")
        scan = data.sub_scan
        parts = []
        for name in self._detectors:
            patches = cut_sub_scan(image_of(data, name), scan, tiling)
            parts.append(_features(patches, scan.pixel_nm, basis))
        return np.hstack(parts)

    def _health(self, features: FloatArray, z: FloatArray) -> Health:
        """Judge a sub-scan by its median reconstruction error."""
        if not np.isfinite(features).all():
            return Health(False, float("inf"), "the image holds pixels that are not finite")
        score = float(np.median(self.encoder.errors(features, z)) / self.encoder.error_limit)
        if score <= 1.0:
            return Health(True, score)
        return Health(False, score, "unlike anything the components were fitted on")

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the whole state as named arrays.

        Raises
        ------
        RuntimeError
            Before `prepare`.
        """
        encoder, tiling, basis = self.encoder, self._tiling, self._basis
        assert tiling is not None and basis is not None
        named = (
            {"pairs": basis.pairs.copy()}
            if isinstance(basis, Triples)
            else {"orders": np.array(basis.orders)}
        )
        return {
            "version": np.array(self.version),
            "detectors": np.array(self._detectors, dtype=np.str_),
            "window_nm": np.array(tiling.window_nm),
            "tiling": np.array([tiling.per_axis, tiling.divisor]),
            **named,
            "mean": encoder.mean.copy(),
            "components": encoder.components.copy(),
            "explained": encoder.explained.copy(),
            "error_limit": np.array(encoder.error_limit),
        }

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned."""
        wy, wx = np.asarray(arrays["window_nm"], dtype=np.float64).tolist()
        per_axis, divisor = np.asarray(arrays["tiling"], dtype=np.int64).tolist()
        self._tiling = Tiling((wy, wx), per_axis, divisor)
        if "pairs" in arrays:
            self._basis = Triples(np.array(arrays["pairs"], dtype=np.float64))
        else:
            oy, ox = np.asarray(arrays["orders"], dtype=np.int64).tolist()
            self._basis = FrequencyGrid(self._tiling.patch_nm, (oy, ox))
        self._detectors = tuple(str(name) for name in arrays["detectors"])
        self._encoder = Encoder(
            np.array(arrays["mean"], dtype=np.float64),
            np.array(arrays["components"], dtype=np.float64),
            np.array(arrays["explained"], dtype=np.float64),
            float(np.asarray(arrays["error_limit"], dtype=np.float64)),
        )
        self.version = int(np.asarray(arrays["version"], dtype=np.int64))


def _features(patches: FloatArray, pixel_nm: NmPair, basis: FrequencyGrid | Triples) -> FloatArray:
    """Return what the components are made of, for each patch: (n, f)."""
    if isinstance(basis, Triples):
        return basis.features(patches, pixel_nm)
    return log_spectra(patches, pixel_nm, basis)


def intensity_and_contrast(image: FloatArray) -> FloatArray:
    """Return mean, and standard deviation over the mean's magnitude (0 for an empty image)."""
    mean, deviation = float(image.mean()), float(image.std())
    contrast = deviation / abs(mean) if mean else (0.0 if deviation == 0 else float("nan"))
    return np.array([mean, contrast])
