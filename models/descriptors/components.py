"""Principal components of spectra: what the linear describer learns from a survey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from drivers.vocabulary import FloatArray

HEALTH_PERCENTILE = 99.0
"""A sub-scan whose reconstruction error exceeds this percentile of the fit's own is unhealthy."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """Principal components of spectra.

    Attributes
    ----------
    mean : (f,) array
    components : (d, f) array
        Orthonormal, by falling variance; the largest entry of each is positive.
    explained : (d,) array
        Fraction of the variance each one explains.
    error_limit : float
        Relative reconstruction error at `HEALTH_PERCENTILE` of what was fitted.
    """

    mean: FloatArray
    components: FloatArray
    explained: FloatArray
    error_limit: float

    def encode(self, features: FloatArray) -> FloatArray:
        """Return the latent vectors (n, d) of features (n, f)."""
        return np.asarray((features - self.mean) @ self.components.T, dtype=np.float64)

    def errors(self, features: FloatArray, z: FloatArray) -> FloatArray:
        """Return the reconstruction error of each of n patches against its size: (n,).

        Relative, since a higher dose lifts all features over the noise alike.
        """
        left = np.linalg.norm(features - self.mean - z @ self.components, axis=1)
        size = np.linalg.norm(features, axis=1)
        return np.asarray(left / np.where(size > 0, size, 1.0), dtype=np.float64)


def fit_encoder(features: FloatArray, n_components: int) -> Encoder:
    """Fit principal components to features (n, f); at most n - 1 of them.

    Raises
    ------
    ValueError
        If there are fewer than 4 patches, or a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("descriptor linear: the images to fit on hold pixels that are not finite")
    if len(features) < 4:
        raise ValueError(
            f"descriptor linear: {len(features)} patches are too few to fit; at least 4 are "
            "needed: take a larger survey or smaller sub-scans"
        )
    if not np.ptp(features, axis=0).any():
        raise ValueError(
            "descriptor linear: the images to fit on show no structure at all (they are flat)"
        )
    d = min(n_components, features.shape[1], len(features) - 1)
    pca = PCA(n_components=d, svd_solver="covariance_eigh").fit(features)
    components = np.asarray(pca.components_, dtype=np.float64)
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(d), largest])[:, None]
    explained = np.asarray(pca.explained_variance_ratio_, dtype=np.float64)
    mean = np.asarray(pca.mean_, dtype=np.float64)
    draft = Encoder(mean, components, explained, 1.0)
    limit = float(np.percentile(draft.errors(features, draft.encode(features)), HEALTH_PERCENTILE))
    return Encoder(mean, components, draft.explained, max(limit, 1e-9))
