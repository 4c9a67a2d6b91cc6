"""Whole images of whole specimens show what a microscopist measures in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from sim.detector import Annulus
from sim.imaging import IncoherentImage
from sim.probe import Probe
from sim.specimen import Specimen, batio3, graphene, ws2_wse2

FloatArray = npt.NDArray[np.float64]


def haadf(specimen: Specimen, probe: Probe, n: int) -> tuple[FloatArray, FloatArray]:
    """Return the points (n, n, 2) in nm and the HAADF fraction (n, n) over the field."""
    axes = [(np.arange(n) + 0.5) / n * side - side / 2 for side in specimen.field_nm]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    ring = Annulus(80, 200, 1.7)
    strength = ring.cross_sections_nm2(specimen.atomic_numbers, probe.energy_kV)
    image = IncoherentImage(
        specimen.positions_nm, strength * specimen.multiplicity, specimen.size_nm, probe
    )
    return points, ring.fraction(image.sample(points))


def maxima(points: FloatArray, image: FloatArray, window: int) -> FloatArray:
    """Return the places of local maxima, refined by the centroid of their surroundings."""
    peaks = np.argwhere(image == ndimage.maximum_filter(image, size=window))
    half, found = window // 2, []
    for row, column in peaks:
        if min(row, column) < half or max(row, column) >= len(image) - half:
            continue
        box = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        weight = (image[box] - image[box].min())[..., None] ** 2
        found.append((weight * points[box]).sum(axis=(0, 1)) / weight.sum())
    return np.array(found)


def test_graphene_shows_its_213_pm_fringes() -> None:
    sheet = graphene((9.84, 9.84), boundary=False, dopants=0, vacancies=0, margin_nm=1.0)
    _, image = haadf(sheet, Probe(60, 31, 0.08), 256)
    spectrum = np.abs(np.fft.rfft2((image - image.mean()) * np.outer(*[np.hanning(256)] * 2)))
    spectrum[0, 0] = 0
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    frequency = np.hypot(np.fft.fftfreq(256)[row], column / 256) * 256 / 9.84
    assert abs(frequency - 1 / 0.213) < 0.6 / 9.84


def test_a_silicon_atom_outshines_carbon_as_in_experiments() -> None:
    """Z^1.7 gives 4.2 between isolated atoms; neighbours' tails bring it down to 3 to 4."""
    sheet = graphene((6.0, 6.0), dopants=1, vacancies=0, boundary=False, margin_nm=1.0)
    points, image = haadf(sheet, Probe(60, 31, 0.08), 400)
    places = maxima(points, image, 7)
    values = ndimage.map_coordinates(image, (places.T / 6.0 + 0.5) * 400 - 0.5, order=1)
    assert 2.5 < values.max() / np.median(values) < 4.5
    assert np.linalg.norm(places[values.argmax()] - sheet.targets_nm[0]) < 0.01


def test_titanium_columns_tell_the_polarization() -> None:
    """Offsets of Ti peaks from the middle of four Ba peaks follow the truth."""
    film = batio3((9.0, 9.0), seed=1, domain_width_nm=6.0, margin_nm=1.0)
    points, image = haadf(film, Probe(200, 22, 0.08), 450)
    peaks = maxima(points, image, 9)
    brightness = ndimage.map_coordinates(image, (peaks.T / 9.0 + 0.5) * 450 - 0.5, order=1)
    barium = peaks[brightness > 0.5 * brightness.max()]
    titanium = peaks[brightness < 0.5 * brightness.max()]
    titanium = titanium[(np.abs(titanium) < 3.8).all(axis=1)]
    distance, four = KDTree(barium).query(titanium, k=4)
    assert distance.max() < 0.31
    offset = titanium - barium[four].mean(axis=1)
    truth = film.truth["polarization"](*titanium.T)
    for axis in (0, 1):
        assert np.corrcoef(offset[:, axis], truth[:, axis])[0, 1] > 0.95
    assert 0.005 < np.linalg.norm(offset, axis=1).max() < 0.02


def test_selenium_sites_are_brighter_than_sulfur_sites() -> None:
    sheet = ws2_wse2((12.0, 12.0), seed=3, domain_size_nm=4.0, margin_nm=1.0)
    _, image = haadf(sheet, Probe(80, 28, 0.08), 400)
    sites = sheet.positions_nm[np.isin(sheet.atomic_numbers, (16, 34))]
    sites = sites[(np.abs(sites) < 5.8).all(axis=1)]
    values = ndimage.map_coordinates(image, (sites.T / 12.0 + 0.5) * 400 - 0.5, order=1)
    composition = sheet.truth["composition"](*sites.T)
    rich, poor = values[composition > 0.95], values[composition < 0.05]
    assert np.median(rich) > 1.5 * np.median(poor)
    assert np.corrcoef(values, composition)[0, 1] > 0.8


def test_fractions_are_those_of_real_samples() -> None:
    """Graphene scatters some 1e-4 to 1e-3 to high angles, a monolayer of W some 1e-2, 8 nm more."""
    means = [
        haadf(make((6.0, 6.0), margin_nm=1.0), probe, 100)[1].mean()
        for make, probe in (
            (lambda f, **k: graphene(f, dopants=0, vacancies=0, **k), Probe(60, 31, 0.08)),
            (ws2_wse2, Probe(80, 28, 0.08)),
            (batio3, Probe(200, 22, 0.08)),
        )
    ]
    assert 1e-4 < means[0] < 1e-3
    assert 2e-3 < means[1] < 2e-2
    assert 5e-3 < means[2] < 0.1


def brightest_over_typical_atom(image: FloatArray, pixel_nm: float) -> float:
    """Return the brightest maximum over the median one, both above the holes of the lattice."""
    smooth = ndimage.gaussian_filter(image, 0.024 / pixel_nm)
    window = 2 * round(0.05 / pixel_nm) + 1
    peaks = smooth[smooth == ndimage.maximum_filter(smooth, size=window)]
    floor = np.percentile(smooth, 5)
    return float((peaks.max() - floor) / (np.median(peaks) - floor))


def test_silicon_contrast_is_that_of_a_real_micrograph(real_data: Callable[[str], Path]) -> None:
    """A real 60 kV HAADF frame, 2 nm wide, with one Si atom; source sizes round the usual."""
    with h5py.File(real_data("graphene_haadf/G-Si-2nm.hdf5")) as file:
        real = np.asarray(file["image_data"], dtype=np.float64)
    sheet = graphene((2.0, 2.0), dopants=1, vacancies=0, boundary=False, margin_nm=1.0)
    ratios = [
        brightest_over_typical_atom(haadf(sheet, Probe(60, 31, source), 256)[1], 2 / 256)
        for source in (0.08, 0.14)
    ]
    assert ratios[0] < brightest_over_typical_atom(real, 2 / 256) < ratios[1]
