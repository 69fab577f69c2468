"""Rivals of grains, and regions that are joined by them."""

import numpy as np
import pytest

from dpcurate.consensus import undecided
from dpcurate.grains import find_grains
from dpcurate.orientations import about_z, disorientation_deg, multiply, random_uniform, turn_pattern
from dpcurate.regions import joined
from dpcurate.rivals import Rivals, find_rivals
from tests.candidates import agreed, jittered, matches_of
from tests.crystals import LINIO2, NICKEL

SYMMETRY = LINIO2.proper_rotations()
FIRST = random_uniform(1, seed=3)[0]
OTHER = turn_pattern(FIRST, 70.0)


def two_variants(shape=(8, 8), *, ahead=0.002, seed=0):
    """Matches in which two variants score alike, now one ahead and now the other, as on a chess board."""
    rng = np.random.default_rng(seed)
    matches = matches_of(np.broadcast_to(FIRST, (*shape, 4)), seed=seed)
    matches.orientation[:, :, 1] = jittered(np.broadcast_to(OTHER, (*shape, 4)), rng=rng)
    matches.score[:, :, 1] = matches.score[:, :, 0] - ahead
    swapped = np.indices(shape).sum(axis=0) % 2 == 1
    matches.orientation[swapped, :2] = matches.orientation[swapped, 1::-1]
    return matches


def rivals_of(*orientations, score=0.6):
    n = len(orientations)
    return Rivals(np.array(orientations), np.zeros(n, np.int16), np.full(n, score, np.float32), np.full(n, 0.5))


def rivals_in(matches, **options):
    flat = (a.reshape(-1, *a.shape[2:]) for a in (matches.orientation, matches.score, matches.phase_id))
    return find_rivals(*flat, **{"symmetries": (SYMMETRY,), "near_best": 0.97, "most": 6} | options)


def angles(a, b):
    return disorientation_deg(a, b, SYMMETRY)


def test_both_variants_of_a_grain_are_its_rivals_whichever_is_ahead():
    found = rivals_in(two_variants())
    assert len(found.score) == 2
    apart = angles(found.orientation[:, None], np.array([FIRST, OTHER]))
    assert apart.min(axis=0).max() < 0.2
    assert found.spread_deg.max() < 1.5
    assert found.score == pytest.approx(0.6, abs=0.01)


def test_a_rival_that_one_pixel_in_four_lacks_falls_behind():
    matches = two_variants()
    matches.score[::2, ::2, 1] = matches.score[::2, ::2, -1]
    matches.orientation[::2, ::2, 1] = random_uniform(16, seed=1).reshape(4, 4, 4)
    found = rivals_in(matches, near_best=0.5)
    assert angles(found.orientation[0], FIRST) < 0.3
    assert angles(found.orientation[1], OTHER) < 0.3
    assert found.score[1] < found.score[0] - 0.05
    assert len(rivals_in(matches).score) == 1


def test_rivals_are_distinct_best_first_and_not_too_many():
    found = rivals_in(two_variants(), near_best=0.1, most=4)
    assert len(found.score) <= 4
    assert (np.diff(found.score) <= 0).all()
    apart = angles(found.orientation[:, None], found.orientation)
    assert apart[np.triu_indices(len(apart), 1)].min() > 2
    assert len(found.chosen(slice(2)).score) == 2


def test_symmetric_equivalents_make_no_other_rival():
    matches = two_variants()
    rng = np.random.default_rng(4)
    before = rivals_in(matches)
    matches.orientation[:] = multiply(SYMMETRY[rng.integers(0, 6, matches.score.shape)], matches.orientation)
    after = rivals_in(matches)
    assert angles(before.orientation, after.orientation).max() < 1e-5
    np.testing.assert_allclose(before.score, after.score)


def test_rivals_may_be_of_another_phase():
    matches = two_variants()
    swapped = np.indices((8, 8)).sum(axis=0) % 2 == 1
    matches.phase_id[..., 1] = 1
    matches.phase_id[swapped, :2] = (1, 0)
    found = rivals_in(matches, symmetries=(SYMMETRY, NICKEL.proper_rotations()))
    assert sorted(found.phase_id.tolist()) == [0, 1]


