"""Template library: zone axes over the Laue group's share of the sphere, and the spots of each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from orix.quaternion import Rotation
from orix.sampling import sample_S2

from dpcurate.errors import InputError
from dpcurate.kinematic import kinematic_spots
from dpcurate.orientations import Array, to_matrix
from dpcurate.reflections import reflections
from dpcurate.schema import PhaseRecord

GENERIC_DIRECTION = np.array([0.23, 0.41, 0.88])
"""Lies on no mirror plane or axis of any setting, so that its Dirichlet cell is a fundamental region of every group."""

EDGE_TOLERANCE = 1e-6
"""Directions on the border of the region are kept on both sides."""


@dataclass(frozen=True)
class Spots:
    """Diffraction spots of n patterns, padded with zero intensity to the longest."""

    q: NDArray[np.float32]
    """Positions (q_x, q_y) in 1/Angstrom, shape (n, n_spots, 2)."""
    intensity: NDArray[np.float32]
    """Kinematical intensity, arbitrary unit, shape (n, n_spots)."""


@dataclass(frozen=True)
class TemplateLibrary:
    """Templates of one phase: patterns with no in-plane turn, one for each zone axis."""

    phase: PhaseRecord
    rotation: Array
    """Orientation of each template, shape (n_templates, 4)."""
    spots: Spots


def build_library(
    phase: PhaseRecord,
    *,
    spacing_deg: float,
    beam_energy_kev: float,
    precession_deg: float,
    k_max_inv_angstrom: float,
    max_excitation_error: float,
) -> TemplateLibrary:
    """Simulate one template for each zone axis of a phase."""
    rotation = zone_axis_rotations(phase.proper_rotations(), spacing_deg=spacing_deg)
    spots = simulate_spots(
        phase,
        rotation,
        beam_energy_kev=beam_energy_kev,
        precession_deg=precession_deg,
        k_max_inv_angstrom=k_max_inv_angstrom,
        max_excitation_error=max_excitation_error,
    )
    return TemplateLibrary(phase=phase, rotation=rotation, spots=spots)


def with_spots_beyond(library: TemplateLibrary, k_inv_angstrom: float) -> TemplateLibrary:
    """Leave out templates without a spot beyond ``k_inv_angstrom``: they would match nothing, or divide by zero."""
    far = np.linalg.norm(library.spots.q, axis=-1) >= k_inv_angstrom
    keep = (far & (library.spots.intensity > 0)).any(axis=1)
    if not keep.any():
        raise InputError(
            f"phase {library.phase.name}: no template has a spot beyond {k_inv_angstrom:.2f} 1/Å on this detector. "
            "Check cell and scale, or lower preprocess.k_min_inv_angstrom."
        )
    spots = Spots(q=library.spots.q[keep], intensity=library.spots.intensity[keep])
    return TemplateLibrary(phase=library.phase, rotation=library.rotation[keep], spots=spots)


def zone_axis_rotations(symmetry: Array, *, spacing_deg: float) -> Array:
    """Orientations with Bunge phi1 = 0 whose zone axes cover one fundamental region of the Laue group, ``(n, 4)``.

    The region is the Dirichlet cell of a generic direction under the group's own operators, so it is right for every
    setting of a space group. In-plane turns and the mirror y -> -y of these templates reach every orientation.
    """
    direction = sample_S2(spacing_deg, method="spherified_cube_edge").data
    images = np.einsum("sij,nj->sni", to_matrix(symmetry), direction)
    closeness = np.abs(images @ GENERIC_DIRECTION).max(axis=0)
    x, y, z = direction[direction @ GENERIC_DIRECTION >= closeness - EDGE_TOLERANCE].T
    euler = np.stack([np.zeros_like(x), np.arccos(np.clip(z, -1, 1)), np.pi / 2 - np.arctan2(y, x)], axis=1)
    return np.asarray(Rotation.from_euler(euler).data)


def simulate_spots(
    phase: PhaseRecord,
    rotation: Array,
    *,
    beam_energy_kev: float,
    precession_deg: float,
    k_max_inv_angstrom: float,
    max_excitation_error: float,
) -> Spots:
    """Kinematical spots of orientations ``(n, 4)``, without the direct beam: diffsims' physics, by `kinematic`.

    diffsims 0.7 itself leaves out reflections of hexagonal cells near the radius, and stops at an orientation without a
    spot. Raises InputError when no reflection lies within ``k_max_inv_angstrom``.
    """
    spots = kinematic_spots(
        reflections(phase, k_max_inv_angstrom),
        rotation,
        beam_energy_kev=beam_energy_kev,
        precession_deg=precession_deg,
        max_excitation_error=max_excitation_error,
    )
    return Spots(q=spots.q.numpy(), intensity=spots.intensity.numpy())
