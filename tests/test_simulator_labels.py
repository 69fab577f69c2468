"""The labels of a simulator say what its patterns show."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import maximum_filter
from scipy.spatial.transform import Rotation

from dpcurate.errors import InputError
from dpcurate.orientations import random_uniform
from dpcurate.reflections import wavelength_angstrom
from dpcurate.scattering import ScatteringTable
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import (
    USUAL_U_ISO_ANGSTROM2,
    beams,
    displacement,
    draw,
    expected,
    training_parents,
)
from tests.conftest import CUBIC, TRIGONAL, reciprocal_vectors
from tests.simulators import (
    CLEAR,
    GEOMETRY,
    MIXED,
    nearest_parent,
    simulator_of,
    with_conditions,
)


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_thickness_changes_how_intensities_are_shared_out(physics):
    simulator = simulator_of([TRIGONAL], physics=physics, sample=CLEAR)
    drawn = draw(simulator, np.arange(6))
    thin, thick = (expected(simulator, with_conditions(drawn, thickness_angstrom=t)) for t in (100.0, 400.0))
    moved = (thin - thick).abs().sum(dim=(1, 2)) / thin.sum(dim=(1, 2))
    assert moved.min() > 1e-4
    assert moved.median() > 0.01


def test_orientations_lie_around_the_parents_of_their_own_phase():
    spread, parents = 2.0, (random_uniform(6, seed=1), random_uniform(9, seed=2))
    simulator = simulator_of(parents=parents, orientations="around", spread_deg=spread)
    drawn = draw(simulator, np.arange(1200))
    for phase_id, q in ((drawn.phase_id, drawn.orientation), (drawn.phase2_id, drawn.orientation2)):
        for number, phase in enumerate((CUBIC, TRIGONAL)):
            nearest, apart = nearest_parent(q[phase_id == number], parents[number], phase)
            assert apart.mean() == pytest.approx(spread * np.sqrt(8 / np.pi), rel=0.1)
            assert apart.max() < 6 * spread
            assert set(nearest) == set(range(len(parents[number]))), "every parent has its turn"


def test_a_share_of_the_orientations_is_uniform_and_the_others_stay_where_they_were():
    parents = (random_uniform(3, seed=1), random_uniform(3, seed=2))
    plain, mixed = (
        draw(simulator_of(parents=parents, orientations="around", uniform_share=share), np.arange(4000))
        for share in (None, 0.25)
    )
    moved = (plain.orientation != mixed.orientation).any(axis=1)
    assert moved.mean() == pytest.approx(0.25, abs=0.03)
    assert (plain.orientation2 != mixed.orientation2).any(axis=1).mean() == pytest.approx(0.25, abs=0.03)
    for number, phase in enumerate((CUBIC, TRIGONAL)):
        own = mixed.orientation[moved & (mixed.phase_id == number)]
        guess = random_uniform(20_000, seed=3)
        apart, expected = (nearest_parent(q, parents[number], phase)[1] for q in (own, guess))
        assert np.median(apart) == pytest.approx(np.median(expected), rel=0.1)


@pytest.mark.parametrize("parents", [(), (np.eye(4)[:1],), (np.eye(4)[:1], np.empty((0, 4)))])
def test_a_phase_without_parents_cannot_be_simulated_around_them(parents):
    with pytest.raises(InputError, match="'around': every phase needs orientations of an index"):
        simulator_of(parents=parents, orientations="around")


def test_parents_in_a_dataset_are_the_labels_of_scans_in_training_alone():
    q = random_uniform(6, seed=0)
    labels = {
        "orientation": q,
        "phase_id": np.array([0, 1, 0, 0, 1, 1]),
        "split": np.array([0, 0, 1, 0, 2, 0]),
        "draw": np.array([-1, -1, -1, 4, -1, -1]),
    }
    first, second = training_parents(labels, n_phases=2)
    np.testing.assert_array_equal(first, q[[0]])
    np.testing.assert_array_equal(second, q[[1, 5]])


def test_a_texture_is_kept():
    middle = random_uniform(1, seed=9)[0]
    part = {"orientation": tuple(middle), "spread_deg": 1.0, "weight": 0.5}
    drawn = draw(simulator_of(orientations="texture", texture=[part]), np.arange(800))
    for number, phase in enumerate((CUBIC, TRIGONAL)):
        _, apart = nearest_parent(drawn.orientation[drawn.phase_id == number], middle[None], phase)
        assert 0.4 < (apart < 6).mean() < 0.6
    with pytest.raises(ValidationError, match="needs at least one part"):
        SimulationRecipe(orientations="texture")


def test_atoms_are_displaced_as_the_recipe_says_else_as_the_cif_else_as_usual():
    atoms = tuple(atom.model_copy(update={"u_iso_angstrom2": 0.01}) for atom in CUBIC.atoms)
    told = CUBIC.model_copy(update={"atoms": atoms})
    assert displacement(CUBIC, SimulationRecipe()) == USUAL_U_ISO_ANGSTROM2
    assert displacement(told, SimulationRecipe()) is None
    assert displacement(told, SimulationRecipe(u_iso_angstrom2=0.0)) == 0.0
    # F(u) / F(0) = exp(-2 pi^2 u g^2)
    for u, phase, asked in ((0.006, CUBIC, None), (0.01, told, None), (0.02, told, 0.02)):
        still, moving = (simulator_of([phase], u_iso_angstrom2=some).theory[0] for some in (0.0, asked))
        g2 = np.square(still.g).sum(axis=1)
        np.testing.assert_allclose(moving.factor / still.factor, np.exp(-2 * np.pi**2 * u * g2), rtol=1e-9)


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_reflections_are_taken_as_far_as_the_corners_and_no_farther_than_is_usual(physics):
    corner = 0.02 * np.hypot(40 - 12, 36)
    away = GEOMETRY.model_copy(update={"scale_inv_angstrom": 0.02, "center_xy": (12.0, 36.0)})
    for geometry, k_max, reach in ((away, None, corner), (away, 0.5, 0.5)):
        simulator = simulator_of([CUBIC], geometry=geometry, k_max_inv_angstrom=k_max, physics=physics)
        theory = simulator.theory[0]
        g = theory.g.numpy() if isinstance(theory, ScatteringTable) else theory.g
        length = np.linalg.norm(reciprocal_vectors(CUBIC), axis=1)
        assert np.linalg.norm(g, axis=1).max() == pytest.approx(length[length < reach].max())
    wide = GEOMETRY.model_copy(update={"scale_inv_angstrom": 0.2})
    far = simulator_of([CUBIC], geometry=wide, k_max_inv_angstrom=None).theory[0]
    assert 1.4 < np.linalg.norm(far.g, axis=1).max() <= 1.5


@pytest.mark.parametrize("physics", ["kinematical", "dynamical"])
def test_spots_lie_where_the_label_says(physics):
    simulator = simulator_of(physics=physics, k_max_inv_angstrom=None, sample=CLEAR)
    drawn = draw(simulator, np.arange(16))
    images = expected(simulator, drawn).numpy()
    wavelength, (column, row) = wavelength_angstrom(200), GEOMETRY.center_xy
    found = []
    for image, q, number in zip(images, drawn.orientation, drawn.phase_id, strict=True):
        # v in the crystal lies at g^-1 v in the lab; the sphere touches the origin and has its centre above
        lab = Rotation.from_quat(q, scalar_first=True).inv().apply(reciprocal_vectors((CUBIC, TRIGONAL)[number]))
        length2 = np.square(lab).sum(axis=1)
        shown = lab[(np.abs(lab[:, 2] - wavelength / 2 * length2) < 0.004) & (length2 > 0.3**2) & (length2 < 0.65**2)]
        i, j = np.round([row + shown[:, 1] / 0.036, column + shown[:, 0] / 0.036]).astype(int)
        assert (maximum_filter(image, 3)[i, j] > 0.1).all(), (q, i, j)
        # rows run evenly to both sides of the centre: upside down, the pattern is its mirror image
        found += [[maximum_filter(some, 3)[i, j].sum() for some in (image, image[::-1])]]
    there, mirrored = np.sum(found, axis=0)
    assert there > 4 * mirrored


def test_a_grain_without_a_spot_leaves_the_direct_beam():
    still = GEOMETRY.model_copy(update={"precession_deg": 0.0})
    simulator = simulator_of([CUBIC], geometry=still, sample=CLEAR, max_excitation_error=1e-6)
    drawn = draw(simulator, np.arange(3))
    assert beams(simulator, drawn)[0].shape == (3, 0, 2)
    image, dose = expected(simulator, drawn), drawn.conditions.dose_electrons
    np.testing.assert_allclose(image[:, 20:28, 16:25].sum(dim=(1, 2)), dose, rtol=1e-3)


@pytest.mark.parametrize(
    ("key", "value"),
    [("scale_inv_angstrom", 0.0), ("beam_energy_kev", -200), ("precession_deg", 10.0), ("precession_deg", -0.1)],
)
def test_a_geometry_out_of_bounds_is_refused(key, value):
    with pytest.raises(ValidationError, match=key):
        Geometry.model_validate(GEOMETRY.model_dump() | {key: value})


def test_a_plan_survives_the_manifest():
    plan = simulator_of(sample=MIXED).plan
    assert SimulationPlan.model_validate_json(plan.model_dump_json()) == plan
