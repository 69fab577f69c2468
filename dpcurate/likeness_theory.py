"""Beams of many orientations at many thicknesses at once: the theory that a scan's patterns are compared with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpcurate.bloch import dynamical_spots
from dpcurate.kinematic import kinematic_spots
from dpcurate.orientations import Array
from dpcurate.scattering import ScatteringTable
from dpcurate.simulator import Simulator, azimuths

Values = NDArray[np.float64]

THICKNESSES = np.r_[np.arange(50.0, 1000.0, 50.0), 1000.0, 1200.0, 1500.0]
"""Angstrom, at which theory is worked out."""


@dataclass(frozen=True)
class Beams:
    """Beams of n orientations at t thicknesses, in theory: q (n, k, 2), intensity (n, t, k), direct (n, t)."""

    thickness_angstrom: Values
    """Shape (t,), rising."""
    q: Values
    intensity: Values
    direct: Values

    def shares(self) -> tuple[Values, Values]:
        """Shares of the direct beam and of the strongest spot in all beams, each (n, t)."""
        total = np.maximum(self.direct + self.intensity.sum(axis=2), 1e-12)
        return self.direct / total, self.intensity.max(axis=2, initial=0) / total


def beams_of(simulator: Simulator, orientation: Array, phase_id: NDArray[np.integer]) -> Beams:
    """Beams at `THICKNESSES` of orientations ``(n, 4)``, each of its phase ``(n,)``, as a simulator has them."""
    parts = [
        (own, _of_phase(simulator, number, orientation[own]))
        for number in range(len(simulator.phases))
        if len(own := np.flatnonzero(phase_id == number))
    ]
    n, most = len(orientation), max(part.q.shape[1] for _, part in parts)
    beams = Beams(
        THICKNESSES,
        np.zeros((n, most, 2)),
        np.zeros((n, len(THICKNESSES), most)),
        np.zeros((n, len(THICKNESSES))),
    )
    for own, part in parts:
        k = part.q.shape[1]
        beams.q[own, :k], beams.intensity[own, :, :k], beams.direct[own] = part.q, part.intensity, part.direct
    return beams


def _of_phase(simulator: Simulator, number: int, orientation: Array) -> Beams:
    """Beams of one phase. In kinematical theory there is no direct beam: its share is the sample's."""
    recipe, geometry, table = simulator.plan.recipe, simulator.plan.geometry, simulator.theory[number]
    if isinstance(table, ScatteringTable):
        spots = dynamical_spots(
            table,
            orientation,
            thickness_angstrom=THICKNESSES,
            precession_deg=geometry.precession_deg,
            max_excitation_error=recipe.max_excitation_error,
            n_azimuths=azimuths(simulator.plan, table),
            absorption=recipe.absorption,
        )
        q, intensity, direct = (x.cpu().double().numpy() for x in (spots.q, spots.intensity, spots.direct))
        return Beams(THICKNESSES, q, intensity, direct)
    each = [
        kinematic_spots(
            table,
            orientation,
            beam_energy_kev=geometry.beam_energy_kev,
            precession_deg=geometry.precession_deg,
            max_excitation_error=recipe.max_excitation_error,
            thickness_angstrom=float(thickness),
        )
        for thickness in THICKNESSES
    ]
    intensity = np.stack([spots.intensity.double().numpy() for spots in each], axis=1)
    return Beams(THICKNESSES, each[0].q.double().numpy(), intensity, np.zeros(intensity.shape[:2]))
