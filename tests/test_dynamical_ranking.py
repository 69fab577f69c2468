"""Dynamical scattering tells variants of a nearly cubic crystal apart, and fits tilt and thickness, for any lattice."""

import functools

import numpy as np
import pytest
import torch

from dpcurate import dynamical_ranking
from dpcurate.bloch import bloch_spots
from dpcurate.dynamical_ranking import judge
from dpcurate.kinematic import kinematic_spots
from dpcurate.orientations import about_z, conjugate, disorientation_deg, multiply, turn_pattern
from dpcurate.polar import polar_transform
from dpcurate.refine import tilts
from dpcurate.reflections import reflections
from dpcurate.scattering import scattering_table
from dpcurate.spot_models import make_ranker, turned
from tests.crystals import BADDELEYITE, LINIO2, TITANIUM
from tests.drawn_spots import draw_spots

SHAPE, CENTER_XY, SCALE, SIGMA_PX = (96, 96), (47.6, 48.3), 0.028, 1.0
ENERGY_KEV, PRECESSION_DEG, K_MAX, U_ISO = 200, 0.5, 1.1, 0.006
DOSE, BACKGROUND = 60_000, 0.5
CUBE = np.array([[1, -1, 0], [1, 1, -2], [1, 1, 1]]) / np.sqrt([[2], [6], [3]])
"""Cubic vectors to the crystal frame of LiNiO2, which is nearly rock salt: c along [111], a along [1 -1 0]."""


@functools.cache
def ranker_of(phase):
    transform = polar_transform(
        SHAPE,
        center_xy=CENTER_XY,
        scale_inv_angstrom=SCALE,
        k_min_inv_angstrom=0.15,
        k_max_inv_angstrom=K_MAX,
        n_radius=48,
        n_azimuth=180,
    )
    table = scattering_table(phase, beam_energy_kev=ENERGY_KEV, k_max_inv_angstrom=K_MAX + 0.05, u_iso_angstrom2=U_ISO)
    return make_ranker(
        (table,),
        transform,
        faulty=np.zeros(SHAPE, bool),
        center_xy=CENTER_XY,
        scale_inv_angstrom=SCALE,
        precession_deg=PRECESSION_DEG,
        sigma_px=SIGMA_PX,
        n_azimuths=24,
    )


def expected_counts(phase, orientation, thickness, *, dose=DOSE):
    """Expected counts of patterns of one thickness each, with as many azimuths as the fringes need, (n, h, w)."""
    spots = bloch_spots(
        phase,
        orientation,
        thickness_angstrom=np.reshape(thickness, (-1, 1)),
        beam_energy_kev=ENERGY_KEV,
        k_max_inv_angstrom=K_MAX + 0.1,
        precession_deg=PRECESSION_DEG,
        u_iso_angstrom2=U_ISO,
    )
    place = spots.q.float() / SCALE + torch.tensor(CENTER_XY)
    electrons = dose * 0.7 * torch.cat([spots.intensity[:, 0], spots.direct], dim=1)
    beam = torch.tensor(CENTER_XY).expand(len(place), 1, 2)
    return draw_spots(torch.cat([place, beam], dim=1), electrons, sigma_px=SIGMA_PX, shape=SHAPE) + BACKGROUND


def patterns_of(phase, orientation, thickness, *, seed=0, dose=DOSE):
    mean = expected_counts(phase, orientation, thickness, dose=dose)
    return torch.poisson(mean, generator=torch.Generator().manual_seed(seed))


def quaternion(matrix):
    """Quaternion whose `to_matrix` is a proper rotation matrix."""
    w = np.sqrt(max(0, 1 + np.trace(matrix))) / 2
    x, y, z = matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]
    return np.array([w, *np.array([x, y, z]) / (4 * w)])


def near_zone(zone, tilt_deg):
    """Orientation of LiNiO2 with a cubic zone nearly along the beam."""
    z = CUBE @ zone / np.linalg.norm(zone)
    x = np.cross([0.3, 0.5, 0.9], z)
    x /= np.linalg.norm(x)
    to_crystal = np.stack([x, np.cross(z, x), z], axis=1)
    return multiply(quaternion(to_crystal), tilts(np.array(tilt_deg)))


