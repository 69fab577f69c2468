"""Microstructures: their maps are exact, and their grains and boundaries are what was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import erf

from dpcurate.errors import InputError
from dpcurate.grain_orientations import TWIN_PLANES, GrainModel, TwinLaw, twin_rotation
from dpcurate.microstructure import SUPERSAMPLING, Specimen, overlap, thickness_map, touching, voronoi
from dpcurate.orientations import disorientation_deg, equivalents, multiply, random_uniform
from tests.crystals import BY_LAUE_GROUP, LINIO2, NICKEL, TITANIUM

SHARP = Specimen(probe_sigma_pixels=0)
CUBIC = NICKEL.proper_rotations()


def sharp(n_grains, *, seed=1, phases=(NICKEL,), shape=(60, 70), orientations=None, **model):
    """Voronoi grains without overlap."""
    return voronoi(
        shape,
        n_grains=n_grains,
        phases=phases,
        seed=seed,
        orientations=orientations,
        grains=GrainModel(**model),
        specimen=SHARP,
    )


def mean_orientations(micro):
    """Of each grain: the eigenvector of the largest eigenvalue of the sum of q q^T."""
    grains = [micro.quat[micro.grain == grain] for grain in range(micro.grain.max() + 1)]
    return np.array([np.linalg.eigh(q.T @ q)[1][:, -1] for q in grains])


def boundary_kinds(micro, symmetry, twin):
    """Disorientation of each two touching grains, and how far each pair is off the twin law, both in degrees."""
    mean = mean_orientations(micro)
    a, b = touching(micro.grain).T
    angle = disorientation_deg(mean[a], mean[b], symmetry)
    off = disorientation_deg(mean[a][:, None], multiply(twin, equivalents(mean[b], symmetry)), symmetry)
    return angle, off.min(axis=1)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_grains=st.integers(1, 40),
    sigma=st.floats(0, 3),
    spread=st.floats(0, 3),
    twins=st.sampled_from([0, 0.2]),
)
def test_every_map_obeys_the_laws_of_a_truth_file(seed, n_grains, sigma, spread, twins):
    micro = voronoi(
        (14, 19),
        n_grains=n_grains,
        phases=[LINIO2, TITANIUM],
        seed=seed,
        grains=GrainModel(spread_deg=spread, twin_share=twins),
        specimen=Specimen(probe_sigma_pixels=sigma, thickness_limits_angstrom=(150, 500)),
    )
    assert all(array.shape[:2] == micro.shape == (14, 19) for array in vars(micro).values())
    assert micro.weight.min() >= 0.5
    assert micro.weight.max() <= 1
    for quat in (micro.quat, micro.quat2):
        assert np.allclose(np.linalg.norm(quat, axis=-1), 1)
    alone = micro.weight == 1
    assert (micro.quat[alone] == micro.quat2[alone]).all()
    assert (micro.phase_id[alone] == micro.phase2_id[alone]).all()
    assert set(np.unique(micro.phase_id)) <= {0, 1}
    assert np.isclose(micro.thickness_angstrom.min(), 150)
    assert np.isclose(micro.thickness_angstrom.max(), 500)
    for grain in np.unique(micro.grain):
        assert len(np.unique(micro.phase_id[micro.grain == grain])) == 1


def test_the_same_seed_gives_the_same_map_and_another_seed_another():
    model = GrainModel(spread_deg=1, gradient_deg_per_100_pixels=5, small_angle_share=0.2, twin_share=0.1)
    one, same, other = (voronoi((30, 30), n_grains=12, phases=[NICKEL], seed=seed, grains=model) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(same).values(), strict=True))
    assert not np.array_equal(one.grain, other.grain)
    assert not np.array_equal(one.thickness_angstrom, other.thickness_angstrom)


def test_a_sharp_probe_sees_each_grain_alone_and_all_of_them():
    micro = sharp(25)
    assert set(np.unique(micro.grain)) == set(range(25))
    assert (micro.weight == 1).all()


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_the_overlap_at_a_straight_boundary_is_the_integral_of_a_gaussian(sigma):
    fine = np.zeros((20 * SUPERSAMPLING, 40 * SUPERSAMPLING), np.int64)
    fine[:, 18 * SUPERSAMPLING :] = 1
    first, second, weight = overlap(fine, sigma)
    distance = np.arange(40) + 0.5 - 18
    expected = 0.5 * (1 + erf(np.abs(distance) / (sigma * np.sqrt(2))))
    near = np.abs(distance) < 2 * sigma
    assert np.abs(weight[:, near] - expected[near]).max() < 0.02
    assert (weight[:, np.abs(distance) > 4 * sigma + 1] == 1).all()
    assert (first == (distance > 0)).all()
    assert (second[weight < 1] == 1 - first[weight < 1]).all()


def test_overlap_agrees_with_weighing_every_grain_over_the_whole_map():
    rng = np.random.default_rng(4)
    points = rng.uniform(size=(9, 2)) * 8 * SUPERSAMPLING
    cells = np.argwhere(np.ones((8 * SUPERSAMPLING, 8 * SUPERSAMPLING)))
    fine = np.square(cells[:, None] - points).sum(axis=2).argmin(axis=1).reshape(8 * SUPERSAMPLING, -1)
    first, second, weight = overlap(fine, 0.7)
    row, column = 4, 3  # far enough from the edge for a probe of 0.7 pixels
    off = cells - (np.array([row, column]) * SUPERSAMPLING + SUPERSAMPLING // 2)
    probe = np.exp(-np.square(off).sum(axis=1) / (2 * (0.7 * SUPERSAMPLING) ** 2))
    probe[np.abs(off).max(axis=1) > 4 * 0.7 * SUPERSAMPLING + 0.5] = 0
    share = np.bincount(fine.ravel(), probe)
    order = np.argsort(-share)
    assert (first[row, column], second[row, column]) == tuple(order[:2])
    assert np.isclose(weight[row, column], share[order[0]] / share[order[:2]].sum())


def test_the_second_orientation_is_that_of_the_other_grain():
    given_ones = random_uniform(15, seed=3)
    micro = voronoi((40, 40), n_grains=15, phases=[NICKEL], seed=1, orientations=given_ones)
    mixed = micro.weight < 1
    assert 0.05 < mixed.mean() < 0.7
    assert np.allclose(micro.quat, given_ones[micro.grain])
    of = np.abs(micro.quat2[mixed] @ given_ones.T).argmax(axis=1)
    assert np.allclose(micro.quat2[mixed], given_ones[of])
    assert (of != micro.grain[mixed]).all()
    padded = np.pad(micro.grain, 2, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))[mixed]
    assert (around == of[:, None, None]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_orientations_spread_within_a_grain_by_the_stated_amount_and_smoothly(spread):
    micro = sharp(6, spread_deg=spread)
    mean = mean_orientations(micro)
    for grain in range(6):
        off = disorientation_deg(micro.quat[micro.grain == grain], mean[grain], CUBIC)
        assert np.isclose(np.sqrt(np.square(off).mean()), spread, rtol=0.01)
    step = disorientation_deg(micro.quat[:, 1:], micro.quat[:, :-1], CUBIC)[micro.grain[:, 1:] == micro.grain[:, :-1]]
    assert step.max() < spread


def test_a_gradient_turns_a_grain_by_the_stated_angle_over_a_hundred_pixels():
    micro = sharp(1, gradient_deg_per_100_pixels=7, shape=(80, 80))
    along = [disorientation_deg(micro.quat[0, 0], micro.quat[at], CUBIC) for at in ((0, 60), (60, 0))]
    assert np.isclose(np.hypot(*along), 7 * 0.6)
    assert np.isclose(disorientation_deg(micro.quat[5, 9], micro.quat[5, 69], CUBIC), along[0])


def test_shares_of_small_angle_and_twin_boundaries_are_what_was_asked():
    micro = sharp(90, small_angle_share=0.25, twin_share=0.15, shape=(120, 120))
    angle, off_twin = boundary_kinds(micro, CUBIC, twin_rotation(NICKEL))
    twin = off_twin < 1e-3
    small = (angle >= 2) & (angle <= 10)
    assert abs(small.mean() - 0.25) < 0.05
    assert abs(twin.mean() - 0.15) < 0.05
    assert np.allclose(angle[twin], 60, atol=1e-3)
    assert angle.min() >= 2


def test_without_shares_no_boundary_is_small_or_a_twin():
    angle, off_twin = boundary_kinds(sharp(60), CUBIC, twin_rotation(NICKEL))
    assert angle.min() > 10
    assert off_twin.min() > 0.01


@pytest.mark.parametrize("group", BY_LAUE_GROUP)
def test_the_twin_of_a_twin_is_the_crystal_and_the_twin_is_another_orientation(group):
    phase = BY_LAUE_GROUP[group]
    twin, symmetry = twin_rotation(phase), phase.proper_rotations()
    identity = np.array([1.0, 0, 0, 0])
    assert group in TWIN_PLANES
    assert disorientation_deg(multiply(twin, twin), identity, symmetry) < 1e-6
    assert disorientation_deg(twin, identity, symmetry) > 10


def test_the_default_twins_are_those_of_the_literature():
    cubic = TwinLaw(angle_deg=60, axis=(1, 1, 1))
    assert disorientation_deg(twin_rotation(NICKEL), twin_rotation(NICKEL, cubic), CUBIC) < 1e-6
    # {10-12} twins of titanium: 85 degrees about <11-20>, which is a, x in the crystal frame.
    law = TwinLaw(angle_deg=85.0, axis=(1, 0, 0))
    turned = equivalents(twin_rotation(TITANIUM, law), TITANIUM.proper_rotations())
    own = twin_rotation(TITANIUM)
    variants = multiply(turned[:, None], TITANIUM.proper_rotations())
    assert disorientation_deg(own, variants, TITANIUM.proper_rotations()).min() < 0.1
    c_axis = TwinLaw(angle_deg=180, axis=(0, 0, 1))
    assert disorientation_deg(twin_rotation(LINIO2), twin_rotation(LINIO2, c_axis), LINIO2.proper_rotations()) < 1e-6


def test_a_twin_law_of_ones_own_is_followed():
    law = TwinLaw(angle_deg=38.94, axis=(1, 1, 0))  # Sigma 9
    micro = sharp(30, twin_share=0.2, twin_laws={"Ni": law})
    angle, off_twin = boundary_kinds(micro, CUBIC, twin_rotation(NICKEL, law))
    assert (off_twin < 1e-3).mean() > 0.12
    assert np.allclose(angle[off_twin < 1e-3], 38.94, atol=1e-3)


def test_phases_fill_the_stated_fractions_of_the_area():
    micro = sharp(80, phases=[LINIO2, NICKEL], phase_fractions=(0.7, 0.3), shape=(100, 100))
    largest = np.bincount(micro.grain.ravel()).max() / micro.grain.size
    assert abs((micro.phase_id == 1).mean() - 0.3) < largest


def test_a_wedge_is_flat_and_a_random_thickness_is_smooth_and_both_keep_the_limits():
    wedge = thickness_map((40, 50), specimen=Specimen(wedge_share=1, thickness_limits_angstrom=(100, 300)), seed=2)
    rough = thickness_map((40, 50), specimen=Specimen(wedge_share=0, thickness_limits_angstrom=(100, 300)), seed=2)
    for axis in (0, 1):
        assert np.allclose(np.diff(wedge, n=2, axis=axis), 0)
        assert 0 < np.abs(np.diff(rough, n=2, axis=axis)).max() < 5
        assert np.abs(np.diff(rough, axis=axis)).max() < 40
    for values in (wedge, rough):
        assert np.isclose(values.min(), 100)
        assert np.isclose(values.max(), 300)
    flat = thickness_map((5, 5), specimen=Specimen(thickness_limits_angstrom=(250, 250)), seed=2)
    assert (flat == 250).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_grains": 0}, "n_grains 0"),
        ({"n_grains": 101}, "can hold 1 to 100"),
        ({"orientations": np.ones((3, 4))}, r"expected \(10, 4\)"),
        ({"phases": [NICKEL, LINIO2], "phase_fractions": (0.5, 0.6)}, "add up to 1"),
        ({"twin_share": 1}, "boundaries can be made so"),
        ({"twin_share": 0.1, "twin_laws": {"Cu": TwinLaw(angle_deg=60, axis=(1, 1, 1))}}, "no phase is called Cu"),
        ({"twin_share": 0.1, "twin_laws": {"Ni": TwinLaw(angle_deg=90, axis=(0, 0, 1))}}, "makes no twin"),
        ({"twin_share": 0.1, "twin_laws": {"Ni": TwinLaw(angle_deg=60, axis=(0, 0, 0))}}, "makes no twin"),
    ],
)
def test_a_polycrystal_that_cannot_be_made_is_refused(change, message):
    n_grains = change.pop("n_grains", 10)
    with pytest.raises(InputError, match=message):
        sharp(n_grains, shape=(20, 20), **change)


@pytest.mark.parametrize("limits", [(0, 100), (300, 200), (-5, 5)])
def test_thickness_limits_out_of_order_are_refused(limits):
    with pytest.raises(ValidationError, match="rising order"):
        Specimen(thickness_limits_angstrom=limits)