def test_a_grain_that_noise_cuts_into_two_variants_is_one_region_with_both_as_rivals():
    matches = two_variants((8, 12))
    found = consensus_of(cut_at(3))
    assert found.grain_id.max() == 1
    regions, cases = undecided(found, matches, (LINIO2,), min_pixels=5, sites=6)
    assert regions.grain_id.max() == 0
    assert len(cases) == 1
    assert len(cases[0].rivals.score) == 2
    assert len(np.unique(cases[0].sites, axis=0)) == 6


def test_twins_that_are_each_large_enough_to_be_judged_are_not_joined():
    regions, cases = undecided(consensus_of(cut_at(6)), two_variants((8, 12)), (LINIO2,), min_pixels=5, sites=6)
    assert regions.grain_id.max() == 1
    assert [len(case.rivals.score) for case in cases] == [2, 2]
    for case in cases:
        assert (regions.grain_id[tuple(case.sites.T)] == case.grain).all()


def cut_at(column):
    """Labels of 8 x 12 pixels: the first variant left of a column, the other right of it."""
    return np.broadcast_to(np.where((np.arange(12) < column)[:, None], FIRST, OTHER), (8, 12, 4))


def test_grains_that_are_truly_different_are_not_joined():
    label = cut_at(3)
    regions, cases = undecided(consensus_of(label), matches_of(label), (LINIO2,), min_pixels=5, sites=6)
    assert regions.grain_id.max() == 1
    assert cases == []


def test_a_chain_without_a_rival_common_to_all_is_not_joined_to_one():
    a, b, c, d = random_uniform(4, seed=8)
    grain_id = np.repeat(np.arange(3, dtype=np.int32), 4)[None].repeat(3, axis=0)
    chain = {0: rivals_of(a, b), 1: rivals_of(b, c), 2: rivals_of(c, d)}
    assert joined(grain_id, chain, symmetries=(SYMMETRY,)).max() == 1
    common = {0: rivals_of(a, b), 1: rivals_of(c, b), 2: rivals_of(b, d)}
    assert joined(grain_id, common, symmetries=(SYMMETRY,)).max() == 0


def test_the_longest_border_is_joined_first():
    a, b, c = random_uniform(3, seed=8)
    grain_id = np.zeros((6, 9), np.int32)
    grain_id[:, 3:], grain_id[:2, 6:], grain_id[2:, 6:] = 1, 3, 2
    rivals = {0: rivals_of(a), 1: rivals_of(b, c), 2: rivals_of(c), 3: rivals_of(b)}
    found = joined(grain_id, rivals, symmetries=(SYMMETRY,))
    assert found[3, 4] == found[3, 7] != found[0, 7]


def test_pixels_in_no_grain_stay_so_and_bound_nothing():
    grain_id = np.array([[0, 0, -1, 1, 1]], np.int32)
    rivals = {0: rivals_of(FIRST), 1: rivals_of(FIRST)}
    assert joined(grain_id, rivals, symmetries=(SYMMETRY,)).tolist() == [[0, 0, -1, 1, 1]]
    empty = np.full((3, 3), -1, np.int32)
    assert (joined(empty, {}, symmetries=(SYMMETRY,)) == -1).all()


def test_rivals_of_different_phases_do_not_join():
    grain_id = np.array([[0, 0, 1, 1]], np.int32)
    second = Rivals(FIRST[None], np.ones(1, np.int16), np.ones(1, np.float32), np.ones(1))
    symmetries = (SYMMETRY, NICKEL.proper_rotations())
    assert joined(grain_id, {0: rivals_of(FIRST), 1: second}, symmetries=symmetries).max() == 1


def consensus_of(label):
    """A consensus in which pixels have these labels of the first phase."""
    phase_id = np.zeros(label.shape[:2], np.int16)
    grain_id = find_grains(label, phase_id, symmetries=[SYMMETRY], boundary_deg=5, min_pixels=5)
    return agreed(label, grain_id)


def test_the_spread_of_a_bent_grain_is_its_bending():
    bent = multiply(FIRST, about_z(np.linspace(-2, 2, 64)).reshape(8, 8, 4))
    found = rivals_in(matches_of(bent))
    assert found.spread_deg[0] == pytest.approx(1.8, abs=0.3)
