"""Spots and what their places say: found where they are; scale, ellipse and centre come back as they were put in."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.bad_patterns import without_faults
from dpcurate.kinematic import kinematic_spots
from dpcurate.orientation_sampling import uniform_in_zone
from dpcurate.reflections import reflections
from dpcurate.spot_geometry import explained, fit_radii, friedel_center, rounded, shells_of
from dpcurate.spots import Spots, find_spots, ring_medians
from tests.crystals import LINIO2, NICKEL

SCALE, FIRST_PX, REACH_PX = 0.021, 8.0, 60.0
LIMITS = {"first_px": FIRST_PX, "reach_px": REACH_PX}


def spots_of(phase, n=60, seed=0, noise_px=0.2):
    """Places of the spots of n random orientations, those of kinematical theory, a little off."""
    rng = np.random.default_rng(seed)
    found = kinematic_spots(
        reflections(phase, REACH_PX * SCALE),
        uniform_in_zone(np.arange(n), phase.proper_rotations(), seed=seed),
        beam_energy_kev=200,
        precession_deg=0.5,
        max_excitation_error=0.01,
    )
    pattern, number = np.nonzero(found.intensity.numpy() > 0)
    place = found.q.numpy()[pattern, number] / SCALE
    return Spots(pattern, place + rng.normal(0, noise_px, place.shape), np.ones(len(pattern)), n)


def stretched(spots, *, factor=1.0, ratio=1.0, axis_deg=0.0):
    """The spots as a detector shows them that is out of round."""
    e = (ratio - 1) / (ratio + 1)
    size = factor * (1 + e * np.cos(2 * (spots.azimuth - np.radians(axis_deg))))
    return replace(spots, place_px=spots.place_px * size[:, None])


MANY = spots_of(NICKEL, n=150, noise_px=0.1)


@pytest.mark.parametrize("phase", [NICKEL, LINIO2], ids=lambda phase: phase.name)
@pytest.mark.parametrize(("factor", "ratio", "axis_deg"), [(1, 1, 0), (1.1, 1, 0), (0.98, 1.03, 30), (0.9, 1.02, 120)])
def test_scale_and_ellipse_come_back(phase, factor, ratio, axis_deg):
    found = stretched(spots_of(phase), factor=factor, ratio=ratio, axis_deg=axis_deg)
    fit = fit_radii(found.place_px, shells_of(phase, 1.6), scale_inv_angstrom=SCALE, **LIMITS)
    assert fit.factor == pytest.approx(1 / factor, abs=0.002)
    assert fit.ratio == pytest.approx(ratio, abs=0.004)
    if ratio > 1:
        assert abs((fit.axis_deg - axis_deg + 90) % 180 - 90) < 6


def test_an_ellipse_is_found_without_a_phase_too():
    found = stretched(spots_of(NICKEL), ratio=1.04, axis_deg=50)
    fit = fit_radii(found.place_px, None, scale_inv_angstrom=SCALE, **LIMITS)
    assert fit.ratio == pytest.approx(1.04, abs=0.006)
    assert fit.axis_deg == pytest.approx(50, abs=6)
    assert fit.factor == 1


@settings(max_examples=20, deadline=None)
@given(e=st.floats(0, 0.04), axis_deg=st.floats(0, 180))
def test_taking_an_ellipse_back_undoes_it(e, axis_deg):
    plain = spots_of(NICKEL, n=3)
    ellipse = (e * np.cos(2 * np.radians(axis_deg)), e * np.sin(2 * np.radians(axis_deg)))
    out_of_round = stretched(plain, ratio=(1 + e) / (1 - e), axis_deg=axis_deg)
    assert rounded(out_of_round.place_px, ellipse) == pytest.approx(plain.radius_px)


def test_a_right_phase_explains_all_spots_and_a_wrong_one_no_more_than_chance():
    spots = spots_of(NICKEL)
    right, chance = explained(spots.radius_px, shells_of(NICKEL, 1.4), SCALE, **LIMITS)
    wrong, other_chance = explained(spots.radius_px, shells_of(NICKEL, 1.4), SCALE * 1.07, **LIMITS)
    assert right > 0.99
    assert chance < 0.4
    assert wrong < other_chance + 0.2


@settings(max_examples=10, deadline=None)
@given(x=st.floats(-5, 5), y=st.floats(-5, 5))
def test_opposite_spots_tell_the_centre(x, y):
    found = friedel_center(replace(MANY, place_px=MANY.place_px + np.array([x, y])))
    assert found is not None
    assert found[0] == pytest.approx([x, y], abs=0.2)


def test_without_opposite_spots_there_is_no_centre():
    rng = np.random.default_rng(0)
    assert friedel_center(Spots(np.arange(40), rng.uniform(-50, 50, (40, 2)), np.ones(40), 40)) is None
    assert friedel_center(Spots(np.zeros(0, int), np.zeros((0, 2)), np.zeros(0), 40)) is None


def test_spots_are_found_where_they_are_and_noise_is_none():
    y, x = np.mgrid[:96, :96]
    places = np.array([[20.3, 30.7], [70.1, 60.4], [50.0, 80.8]])
    level = 200 * np.exp(-np.hypot(x - 48, y - 47) / 5) + 1
    for column, row in places:
        level = level + 300 / (2 * np.pi * 1.2**2) * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 2 / 1.2**2)
    electrons = np.random.default_rng(0).poisson(level, (20, 96, 96)).astype(float)
    found = find_spots(electrons, np.tile([48.0, 47.0], (20, 1)), np.full(20, 1.2))
    distance = np.linalg.norm(found.place_px[:, None] + [48, 47] - places, axis=-1).min(axis=1)
    assert len(found.height) == pytest.approx(60, abs=2)
    assert np.quantile(distance, 0.9) < 0.4


def test_the_median_of_a_ring_is_that_of_its_pixels():
    image = np.random.default_rng(0).normal(size=(9, 9))
    radius = np.hypot(*(np.indices((9, 9)) - 4))
    found = ring_medians(image, radius)
    assert found[4, 7] == pytest.approx(np.median(image[np.round(radius) == 3]))
    between = np.hypot(1, 2)
    medians = [np.median(image[np.round(radius) == ring]) for ring in (2, 3)]
    assert found[5, 6] == pytest.approx(medians[0] + (between - 2) * (medians[1] - medians[0]))


def test_faulty_pixels_take_the_mean_of_sound_neighbours():
    patterns = np.full((2, 16, 16), 5.0)
    faulty = np.zeros((16, 16), bool)
    faulty[:, 7] = True
    patterns[:, faulty] = 900
    assert without_faults(patterns, faulty) == pytest.approx(np.full((2, 16, 16), 5.0))
