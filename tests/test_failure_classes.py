"""The classes into which benchmarks sort wrong orientations."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.failure_classes import CLASSES, failure_classes, pseudo_cubic_rotations
from dpcurate.orientations import about_z, disorientation_deg, multiply, random_uniform, to_matrix, turn_pattern
from dpcurate.reflections import reflections
from tests.crystals import LINIO2, NICKEL

CUBIC, OWN = pseudo_cubic_rotations(LINIO2), LINIO2.proper_rotations()
STRONG = 0.68
"""Share of the largest structure factor above which the reflections are the {200} and {220} of the cubic parent."""

seeds = st.integers(0, 2**32 - 1)


def unlike(rotations):
    """How many strong reflections have no strong one where the rotations bring them, to 2 %."""
    found = reflections(LINIO2, 0.8)
    strong = np.abs(found.factor) > STRONG * np.abs(found.factor).max()
    g = found.g[strong]
    moved = np.einsum("sij,gj->sgi", to_matrix(rotations), g)
    distance = np.linalg.norm(moved[:, :, None] - g, axis=-1).min(axis=2)
    return int((distance > 0.02 * np.linalg.norm(g, axis=1)).sum())


def test_the_cubic_rotations_are_a_group_that_holds_the_crystals_own_and_none_near_them():
    products = multiply(CUBIC[:, None], CUBIC[None]).reshape(-1, 4)
    assert np.abs(products @ CUBIC.T).max(axis=1).min() > 1 - 1e-9
    assert np.abs(OWN @ CUBIC.T).max(axis=1).min() > 1 - 1e-9
    angle = np.sort(disorientation_deg(CUBIC, [1.0, 0, 0, 0], OWN))
    np.testing.assert_allclose(angle, [0] * 6 + [90] * 18, atol=1e-5)


def test_cubic_rotations_bring_strong_reflections_onto_strong_ones_and_their_twins_do_not():
    twin = about_z(60.0)
    wrong_setting = multiply(multiply(twin, CUBIC), twin * [1, -1, -1, -1])
    assert unlike(CUBIC) == 0
    assert unlike(wrong_setting) > 0


def about(axis, angle_deg):
    """Quaternion of a turn about an axis (3,)."""
    half = np.radians(angle_deg) / 2
    return np.append(np.cos(half), np.sin(half) * axis / np.linalg.norm(axis))


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["right", "half turn", "pseudo-symmetric", "both"]), st.floats(0, 5))
def test_an_answer_is_sorted_by_how_it_was_made_wrong(seed, kind, tilt_deg):
    rng = np.random.default_rng(seed)
    truth = random_uniform(24, seed=rng)
    foreign = CUBIC[disorientation_deg(CUBIC, [1.0, 0, 0, 0], OWN) > 1]
    foreign = foreign if kind in ("pseudo-symmetric", "both") else OWN
    zone = np.array([np.sin(np.radians(tilt_deg)), 0, np.cos(np.radians(tilt_deg))])
    turn = about(zone, 180.0 if kind in ("half turn", "both") else 0.0)
    answer = multiply(foreign[rng.integers(len(foreign), size=24)], multiply(truth, turn))
    answer = turn_pattern(answer, rng.uniform(-2, 2, 24))
    grain = truth, np.zeros(24, int)
    found = failure_classes(answer, grain[1], truth=grain, second=grain, phases=[LINIO2])
    assert (found <= CLASSES.index(kind)).all()  # a turn may be near one of the crystal's own
    assert (found == CLASSES.index(kind)).sum() >= 16


def test_the_second_grain_another_phase_and_nothing_are_told_apart():
    first, second = random_uniform(4, seed=1), random_uniform(4, seed=2)
    grains = {"truth": (first, np.array([0, 0, 0, 0])), "second": (second, np.array([0, 1, 1, 0]))}
    answer = np.stack([second[0], second[1], first[2], first[3]])
    found = failure_classes(answer, np.array([0, 1, 1, -1]), **grains, phases=[NICKEL, LINIO2])
    assert [CLASSES[number] for number in found] == ["second grain", "second grain", "wrong phase", "not indexed"]


def test_other_crystals_have_no_pseudo_cubic_rotations():
    assert pseudo_cubic_rotations(NICKEL).shape == (0, 4)
