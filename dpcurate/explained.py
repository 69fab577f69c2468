"""How many of a scan's spots the matched templates explain: what tells a wrong phase, scale or centre."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.bad_patterns import faulty_pixels, without_faults
from dpcurate.kinematic import kinematic_spots
from dpcurate.orientations import Array
from dpcurate.pattern_features import direct_beam
from dpcurate.reflections import reflections
from dpcurate.scans import Scan, reading
from dpcurate.schema import PhaseRecord
from dpcurate.spots import Spots, find_spots

Values = NDArray[np.float64]

SAMPLED = 150
"""Pixels whose spots are looked at."""

MOST_PIXELS = 2**24
"""Of all patterns that are looked at together, `FEWEST` at least."""

FEWEST = 24
"""Patterns that say something about a scan."""

NEAR_PX = 1.5
"""Distance at which a spot lies on one of the template, pixels of a detector 128 across; wider on larger ones."""

THICKNESS_ANGSTROM, MAX_EXCITATION_ERROR, FAINTEST = 200.0, 0.02, 0.003
"""Of the templates, whatever the engine's; share of the strongest spot below which a spot is left out."""

TURNS_DEG = (17.0, 38.0, 67.0, 101.0, 139.0)
"""Turns of the templates that tell what chance would explain."""

FEWEST_SPOTS = 30
"""Spots below which nothing is said."""

LEAST_EXPLAINED = 0.65
"""Share of the spots, beyond chance, below which a map is called wrong.

Measured on previews (`benchmarks/wrong_input.py`) of real silver, an independent dynamical scan of LiNiO2, and virtual
scans of LiNiO2, Ni, Si, GaAs, Ag and Fe: the right phase had 0.81 to 0.93, wrong ones 0.07 to 0.60, but for those with
spots at all places of the right one (LiNiO2 for Ag; LiNiO2, Ag and GaAs for Fe): 0.67 to 0.81. A scale 2 % off had
0.79, 3 % 0.45 to 0.54, 10 % 0.24 to 0.35; a centre 1 pixel off 0.80, 2.5 pixels 0.19."""


@dataclass(frozen=True)
class Explained:
    """Spots of a sample of pixels beside those of their matched templates."""

    n_spots: int
    share: float
    """Of the spots that lie on one of the template."""
    by_chance: float
    """The same for the templates turned at random."""

    @property
    def beyond_chance(self) -> float:
        """0: no more than chance; 1: all."""
        return (self.share - self.by_chance) / max(1 - self.by_chance, 1e-9)

    def warning(self, phases: Sequence[PhaseRecord]) -> str | None:
        """The sentence to print when phase, scale or centre must be wrong, else None."""
        if self.n_spots < FEWEST_SPOTS or self.beyond_chance >= LEAST_EXPLAINED:
            return None
        return (
            f"Only {self.share:.0%} of the spots lie where the matched templates of "
            f"{', '.join(phase.name for phase in phases)} have one ({self.by_chance:.0%} by chance): wrong phase, "
            "scale or centre. `dpcurate doctor` with the same options says which."
        )


def spots_explained(
    scan: Scan,
    orientation: Array,
    phase_id: NDArray[np.int16],
    phases: Sequence[PhaseRecord],
    *,
    k_range: tuple[float, float],
) -> Explained:
    """Share of the spots of a sample of pixels that lie on spots of their templates.

    Parameters
    ----------
    scan
        With the calibration that was used.
    orientation, phase_id
        Of the best candidates, (rows, columns, 4) in the detector's frame, and (rows, columns); -1 where there is none.
    phases
        In which ``phase_id`` counts.
    k_range
        Radii between which spots were matched, 1/Angstrom.
    """
    row, column = _places(phase_id, scan.patterns.shape[2:])
    if not len(row):
        return Explained(0, 0.0, 0.0)
    with reading(scan.name):
        patterns = np.array([np.asarray(scan.patterns[r, c].compute()) for r, c in zip(row, column, strict=True)])
    spots = _spots_of(patterns, scan.calibration.center_xy)
    scale = scan.calibration.scale_inv_angstrom
    radius = spots.radius_px * scale
    spots = spots.of((radius > k_range[0]) & (radius < k_range[1]))
    near, angles = NEAR_PX * max(1.0, max(patterns.shape[1:]) / 128), np.radians([0.0, *TURNS_DEG])
    met = np.zeros((len(angles), len(spots.height)), bool)
    for number, (r, c) in enumerate(zip(row, column, strict=True)):
        ours = spots.pattern == number
        if ours.any():
            phase = phases[int(phase_id[r, c])]
            place = template_spots(scan, phase, orientation[r, c], k_min_inv_angstrom=k_range[0])[0]
            met[:, ours] = [_near(spots.place_px[ours], place, angle, near) for angle in angles]
    if not met.shape[1]:
        return Explained(0, 0.0, 0.0)
    return Explained(met.shape[1], float(met[0].mean()), float(met[1:].mean()))


def template_spots(
    scan: Scan, phase: PhaseRecord, orientation: Array, *, k_min_inv_angstrom: float
) -> tuple[Values, Values]:
    """Places (column, row) from the direct beam in pixels, (k, 2), and shares of the strongest, (k,), of a template."""
    c = scan.calibration
    corner = float(np.hypot(*scan.patterns.shape[2:])) * c.scale_inv_angstrom
    spots = kinematic_spots(
        reflections(phase, min(corner, 2.0)),
        np.asarray(orientation, float)[None],
        beam_energy_kev=c.beam_energy_kev,
        precession_deg=c.precession_deg,
        max_excitation_error=MAX_EXCITATION_ERROR,
        thickness_angstrom=THICKNESS_ANGSTROM,
    )
    q, intensity = spots.q[0].double().numpy(), spots.intensity[0].double().numpy()
    intensity = np.where(np.hypot(*q.T) >= k_min_inv_angstrom, intensity, 0)
    share = intensity / max(float(intensity.max(initial=0)), 1e-30)
    return q[share > FAINTEST] / c.scale_inv_angstrom, share[share > FAINTEST]


def _places(phase_id: NDArray[np.int16], shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the indexed pixels on a grid over the scan."""
    most = int(np.clip(MOST_PIXELS // np.prod(shape), FEWEST, SAMPLED))
    every = max(1, int(np.ceil(np.sqrt(phase_id.size / most))))
    grid = np.zeros(phase_id.shape, bool)
    first = [min(every // 2, (size - 1) // 2) for size in phase_id.shape]
    grid[first[0] :: every, first[1] :: every] = True
    row, column = np.nonzero(grid & (phase_id >= 0))
    return row, column


def _spots_of(patterns: NDArray[Any], center_xy: tuple[float, float]) -> Spots:
    """Spots around the stated centre, so that a wrong one is noticed."""
    electrons = without_faults(np.asarray(patterns, np.float64), faulty_pixels(patterns))
    sigma = direct_beam(electrons, center_xy=center_xy)[1]
    return find_spots(electrons, np.tile(np.asarray(center_xy, float), (len(electrons), 1)), sigma)


def _near(place: Values, template: Values, angle: float, near_px: float) -> NDArray[np.bool_]:
    """Whether each spot (m, 2) lies on one of a template (k, 2) that is turned by an angle in radians."""
    if not len(template):
        return np.zeros(len(place), bool)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    distance = np.linalg.norm(place[:, None] - template @ turn, axis=-1)
    return np.asarray(distance.min(axis=1) < near_px)
