import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orix.quaternion import Orientation, Rotation, symmetry

from dpcurate import orientations as o

GROUPS = {"-3m": symmetry.D3d, "m-3m": symmetry.Oh, "6/mmm": symmetry.D6h, "mmm": symmetry.D2h, "2/m": symmetry.C2h}
groups = st.sampled_from(list(GROUPS.values())).map(lambda group: group.laue_proper_subgroup.data)
laws = settings(max_examples=40, deadline=None)


@st.composite
def unit_quaternions(draw):
    return o.random_uniform(1, seed=draw(st.integers(0, 2**32 - 1)))[0]


@laws
@given(q1=unit_quaternions(), q2=unit_quaternions(), group=groups, data=st.data())
def test_disorientation_ignores_which_equivalent_is_given(q1, q2, group, data):
    s = data.draw(st.sampled_from(list(group)))
    expected = o.disorientation_deg(q1, q2, group)
    assert o.disorientation_deg(o.multiply(s, q1), q2, group) == pytest.approx(expected, abs=1e-6)
    assert o.disorientation_deg(q2, q1, group) == pytest.approx(expected, abs=1e-6)


@laws
@given(q1=unit_quaternions(), q2=unit_quaternions(), turn=unit_quaternions(), group=groups)
def test_disorientation_does_not_change_when_the_lab_is_turned(q1, q2, turn, group):
    expected = o.disorientation_deg(q1, q2, group)
    assert o.disorientation_deg(o.multiply(q1, turn), o.multiply(q2, turn), group) == pytest.approx(expected, abs=1e-6)


def test_symmetry_on_the_wrong_side_breaks_the_law():
    group = symmetry.Oh.laue_proper_subgroup.data
    q = o.random_uniform(50, seed=0)
    wrong = o.multiply(q, group[5])
    assert (o.disorientation_deg(wrong, q, group) > 1).mean() > 0.9


@pytest.mark.parametrize("name", GROUPS)
def test_disorientation_equals_that_of_orix(name):
    group = GROUPS[name]
    a, b = o.random_uniform(200, seed=1), o.random_uniform(200, seed=2)
    theirs = Orientation(Rotation(a), symmetry=group).angle_with(Orientation(Rotation(b), symmetry=group))
    assert o.disorientation_deg(a, b, group.laue_proper_subgroup.data) == pytest.approx(np.rad2deg(theirs), abs=1e-6)


def test_products_and_matrices_equal_those_of_orix():
    a, b = o.random_uniform(20, seed=3), o.random_uniform(20, seed=4)
    assert o.to_matrix(a) == pytest.approx(Rotation(a).to_matrix(), abs=1e-12)
    assert o.multiply(a, b) == pytest.approx((Rotation(a) * Rotation(b)).data, abs=1e-12)


@laws
@given(g=unit_quaternions(), angle=st.floats(-180, 180), vector=st.tuples(*[st.floats(-1, 1)] * 3))
def test_turning_a_pattern_turns_every_lab_vector_about_the_beam(g, angle, vector):
    lab = o.to_matrix(g).T @ vector
    turned = o.to_matrix(o.turn_pattern(g, angle)).T @ vector
    expected = np.exp(1j * np.radians(angle)) * (lab[0] + 1j * lab[1])
    assert turned == pytest.approx([expected.real, expected.imag, lab[2]], abs=1e-9)


@laws
@given(g=unit_quaternions(), vector=st.tuples(*[st.floats(-1, 1)] * 3))
def test_mirroring_a_pattern_mirrors_y_of_the_inverted_lab_vector(g, vector):
    lab = o.to_matrix(g).T @ vector
    mirrored = -(o.to_matrix(o.mirror_pattern(g)).T @ vector)
    assert mirrored == pytest.approx(lab * [1, -1, 1], abs=1e-9)


def test_nearest_finds_what_a_plain_search_finds():
    group = symmetry.D3d.laue_proper_subgroup.data
    g, grid = o.random_uniform(30, seed=5), o.random_uniform(200, seed=6)
    every = o.disorientation_deg(g[:, None], grid[None], group)
    index, angle = o.nearest(g, grid, group)
    assert index == pytest.approx(every.argmin(axis=1))
    assert angle == pytest.approx(every.min(axis=1), abs=1e-5)


def test_a_uniform_guess_is_off_by_the_published_means():
    a, b = o.random_uniform(40_000, seed=7), o.random_uniform(40_000, seed=8)
    means = {name: o.disorientation_deg(a, b, GROUPS[name].laue_proper_subgroup.data).mean() for name in GROUPS}
    assert means["-3m"] == pytest.approx(66.6, abs=0.5)
    assert means["m-3m"] == pytest.approx(40.7, abs=0.3)


@laws
@given(g=unit_quaternions(), group=groups, data=st.data())
def test_all_equivalents_share_one_representative_in_the_fundamental_zone(g, group, data):
    s = data.draw(st.sampled_from(list(group)))
    first, second = o.zone_representative(g, group), o.zone_representative(o.multiply(s, g), group)
    assert np.abs(first @ second) == pytest.approx(1, abs=1e-9) or first[0] == pytest.approx(second[0], abs=1e-9)
