"""Kinematical patterns with exact labels: diffsims' spots, drawn on the detector, counted.

A first, plain simulator: no dynamical scattering, no thickness, one beam shape. Its spots are those of `library`; what
they become on a detector is drawn from the ranges below, in the likeness of a precession pattern.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dpcurate.library import Spots, simulate_spots
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord

DOSE = (5_000.0, 20_000.0)
"""Electrons a pattern, log-uniform."""

DIFFUSE_SHARE = (0.2, 0.35)
"""Share of the dose in a background that falls off from the centre, uniform."""

DIFFUSE_WIDTH = 0.4
"""Its standard deviation, 1/Angstrom."""

DIRECT_BEAM_SHARE = (0.55, 0.85)
"""Share of the rest in the direct beam, uniform. These shares bracket those of the demonstration scan."""

SPOT_SIGMA_PX = (0.9, 1.6)
"""Standard deviation of a spot in pixels at 128 pixels across, uniform; it grows with the pattern's size."""

MAX_EXCITATION_ERROR = 0.02
"""1/Angstrom; as for templates. Gives about as many visible spots as the demonstration scan has."""


def simulate_patterns(
    phase: PhaseRecord, orientations: Array, *, calibration: Any, shape: tuple[int, int], seed: int
) -> NDArray[np.uint16]:
    """Simulated patterns of orientations ``(n, 4)``, lab to crystal, in counts, shape ``(n, *shape)``.

    Parameters
    ----------
    phase, orientations
        What is simulated; the label of pattern k is exactly orientation k.
    calibration
        Mapping with ``scale_inv_angstrom``, ``center_xy`` (column, row; pixels), ``beam_energy_kev``,
        ``precession_deg``.
    shape
        Rows and columns of the detector.
    seed
        Decides dose, beam and noise; the same seed gives the same patterns.
    """
    rng = np.random.default_rng(seed)
    scale, (x, y) = calibration["scale_inv_angstrom"], calibration["center_xy"]
    reach = scale * max(np.hypot(u, v) for u in (x, shape[1] - x) for v in (y, shape[0] - y))
    spots = simulate_spots(
        phase,
        orientations,
        beam_energy_kev=calibration["beam_energy_kev"],
        precession_deg=calibration["precession_deg"],
        k_max_inv_angstrom=float(reach),
        max_excitation_error=MAX_EXCITATION_ERROR,
    )
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    diffuse = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) * (scale / DIFFUSE_WIDTH) ** 2 / 2)
    patterns = np.empty((len(orientations), *shape), np.uint16)
    for k in range(len(orientations)):
        expected = _expected(spots, k, scale=scale, center_xy=(x, y), diffuse=diffuse, rng=rng)
        patterns[k] = np.minimum(rng.poisson(expected), np.iinfo(np.uint16).max)
    return patterns


def _expected(
    spots: Spots,
    k: int,
    *,
    scale: float,
    center_xy: tuple[float, float],
    diffuse: Array,
    rng: np.random.Generator,
) -> Array:
    """Mean counts of one pattern."""
    dose = np.exp(rng.uniform(*np.log(DOSE)))
    direct, background = rng.uniform(*DIRECT_BEAM_SHARE), rng.uniform(*DIFFUSE_SHARE)
    sigma = rng.uniform(*SPOT_SIGMA_PX) * diffuse.shape[0] / 128
    bragg = np.zeros(diffuse.shape)
    beam = np.zeros(diffuse.shape)
    _splat(bragg, spots.q[k] / scale + np.asarray(center_xy), spots.intensity[k])
    _splat(beam, np.asarray(center_xy)[None], np.ones(1))
    total = bragg.sum()
    elastic = beam * direct + bragg * ((1 - direct) / total if total > 0 else 0)
    counts = (1 - background) * elastic + background * diffuse / diffuse.sum()
    return np.clip(gaussian_filter(counts, sigma), 0, None) * dose


def _splat(image: Array, position_xy: NDArray[Any], intensity: NDArray[Any]) -> None:
    """Add points to an image, each shared between the four pixels around it; what falls outside is left out."""
    column, row = np.floor(position_xy).astype(int).T
    part_x, part_y = (position_xy - np.floor(position_xy)).T
    for i, j, share in (
        (row, column, (1 - part_y) * (1 - part_x)),
        (row, column + 1, (1 - part_y) * part_x),
        (row + 1, column, part_y * (1 - part_x)),
        (row + 1, column + 1, part_y * part_x),
    ):
        inside = (i >= 0) & (j >= 0) & (i < image.shape[0]) & (j < image.shape[1])
        np.add.at(image, (i[inside], j[inside]), (share * intensity)[inside])
