"""Does the pyxem engine give back what was simulated? Frames, mirrors and bins, for several Laue groups."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orix.quaternion import Rotation
from scipy.ndimage import gaussian_filter

from dpcurate.errors import InputError
from dpcurate.library import TemplateLibrary, build_library, simulate_spots, with_spots_beyond, zone_axis_rotations
from dpcurate.matching import decode, innermost_k, match, polar_patterns, polar_templates, rank, unpack
from dpcurate.orientations import (
    disorientation_deg,
    mirror_pattern,
    multiply,
    random_uniform,
    to_matrix,
    turn_pattern,
)
from dpcurate.preprocess import prepare_polar
from dpcurate.recipe import MatchingRecipe, PreprocessRecipe
from tests.crystals import BY_LAUE_GROUP, CEMENTITE, LINIO2, NICKEL, TITANIUM

SIMULATION = {
    "beam_energy_kev": 200,
    "precession_deg": 0.7,
    "k_max_inv_angstrom": 1.75,
    "max_excitation_error": 0.02,
}
SPACING_DEG = 2.0
CENTER_XY, SCALE, SHAPE = (64.3, 63.6), 0.028, (128, 128)
PHASES = {"LiNiO2": LINIO2, "Ni": NICKEL, "Ti": TITANIUM, "Fe3C": CEMENTITE}
N_EACH = 10
GRID_LOSS = 0.9
"""Score that the nearest template may lose because it lies up to half a spacing from the truth."""
RECIPE = PreprocessRecipe()
K_MAX = 1.75


def draw(phase, orientations):
    """Noise-free patterns of diffsims' spots, (n, 128, 128)."""
    spots = simulate_spots(phase, orientations, **SIMULATION)
    images = np.zeros((len(orientations), *SHAPE))
    for image, q, intensity in zip(images, spots.q, spots.intensity, strict=True):
        fine = np.zeros((SHAPE[0] * 4, SHAPE[1] * 4))
        column, row = ((q / SCALE + CENTER_XY + 0.5) * 4).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < fine.shape[1]) & (row < fine.shape[0]) & (intensity > 0)
        np.add.at(fine, (row[inside], column[inside]), intensity[inside])
        image += gaussian_filter(fine, 5).reshape(SHAPE[0], 4, SHAPE[1], 4).sum(axis=(1, 3))
    return images


@pytest.fixture(scope="module")
def polar():
    """Prepared polar patterns of random orientations of each phase, one row of the scan per phase, and the truth."""
    truth = {name: random_uniform(N_EACH, seed=100 + k) for k, name in enumerate(PHASES)}
    patterns = np.stack([draw(PHASES[name], truth[name]) for name in PHASES])
    signal = polar_patterns(
        da.from_array(patterns, chunks=(1, N_EACH, *SHAPE)),
        center_xy=CENTER_XY,
        scale=SCALE,
        k_max=K_MAX,
        recipe=RECIPE,
    )
    signal.data = signal.data.map_blocks(prepare_polar, RECIPE, dtype=np.float32)
    signal.compute()
    return signal, truth


def matched(signal, library):
    templates = polar_templates(library, k_max_inv_angstrom=K_MAX, recipe=RECIPE)
    lazy = match(signal.as_lazy(), [library], templates=[templates], recipe=MatchingRecipe())
    return unpack(lazy.compute())


def score_of_truth(signal, phase, truth):
    """Correlation of each pattern with the template of its own orientation."""
    library = TemplateLibrary(phase=phase, rotation=truth, spots=simulate_spots(phase, truth, **SIMULATION))
    templates = polar_templates(library, k_max_inv_angstrom=K_MAX, recipe=RECIPE)
    rows = signal.get_orientation(templates, n_best=-1, frac_keep=1.0).data
    own = rows[0, np.arange(len(truth))]
    return np.array([own[k][own[k, :, 0] == k, 1][0] for k in range(len(truth))])