def pseudo_variants(g):
    """The four orientations of a cube's body diagonals that put c on another, the first as it is."""
    quarter = [np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])]
    quarter.append(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    turns = [quaternion(CUBE @ turn @ CUBE.T) for turn in quarter]
    return np.array([g, *(multiply(turn, g) for turn in turns)])


def wobbled(orientation, *, seed):
    """Rivals as they come from matching: off by some tenths of a degree."""
    rng = np.random.default_rng(seed)
    tilted = multiply(orientation, tilts(rng.uniform(-0.35, 0.35, (len(orientation), 2))))
    return turn_pattern(tilted, rng.uniform(-0.3, 0.3, len(orientation)))


def judged(phase, counts, rivals, *, spread_deg=0.3):
    number = np.zeros(len(rivals), np.int16)
    return judge(ranker_of(phase), counts, rivals, number, spread_deg=np.full(len(rivals), spread_deg))


def kinematic_image(g):
    spots = kinematic_spots(
        reflections(LINIO2, K_MAX),
        torch.as_tensor(g),
        beam_energy_kev=ENERGY_KEV,
        precession_deg=PRECESSION_DEG,
        max_excitation_error=0.03,
        thickness_angstrom=torch.full((len(g),), 200.0),
    )
    place = spots.q.float() / SCALE + torch.tensor(CENTER_XY)
    return draw_spots(place, spots.intensity.float().sqrt(), sigma_px=SIGMA_PX, shape=SHAPE).flatten(1)


CASES = [((1, 1, 0), (0.9, -0.6), 330.0, 1), ((1, 0, 0), (1.4, 0.5), 240.0, 2), ((1, 1, 2), (-0.4, 1.1), 450.0, None)]
"""Zone, tilt from it, thickness, and which variant is the true one seen upside down along the zone, if any."""


@pytest.fixture
def thorough(monkeypatch):
    """More climbs than indexing pays for: one of them may end on another fringe of the thickness."""
    monkeypatch.setattr(dynamical_ranking, "CLIMBED", 3)


@pytest.mark.parametrize(("zone", "tilt_deg", "thickness", "twin"), CASES)
def test_one_climb_tells_the_truth_from_variants_that_put_their_spots_at_the_same_places(
    zone, tilt_deg, thickness, twin
):
    g = near_zone(zone, tilt_deg)
    variants = pseudo_variants(g)
    found = judged(LINIO2, patterns_of(LINIO2, np.array([g, g]), [thickness, thickness]), wobbled(variants, seed=1))
    others = [k for k in range(1, 4) if k != twin]
    assert (found.log_likelihood[:, :1] - found.log_likelihood)[:, others].min() > 20


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize(("zone", "tilt_deg", "thickness", "twin"), CASES)
def test_the_truth_beats_variants_that_put_their_spots_at_the_same_places(zone, tilt_deg, thickness, twin):
    g = near_zone(zone, tilt_deg)
    variants = np.concatenate([pseudo_variants(g), turn_pattern(g, 180.0)[None]])
    assert disorientation_deg(variants[1:], g, LINIO2.proper_rotations()).min() > 50
    found = judged(LINIO2, patterns_of(LINIO2, np.array([g, g]), [thickness, thickness]), wobbled(variants, seed=1))
    behind = found.log_likelihood[:, :1] - found.log_likelihood
    others = [k for k in range(1, 5) if k != twin]
    assert behind[:, others].min() > 50
    assert behind.min() > -10
    off = disorientation_deg(found.orientation[:, 0], g, LINIO2.proper_rotations())
    assert off.max() < 0.2
    assert np.abs(found.thickness_angstrom[:, 0] - thickness).max() < 40


def test_variants_that_dynamical_scattering_tells_apart_score_alike_in_kinematical_theory():
    zone, tilt_deg, thickness, _ = CASES[1]
    g = near_zone(zone, tilt_deg)
    row, column = np.indices(SHAPE)
    ring = torch.as_tensor(np.hypot(column - CENTER_XY[0], row - CENTER_XY[1]).ravel() > 0.15 / SCALE)
    pattern = (patterns_of(LINIO2, g[None], [thickness]) - BACKGROUND).clamp(min=0).sqrt().flatten(1)
    drawn = kinematic_image(pseudo_variants(g))
    score = np.corrcoef(torch.cat([pattern, drawn])[:, ring].numpy())[0, 1:]
    assert (score[1:] > 0.97 * score[0]).all()


@pytest.mark.usefixtures("thorough")
def test_a_pattern_that_is_turned_has_the_same_judgement_turned():
    g = near_zone((1, 1, 0), (0.9, -0.6))
    variants = wobbled(pseudo_variants(g)[[0, 2]], seed=2)
    first, second = (
        judged(LINIO2, expected_counts(LINIO2, turn_pattern(g, angle)[None], [330]), turn_pattern(variants, angle))
        for angle in (0.0, 37.0)
    )
    symmetry = LINIO2.proper_rotations()
    off = disorientation_deg(turn_pattern(first.orientation[0], 37.0), second.orientation[0], symmetry)
    assert off[0] < 0.15
    assert np.abs(first.thickness_angstrom - second.thickness_angstrom)[0, 0] < 25
    lead = np.diff(np.stack([first.log_likelihood[0], second.log_likelihood[0]]), axis=1)
    assert (lead < -20).all()


@pytest.mark.parametrize("phase", [TITANIUM, BADDELEYITE], ids=lambda phase: phase.name)
def test_hexagonal_and_monoclinic_crystals_are_fitted_too(phase):
    g = multiply(np.array([0.8, 0.1, 0.5, -0.3]) / np.linalg.norm([0.8, 0.1, 0.5, -0.3]), about_z(20))
    rivals = np.array([g, turn_pattern(g, 180), multiply(g, tilts(np.array([7.0, 0])))])
    found = judged(phase, patterns_of(phase, g[None], [280]), wobbled(rivals, seed=3))
    assert found.log_likelihood[0].argmax() == 0
    assert disorientation_deg(found.orientation[0, 0], g, phase.proper_rotations()) < 0.25
    assert abs(found.thickness_angstrom[0, 0] - 280) < 60


def test_counts_below_nothing_and_empty_patterns_do_not_break_it():
    g = near_zone((1, 1, 0), (0.9, -0.6))
    counts = patterns_of(LINIO2, g[None], [330])
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    found = judged(LINIO2, torch.cat([counts - 0.5 + noise / 4, torch.zeros(1, *SHAPE)]), pseudo_variants(g)[[0, 2]])
    assert np.isfinite(found.log_likelihood).all()
    assert found.log_likelihood[0, 0] > found.log_likelihood[0, 1]


def test_spots_are_turned_from_x_towards_y():
    q = torch.tensor([[[1.0, 0.0], [0.0, 0.5]]])
    found = turned(q, torch.tensor([90.0]))
    np.testing.assert_allclose(found[0], [[0, 1], [-0.5, 0]], atol=1e-6)
    g = near_zone((1, 1, 0), (0.9, -0.6))
    np.testing.assert_allclose(turn_pattern(g, 30), multiply(g, conjugate(about_z(30))))
