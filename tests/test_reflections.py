import numpy as np
import pytest
from diffsims.crystallography._diffracting_vector import DiffractingVector
from diffsims.utils.sim_utils import get_electron_wavelength, get_kinematical_intensities
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.errors import InputError
from dpcurate.orientations import to_matrix
from dpcurate.phases import orix_phase
from dpcurate.reflections import (
    cell_basis,
    cell_volume,
    lattice_points,
    reciprocal_basis,
    reflections,
    structure_factors,
    wavelength_angstrom,
)
from tests.crystals import BADDELEYITE, BY_LAUE_GROUP, ILMENITE, LINIO2, NICKEL

K_MAX = 1.25

laws = settings(max_examples=30, deadline=None)
phases = st.sampled_from(list(BY_LAUE_GROUP.values()))
indices = st.lists(st.tuples(*[st.integers(-6, 6)] * 3), min_size=1, max_size=20).map(np.array)
every_phase = pytest.mark.parametrize("name", BY_LAUE_GROUP)


def still(phase, **change):
    """A phase whose atoms do not move, each changed as told."""
    atoms = tuple(atom.model_copy(update={"u_iso_angstrom2": 0.0, **change}) for atom in phase.atoms)
    return phase.model_copy(update={"atoms": atoms})


def theirs(phase):
    """Miller indices, vectors and |F|^2 by diffsims up to 1.2 K_MAX: near its radius its list has gaps."""
    crystal = orix_phase(phase)
    vectors = DiffractingVector.from_min_dspacing(crystal, min_dspacing=1 / (1.2 * K_MAX), include_zero_vector=False)
    hkl = np.round(vectors.hkl).astype(int)
    return hkl, vectors.data, get_kinematical_intensities(crystal.structure, hkl, vectors.gspacing)


@every_phase
def test_vectors_and_factors_are_those_of_diffsims(name):
    phase = still(BY_LAUE_GROUP[name])
    hkl, g, intensity = theirs(phase)
    assert hkl @ reciprocal_basis(phase) == pytest.approx(g, abs=1e-10)
    assert np.abs(structure_factors(phase, hkl)) ** 2 == pytest.approx(intensity, abs=1e-9 * intensity.max())


@every_phase
def test_every_allowed_reflection_within_the_radius_is_there_once_and_no_other(name):
    phase = still(BY_LAUE_GROUP[name])
    hkl, g, intensity = theirs(phase)
    allowed = (np.linalg.norm(g, axis=1) <= K_MAX) & (intensity > 1e-10 * intensity.max())
    found = reflections(phase, K_MAX)
    assert sorted(map(tuple, found.hkl.tolist())) == sorted(map(tuple, hkl[allowed].tolist()))
    length = np.linalg.norm(found.g, axis=1)
    assert (np.diff(length) > -1e-12).all()
    assert found.g == pytest.approx(found.hkl @ reciprocal_basis(phase), abs=1e-12)
    assert found.factor == pytest.approx(structure_factors(phase, found.hkl))


@every_phase
def test_lattice_points_come_nearest_first_with_their_opposites(name):
    phase = BY_LAUE_GROUP[name]
    hkl = lattice_points(phase, K_MAX)
    assert hkl[0].tolist() == [0, 0, 0]
    points = set(map(tuple, hkl.tolist()))
    assert points == set(map(tuple, (-hkl).tolist()))
    assert len(hkl) == len(points) == pytest.approx(4 / 3 * np.pi * K_MAX**3 * cell_volume(phase), rel=0.08)
    assert np.linalg.norm(hkl @ reciprocal_basis(phase), axis=1).max() <= K_MAX


@every_phase
def test_the_cell_is_that_of_diffpy(name):
    phase = BY_LAUE_GROUP[name]
    lattice = orix_phase(phase).structure.lattice
    assert cell_volume(phase) == pytest.approx(lattice.volume, rel=1e-12)
    basis = cell_basis(phase)
    assert basis @ basis.T == pytest.approx(lattice.metrics, abs=1e-9)
    assert basis @ reciprocal_basis(phase).T == pytest.approx(np.eye(3), abs=1e-12)
    assert basis[0, 1:] == pytest.approx([0, 0])
    assert reciprocal_basis(phase)[2, :2] == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("kev", [30.0, 80.0, 200.0, 300.0])
def test_the_wavelength_is_that_of_diffsims(kev):
    assert wavelength_angstrom(kev) == pytest.approx(get_electron_wavelength(kev), rel=1e-7)


def test_the_wavelength_of_200_kev_is_the_published_one():
    assert wavelength_angstrom(200.0) == pytest.approx(0.02508, abs=5e-6)