@pytest.mark.parametrize("name", PHASES)
def test_random_orientations_come_back_or_score_as_high_as_the_truth(polar, name):
    signal, truth = polar
    phase, row = PHASES[name], list(PHASES).index(name)
    part = signal.inav[:, row : row + 1]
    library = build_library(phase, spacing_deg=SPACING_DEG, **SIMULATION)
    library = with_spots_beyond(library, innermost_k(K_MAX, RECIPE))
    result = matched(part, library)
    error = disorientation_deg(result.orientation[0, :, 0], truth[name], phase.proper_rotations())
    back = error < SPACING_DEG
    ambiguous = result.score[0, :, 0] >= GRID_LOSS * score_of_truth(part, phase, truth[name])
    assert (back | ambiguous).all(), error.round(1)
    assert back.mean() >= 0.8
    assert (np.diff(result.score[0], axis=-1) <= 0).all()


def test_pyxems_own_mirror_decoding_would_be_caught_for_linio2():
    library = build_library(LINIO2, spacing_deg=10, **SIMULATION)
    rows = np.array([[k, 1.0, 0.0, -1.0] for k in range(len(library.rotation))])
    right = decode(rows, library.rotation, step_deg=0.0)
    euler = Rotation(library.rotation).to_euler()
    wrong = Rotation.from_euler(-euler).data
    off = disorientation_deg(right, wrong, LINIO2.proper_rotations())
    assert np.median(off) > 30


@settings(max_examples=12, deadline=None)
@given(laue=st.sampled_from(list(BY_LAUE_GROUP)), seed=st.integers(0, 10_000))
def test_a_mirrored_pattern_is_that_of_the_orientation_times_a_half_turn_about_y(laue, seed):
    phase = BY_LAUE_GROUP[laue]
    g = random_uniform(1, seed=seed)
    spots, mirrored = (simulate_spots(phase, q, **SIMULATION) for q in (g, mirror_pattern(g)))
    assert_same_spots(spots.q[0] * [1, -1], spots.intensity[0], mirrored.q[0], mirrored.intensity[0])


@settings(max_examples=12, deadline=None)
@given(laue=st.sampled_from(list(BY_LAUE_GROUP)), seed=st.integers(0, 10_000), data=st.data())
def test_equivalent_orientations_have_the_same_spots(laue, seed, data):
    phase = BY_LAUE_GROUP[laue]
    g = random_uniform(1, seed=seed)
    s = data.draw(st.sampled_from(list(phase.proper_rotations())))
    spots, same = (simulate_spots(phase, q, **SIMULATION) for q in (g, multiply(s, g)))
    assert_same_spots(spots.q[0], spots.intensity[0], same.q[0], same.intensity[0])


def assert_same_spots(q, intensity, other_q, other_intensity):
    """Every spot over a tenth of the strongest stands at the same place with the same intensity in both."""
    for (here, i), (there, j) in (
        ((q, intensity), (other_q, other_intensity)),
        ((other_q, other_intensity), (q, intensity)),
    ):
        strong = i > 0.1 * i.max()
        distance = np.linalg.norm(here[strong][:, None] - there[None], axis=-1)
        distance[:, j <= 0] = np.inf
        assert distance.min(axis=1).max() < 1e-3
        assert j[distance.argmin(axis=1)] == pytest.approx(i[strong], rel=1e-2)


@pytest.mark.parametrize("laue", BY_LAUE_GROUP)
def test_templates_with_turns_and_mirrors_reach_every_orientation(laue):
    phase = BY_LAUE_GROUP[laue]
    symmetry = to_matrix(phase.proper_rotations())
    axes = to_matrix(zone_axis_rotations(phase.proper_rotations(), spacing_deg=4))[:, :, 2]
    wanted = np.einsum("sij,nj->nsi", symmetry, to_matrix(random_uniform(300, seed=1))[:, :, 2])
    closest = np.abs(wanted @ axes.T).max(axis=(1, 2))
    assert np.degrees(np.arccos(np.clip(closest, 0, 1))).max() < 4
    whole_sphere = 4 * np.pi / np.radians(4) ** 2
    assert len(axes) == pytest.approx(1.3 * whole_sphere / (2 * len(symmetry)), rel=0.5)


