import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi, ks_2samp, kstest

from dpcurate import orientations as o
from dpcurate.errors import InputError
from dpcurate.orientation_sampling import Component, Fibre, around, texture, uniform_in_zone
from tests.crystals import BY_LAUE_GROUP

SYMMETRY = {name: phase.proper_rotations() for name, phase in BY_LAUE_GROUP.items()}
IDENTITY = np.array([1.0, 0, 0, 0])

laws = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
groups = st.sampled_from(list(SYMMETRY.values()))
every_group = pytest.mark.parametrize("name", SYMMETRY)


def components(seed):
    """A texture of one component and one fibre, the rest uniform."""
    middle = tuple(o.random_uniform(1, seed=seed)[0].tolist())
    return [
        Component(orientation=middle, spread_deg=3.0, weight=0.5),
        Fibre(crystal=(1, 1, 0), lab=(0, 0, 1), spread_deg=2.0, weight=0.3),
    ]


def angle_deg(q):
    return np.degrees(2 * np.arccos(np.clip(np.abs(q[:, 0]), 0, 1)))


@every_group
def test_small_angles_are_as_frequent_as_the_volume_of_rotations_says(name):
    symmetry = SYMMETRY[name]
    q = uniform_in_zone(np.arange(20_000), symmetry, seed=1)
    turns = angle_deg(symmetry)
    inside = turns[turns > 1].min() / 2  # up to this angle the zone is the whole ball
    small = np.radians(angle_deg(q)[angle_deg(q) < inside])
    limit = np.radians(inside)
    expected = len(symmetry) * (limit - np.sin(limit)) / np.pi
    assert len(small) / len(q) == pytest.approx(expected, abs=0.015)
    assert kstest(small, lambda x: (x - np.sin(x)) / (limit - np.sin(limit))).pvalue > 0.01


@every_group
def test_orientations_are_spread_as_uniform_ones_are_that_are_brought_into_the_zone(name):
    found = uniform_in_zone(np.arange(10_000), SYMMETRY[name], seed=2)
    expected = o.zone_representative(o.random_uniform(10_000, seed=3), SYMMETRY[name])
    directions = o.random_uniform(4, seed=4)
    for direction in (IDENTITY, *np.eye(4)[1:], *directions):
        assert ks_2samp(found @ direction, expected @ direction).pvalue > 0.002


@pytest.mark.parametrize(("name", "mean"), [("m-3m", 40.7), ("-3m", 66.6)])
def test_two_uniform_orientations_are_as_far_apart_on_average_as_published(name, mean):
    a, b = (uniform_in_zone(np.arange(20_000), SYMMETRY[name], seed=seed) for seed in (5, 6))
    assert o.disorientation_deg(a, b, SYMMETRY[name]).mean() == pytest.approx(mean, abs=0.4)


@laws
@given(seed=seeds, symmetry=groups)
def test_uniform_orientations_and_textures_lie_in_the_zone(seed, symmetry):
    for q in (
        uniform_in_zone(np.arange(50), symmetry, seed=seed),
        texture(components(seed), np.arange(50), symmetry, seed=seed),
    ):
        assert np.linalg.norm(q, axis=1) == pytest.approx(1, abs=1e-12)
        assert (q[:, 0] >= 0).all()
        assert angle_deg(q) == pytest.approx(o.disorientation_deg(q, IDENTITY, symmetry), abs=1e-5)


@laws
@given(seed=seeds, start=st.integers(0, 2**44), n=st.integers(1, 40), symmetry=groups, data=st.data())
def test_an_orientation_does_not_depend_on_what_it_is_drawn_with(seed, start, n, symmetry, data):
    parents, parts = o.random_uniform(3, seed=seed), components(seed)
    index = start + np.arange(n)
    some = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=10)))
    draws = [
        lambda index: uniform_in_zone(index, symmetry, seed=seed),
        lambda index: around(parents, index, spread_deg=2.0, seed=seed),
        lambda index: texture(parts, index, symmetry, seed=seed),
    ]
    for draw in draws:
        together = draw(index)
        assert np.array_equal(draw(index[some]), together[some])
        assert len(np.unique(together, axis=0)) == n