@laws
@given(phase=phases, hkl=indices)
def test_opposite_reflections_have_conjugate_factors(phase, hkl):
    assert structure_factors(phase, -hkl) == pytest.approx(np.conj(structure_factors(phase, hkl)), abs=1e-9)


@laws
@given(phase=phases, hkl=indices, shift=st.tuples(*[st.floats(-1, 1)] * 3))
def test_another_origin_turns_only_the_phase_of_a_factor(phase, hkl, shift):
    x, y, z = shift
    atoms = tuple(a.model_copy(update={"x": a.x + x, "y": a.y + y, "z": a.z + z}) for a in phase.atoms)
    moved = structure_factors(phase.model_copy(update={"atoms": atoms}), hkl)
    assert moved == pytest.approx(structure_factors(phase, hkl) * np.exp(2j * np.pi * hkl @ shift), abs=1e-8)


@laws
@given(phase=phases, hkl=indices, u=st.floats(0, 0.05))
def test_equal_displacements_damp_every_factor_by_its_length(phase, hkl, u):
    g = np.linalg.norm(hkl @ reciprocal_basis(phase), axis=1)
    b = 8 * np.pi**2 * u
    damped = structure_factors(phase, hkl, u_iso_angstrom2=u)
    sin_theta_by_wavelength = g / 2
    expected = structure_factors(still(phase), hkl) * np.exp(-b * sin_theta_by_wavelength**2)
    assert damped == pytest.approx(expected, abs=1e-9)
    assert damped == pytest.approx(structure_factors(still(phase, u_iso_angstrom2=u), hkl), abs=1e-9)


def test_each_atom_is_damped_by_its_own_displacement():
    hkl = lattice_points(LINIO2, K_MAX)
    only_moving_oxygen = LINIO2.model_copy(
        update={
            "atoms": tuple(
                atom.model_copy(update={"u_iso_angstrom2": 0.02 if atom.element == "O" else 0.0})
                for atom in LINIO2.atoms
            )
        }
    )
    g2 = np.square(hkl @ reciprocal_basis(LINIO2)).sum(axis=1)
    oxygen = structure_factors(still(only_of(LINIO2, "O")), hkl)
    rest = structure_factors(still(LINIO2), hkl) - oxygen
    expected = rest + oxygen * np.exp(-2 * np.pi**2 * 0.02 * g2)
    assert structure_factors(only_moving_oxygen, hkl) == pytest.approx(expected, abs=1e-9)


def only_of(phase, element):
    return phase.model_copy(update={"atoms": tuple(atom for atom in phase.atoms if atom.element == element)})


@laws
@given(phase=phases, hkl=indices)
def test_half_the_occupancy_halves_every_factor(phase, hkl):
    half = structure_factors(still(phase, occupancy=0.5), hkl)
    assert half == pytest.approx(structure_factors(still(phase), hkl) / 2, abs=1e-10)


@every_phase
def test_symmetric_reflections_are_equally_strong(name):
    phase = BY_LAUE_GROUP[name]
    found = reflections(phase, K_MAX)
    strength = np.abs(found.factor)
    for matrix in to_matrix(phase.proper_rotations()):
        hkl = np.round(found.g @ matrix.T @ np.linalg.inv(reciprocal_basis(phase))).astype(int)
        assert hkl @ reciprocal_basis(phase) == pytest.approx(found.g @ matrix.T, abs=1e-9)
        assert np.abs(structure_factors(phase, hkl)) == pytest.approx(strength, abs=1e-6 * strength.max())


def test_elements_without_scattering_factor_are_named():
    only_oxygen = tuple(known for known in ILMENITE.scattering if known.element == "O")
    phase = ILMENITE.model_copy(update={"scattering": only_oxygen})
    with pytest.raises(InputError, match="phase FeTiO3: no scattering factor of Fe, Ti. Read its CIF again"):
        reflections(phase, K_MAX)


def test_a_radius_without_a_reflection_is_refused():
    with pytest.raises(InputError, match="phase ZrO2: no reflection within 0.1 1/Å. Check its cell and the scale"):
        reflections(BADDELEYITE, 0.1)


def test_forbidden_reflections_alone_are_no_reflections():
    """Nickel's 100 (0.284 1/Angstrom) and 110 (0.401) are extinct, and 111 lies at 0.493."""
    with pytest.raises(InputError, match="no reflection within 0.45"):
        reflections(NICKEL, 0.45)
    assert len(reflections(NICKEL, 0.5).hkl) == 8
