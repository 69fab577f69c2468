"""Neighbours heal single pixels and nothing else: links do not know symmetry, boundaries and empty pixels count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.neighbourhood import STEPS, half_cosines_from, links, pooled
from dpcurate.orientations import disorientation_deg, multiply, random_uniform
from tests.candidates import matches_of, noisy
from tests.crystals import LINIO2, NICKEL

TRIGONAL, CUBIC = LINIO2.proper_rotations(), NICKEL.proper_rotations()


def one_crystal(shape, seed=0):
    return np.broadcast_to(random_uniform(1, seed=seed), (*shape, 4))


def two_crystals(shape, seed=0):
    a, b = random_uniform(2, seed=seed)
    left = np.arange(shape[1]) < shape[1] // 2
    return np.broadcast_to(np.where(left[:, None], a, b), (*shape, 4))


def shared(matches, *, symmetries=(TRIGONAL,), rounds=8):
    return pooled(matches.score, links(matches.orientation, matches.phase_id, symmetries=symmetries), rounds=rounds)


def chosen(matches, **options):
    best = shared(matches, **options).argmax(axis=-1)
    return np.take_along_axis(matches.orientation, best[..., None, None], axis=2)[:, :, 0]


def errors(matches, crystal, **options):
    return disorientation_deg(chosen(matches, **options), crystal, TRIGONAL)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), symmetry=st.sampled_from([TRIGONAL, CUBIC]))
def test_a_symmetric_equivalent_of_a_candidate_is_the_same_candidate(seed, symmetry):
    crystal = two_crystals((4, 5), seed)
    matches = noisy(matches_of(crystal, n=4, seed=seed), [(1, 1), (2, 3)])
    before = links(matches.orientation, matches.phase_id, symmetries=(symmetry,))
    rng = np.random.default_rng(seed)
    turned = multiply(symmetry[rng.integers(0, len(symmetry), matches.score.shape)], matches.orientation)
    turned *= rng.choice([-1, 1], matches.score.shape)[..., None]
    after = links(turned, matches.phase_id, symmetries=(symmetry,))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[step], after[step]) for step in before)
    assert any((index >= 0).any() for index in before.values())


def test_links_lead_there_and_back():
    matches = matches_of(two_crystals((5, 6)), n=5)
    found = links(matches.orientation, matches.phase_id, symmetries=(TRIGONAL,))
    assert found.keys() == {*STEPS, *((-row, -column) for row, column in STEPS)}
    index = found[0, 1][:, :-1]
    row, column, k = np.nonzero(index >= 0)
    np.testing.assert_array_equal(found[0, -1][row, column + 1, index[row, column, k]], k)
    assert (found[0, 1][:, -1] == -1).all()
    assert (found[1, 0][-1] == -1).all()


def test_a_noisy_pixel_in_a_crystal_is_healed():
    crystal = one_crystal((7, 7))
    matches = noisy(matches_of(crystal), [(3, 3), (0, 0)])
    own = disorientation_deg(matches.orientation[:, :, 0], crystal, TRIGONAL)
    assert own[3, 3] > 5
    assert own[0, 0] > 5
    assert errors(matches, crystal).max() < 2


def test_a_pixel_that_does_not_have_its_neighbours_candidate_is_left_alone():
    matches = matches_of(one_crystal((7, 7)))
    matches.orientation[3, 3] = random_uniform(6, seed=5)
    best = shared(matches)[3, 3].argmax()
    assert best == 0


@pytest.mark.parametrize("n", [2, 6])
def test_two_crystals_keep_their_boundary(n):
    crystal = two_crystals((8, 10))
    assert errors(matches_of(crystal, n=n), crystal).max() < 2


def test_skipped_pixels_have_no_say():
    crystal = one_crystal((5, 9))
    matches = noisy(matches_of(crystal), [(2, 4)])
    alone = shared(matches)
    matches.score[2, 4] = 0
    without = shared(matches)
    matches.orientation[2, 4] = crystal[2, 4]
    np.testing.assert_array_equal(shared(matches)[:, :4], without[:, :4])
    assert (without[2, 3] != alone[2, 3]).any()
    wall = matches_of(crystal)
    wall.score[:, 4] = 0
    left = shared(wall)[:, :4].copy()
    wall.score[:, 5:] *= 0.3
    np.testing.assert_array_equal(shared(wall)[:, :4], left)


def test_candidates_of_different_phases_never_link():
    crystal = one_crystal((3, 4))
    matches = matches_of(crystal, n=3)
    matches.phase_id[:, 2:] = 1
    found = links(matches.orientation, matches.phase_id, symmetries=(TRIGONAL, CUBIC))
    assert (found[0, 1][:, 1] == -1).all()
    assert (found[0, 1][:, [0, 2], 0] == 0).all()


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_lines_and_single_pixels_work(shape, n):
    crystal = one_crystal(shape)
    matches = matches_of(crystal, n=n)
    assert shared(matches).shape == (*shape, n)
    assert errors(matches, crystal).max() < 2
    if max(shape) > 1 and n > 1:
        assert errors(noisy(matches, [(shape[0] // 2, shape[1] // 2)]), crystal).max() < 2


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_pooled_scores_are_means_of_scores(seed):
    rng = np.random.default_rng(seed)
    matches = matches_of(two_crystals((4, 4), seed), n=4, seed=seed)
    matches.score[:] = np.sort(rng.uniform(0.1, 1, matches.score.shape))[..., ::-1]
    found = shared(matches)
    assert found.min() >= matches.score.min() - 1e-6
    assert found.max() <= matches.score.max() + 1e-6
    np.testing.assert_allclose(shared(matches, rounds=0), matches.score)


def test_half_cosines_are_those_of_disorientations_and_of_one_phase():
    expected, candidates = random_uniform(7, seed=1), random_uniform(28, seed=2).reshape(7, 4, 4)
    phase_id = np.tile(np.array([0, 1, 0, 1], np.int16), (7, 1))
    expected_phase = np.array([0, 1, 0, 1, 0, 1, -1])
    found = half_cosines_from(expected, expected_phase, candidates, phase_id, symmetries=(TRIGONAL, CUBIC))
    for number, symmetry in enumerate((TRIGONAL, CUBIC)):
        rows = expected_phase == number
        angle = disorientation_deg(candidates[rows], expected[rows][:, None], symmetry)
        both = phase_id[rows] == number
        np.testing.assert_allclose(found[rows][both], np.cos(np.radians(angle / 2))[both], atol=1e-6)
        assert (found[rows][~both] == -1).all()
    assert (found[6] == -1).all()
    assert (
        half_cosines_from(expected[:0], expected_phase[:0], candidates[:0], phase_id[:0], symmetries=(CUBIC,)).size == 0
    )