def test_another_seed_gives_other_orientations():
    a, b = (uniform_in_zone(np.arange(100), SYMMETRY["2/m"], seed=seed) for seed in (0, 1))
    assert np.abs((a * b).sum(axis=1)).max() < 1 - 1e-6


@pytest.mark.parametrize("spread", [0.5, 3.0, 10.0])
def test_orientations_spread_around_their_parents_as_far_as_asked(spread):
    parents = o.random_uniform(7, seed=7)
    q = around(parents, np.arange(21_000), spread_deg=spread, seed=8)
    delta = o.multiply(o.conjugate(np.tile(parents, (3000, 1))), q)
    delta = np.where(delta[:, :1] < 0, -delta, delta)
    length = np.linalg.norm(delta[:, 1:], axis=1, keepdims=True)
    vector = np.degrees(2 * np.arctan2(length, delta[:, :1])) * delta[:, 1:] / length
    assert vector.std(axis=0) == pytest.approx(spread, rel=0.02)
    assert np.abs(vector.mean(axis=0)).max() < 0.03 * spread
    assert np.abs(np.corrcoef(vector.T) - np.eye(3)).max() < 0.03
    assert np.linalg.norm(vector, axis=1).mean() == pytest.approx(spread * np.sqrt(8 / np.pi), rel=0.02)


def test_no_spread_gives_the_parents_in_turn():
    parents = o.random_uniform(3, seed=9)
    assert around(parents, np.arange(1, 9), spread_deg=0, seed=0) == pytest.approx(parents[[1, 2, 0, 1, 2, 0, 1, 2]])


@laws
@given(seed=seeds, symmetry=groups)
def test_a_texture_of_nothing_is_uniform(seed, symmetry):
    assert np.array_equal(
        texture([], np.arange(20), symmetry, seed=seed), uniform_in_zone(np.arange(20), symmetry, seed=seed)
    )


def test_a_texture_has_the_shares_and_spreads_of_its_parts():
    symmetry = SYMMETRY["-3m"]
    component, fibre = components(10)
    q = texture([component, fibre], np.arange(10_000), symmetry, seed=11)
    off = o.disorientation_deg(q, np.array(component.orientation), symmetry)
    in_component = off < 15
    assert in_component.mean() == pytest.approx(0.5, abs=0.03)
    assert np.median(off[in_component]) == pytest.approx(3 * chi.median(3), rel=0.04)
    crystal = np.array(fibre.crystal) / np.linalg.norm(fibre.crystal)
    images = np.concatenate([crystal @ o.to_matrix(o.multiply(s, q)) for s in symmetry]).reshape(len(symmetry), -1, 3)
    tilt = np.degrees(np.arccos(np.clip(images[..., 2].max(axis=0), -1, 1)))
    in_fibre = (tilt < 8) & ~in_component
    assert in_fibre.mean() == pytest.approx(0.3, abs=0.03)
    assert np.median(tilt[in_fibre]) == pytest.approx(2 * chi.median(2), rel=0.06)


@laws
@given(seed=seeds, opposite=st.booleans())
def test_a_sharp_fibre_keeps_its_directions_together_and_turns_about_them(seed, opposite):
    crystal, lab = np.random.default_rng(seed).normal(size=(2, 3))
    crystal = -2 * lab if opposite else crystal
    fibre = Fibre(crystal=tuple(crystal), lab=tuple(lab), spread_deg=0, weight=1)
    q = texture([fibre], np.arange(60), IDENTITY[None], seed=seed)
    placed = crystal @ o.to_matrix(q)
    expected = lab * np.linalg.norm(crystal) / np.linalg.norm(lab)
    assert placed == pytest.approx(np.tile(expected, (60, 1)), abs=1e-9)
    turn = angle_deg(o.multiply(o.conjugate(q[:1]), q))
    assert turn.max() > 140
    assert np.median(turn) == pytest.approx(90, abs=40)


def test_weights_beyond_one_are_refused():
    parts = [Component(orientation=(1, 0, 0, 0), spread_deg=1, weight=weight) for weight in (0.5, 0.6)]
    with pytest.raises(InputError, match="add up to 1.1, which is more than 1"):
        texture(parts, np.arange(5), SYMMETRY["mmm"], seed=0)