@given(
    template=st.integers(0, 3), turn_bins=st.integers(0, 359), mirrored=st.booleans(), angle=st.floats(0.001, 359.999)
)
@settings(max_examples=60, deadline=None)
def test_decoding_undoes_binning_turn_and_mirror(template, turn_bins, mirrored, angle):
    """A spot at ``angle`` in the template, matched at shift s, lies where the decoded orientation puts it."""
    rotation = random_uniform(4, seed=9)
    shift = (turn_bins - 180) % 360
    row = np.array([template, 1.0, shift - 180.0, -1.0 if mirrored else 1.0])
    got = decode(row, rotation, step_deg=1.0)
    bin_of_spot = int(np.floor((-angle) % 360))
    matched_bin = (shift - bin_of_spot if mirrored else shift + bin_of_spot) % 360
    angle_in_pattern = -(-180 + matched_bin + 0.5)
    center_of_bin = -(bin_of_spot + 0.5)
    expected_turn = angle_in_pattern - (-center_of_bin if mirrored else center_of_bin)
    base = mirror_pattern(rotation[template]) if mirrored else rotation[template]
    assert np.abs(got @ turn_pattern(base, expected_turn)) == pytest.approx(1, abs=1e-9)


def test_the_runner_up_is_the_best_candidate_far_from_the_winner_or_of_another_phase():
    base = random_uniform(1, seed=3)[0]
    near, far = turn_pattern(base, 5.0), turn_pattern(base, 45.0)
    first = TemplateLibrary(phase=CEMENTITE, rotation=np.stack([base, near, far]), spots=None)
    second = TemplateLibrary(phase=TITANIUM, rotation=base[None], spots=None)
    rows = np.array([[0, 0.9, 0, 1], [1, 0.8, 0, 1], [2, 0.6, 0, 1]], float)
    other = np.array([[0, 0.7, 0, 1]], float)
    alone = unpack(rank(rows[None, None], [first], step_deg=1, n_best=2, runner_up_deg=10))
    both = unpack(
        rank(np.concatenate([rows, other])[None, None], [first, second], step_deg=1, n_best=4, runner_up_deg=10)
    )
    assert alone.runner_up_score[0, 0] == pytest.approx(0.6)
    assert both.runner_up_score[0, 0] == pytest.approx(0.7)
    assert both.phase_id[0, 0].tolist() == [0, 0, 1, 0]


def test_no_spot_of_a_template_is_lost_to_binning():
    library = build_library(LINIO2, spacing_deg=8, **SIMULATION)
    templates = polar_templates(library, k_max_inv_angstrom=K_MAX, recipe=PreprocessRecipe(power=1.0))
    step = (K_MAX - RECIPE.k_min_inv_angstrom) / RECIPE.n_radius
    radius = np.linalg.norm(library.spots.q, axis=-1)
    wanted = np.where(radius >= RECIPE.k_min_inv_angstrom + step, library.spots.intensity, 0).sum(axis=1)
    assert templates.intensity.sum(axis=1) == pytest.approx(wanted, rel=1e-5)
    assert templates.azimuth_bin.max() <= 359


def test_templates_without_a_spot_in_reach_are_left_out_and_none_left_is_an_error():
    still = {**SIMULATION, "precession_deg": 0.0, "max_excitation_error": 0.005}
    library = build_library(NICKEL, spacing_deg=6, **still)
    kept = with_spots_beyond(library, innermost_k(K_MAX, RECIPE))
    assert 0 < len(kept.rotation) < len(library.rotation)
    templates = polar_templates(kept, k_max_inv_angstrom=K_MAX, recipe=RECIPE)
    assert (templates.intensity.sum(axis=1) > 0).all()
    with pytest.raises(InputError, match="no template has a spot beyond 9.00"):
        with_spots_beyond(library, 9.0)
