"""From candidates to one map: neighbours, verdicts on grains, shares; what is clearly something else stays."""

import numpy as np
import pytest

from dpcurate.consensus import (
    DYNAMICS,
    NEIGHBOURS,
    OWN_WINNER,
    SHARE,
    Undecided,
    Verdict,
    decided,
    from_neighbours,
    pixels_of,
    undecided,
    with_shares,
)
from dpcurate.orientations import disorientation_deg, random_uniform, turn_pattern
from dpcurate.own_candidates import label_score
from dpcurate.rivals import Rivals
from dpcurate.shares import Shares
from tests.candidates import agreed, matches_of, noisy
from tests.crystals import LINIO2, NICKEL

SYMMETRY = LINIO2.proper_rotations()
KIND = {"boundary_deg": 5.0, "min_pixels": 5}
FIRST, SECOND = random_uniform(2, seed=3)
SHAPE = (8, 12)
HALF = np.broadcast_to(np.arange(12) < 6, SHAPE)
TWO = np.where(HALF[..., None], FIRST, SECOND)
"""A map of two crystals side by side."""


def pooled_map(matches, skipped=None, phases=(LINIO2,)):
    skipped = np.zeros(matches.score.shape[:2], bool) if skipped is None else skipped
    return from_neighbours(matches, skipped, phases, **KIND)


def error(found, expected, symmetry=SYMMETRY):
    return disorientation_deg(found, expected, symmetry)


def shares_map(grain_id, **changed):
    """Every pixel alone with its grain, but for what is changed."""
    found = {
        "first": grain_id.copy(),
        "second": np.full(grain_id.shape, -1, np.int32),
        "weight": np.ones(grain_id.shape, np.float32),
    }
    return Shares(**found | changed)


def one_rival(orientation, sites=((2, 2),)):
    """The first grain of a map, and orientations that it may have."""
    n = len(orientation)
    rivals = Rivals(orientation, np.zeros(n, np.int16), np.full(n, 0.6, np.float32), np.full(n, 0.5))
    return Undecided(0, rivals, np.array(sites))


def test_neighbours_heal_a_pixel_and_say_so():
    found = pooled_map(noisy(matches_of(TWO), [(3, 3), (6, 9)]))
    assert error(found.orientation, TWO).max() < 2
    assert found.grain_id.max() == 1
    expected = np.full(SHAPE, OWN_WINNER)
    expected[3, 3] = expected[6, 9] = NEIGHBOURS
    np.testing.assert_array_equal(found.source, expected)
    assert (found.support > 0).all()


def test_skipped_pixels_are_no_phase_and_no_grain():
    skipped = np.zeros(SHAPE, bool)
    skipped[4, 2:5] = True
    found = pooled_map(matches_of(TWO), skipped)
    assert (found.phase_id[skipped] == -1).all()
    assert (found.grain_id[skipped] == -1).all()
    assert (found.support[skipped] == 0).all()
    assert (found.phase_id[~skipped] == 0).all()
    nothing = pooled_map(matches_of(TWO), np.ones(SHAPE, bool))
    assert (nothing.grain_id == -1).all()
    assert undecided(nothing, matches_of(TWO), (LINIO2,), min_pixels=5, sites=4)[1] == []


def test_of_two_phases_each_pixel_gets_that_of_its_candidate():
    matches = matches_of(TWO)
    matches.phase_id[:, 6:, 0] = 1
    found = pooled_map(matches, phases=(LINIO2, NICKEL))
    np.testing.assert_array_equal(found.phase_id, np.where(HALF, 0, 1))
    assert found.grain_id.max() == 1


def test_support_is_small_where_a_rival_scores_alike():
    matches = matches_of(TWO)
    matches.orientation[:, :6, 1] = turn_pattern(matches.orientation[:, :6, 0], 70)
    matches.score[:, :6, 1] = matches.score[:, :6, 0] * 0.99
    found = pooled_map(matches)
    assert found.support[:, :4].max() < 0.02
    assert found.support[:, 8:].min() > 0.1


def test_a_verdict_gives_a_grain_its_rival_with_the_pixels_own_candidates():
    matches = matches_of(TWO)
    other = turn_pattern(FIRST, 70)
    matches.orientation[:, :6, 1] = turn_pattern(matches.orientation[:, :6, 0], 70)
    matches.score[:, :6, 1] = matches.score[:, :6, 0] * 0.99
    before = pooled_map(matches)
    case = one_rival(np.array([FIRST, other]))
    found = decided(before, matches, (LINIO2,), [Verdict(case, 1, 0.02, other)], **KIND)
    assert error(found.orientation[HALF], other).max() < 2
    np.testing.assert_allclose(found.orientation[:, :6], matches.orientation[:, :6, 1])
    assert (found.source == np.where(HALF, DYNAMICS, OWN_WINNER)).all()
    np.testing.assert_allclose(found.support[HALF], 0.02)
    np.testing.assert_array_equal(found.orientation[:, 6:], before.orientation[:, 6:])
    same = decided(before, matches, (LINIO2,), [Verdict(case, 0, 0.02, FIRST)], **KIND)
    assert (same.source == OWN_WINNER).all()


def test_a_pixel_that_is_clearly_none_of_its_grain_keeps_its_label():
    matches = matches_of(TWO)
    matches.orientation[3, 2] = random_uniform(6, seed=11)
    before = pooled_map(matches)
    assert before.grain_id[3, 2] == before.grain_id[0, 0]
    found = decided(before, matches, (LINIO2,), [Verdict(one_rival(FIRST[None]), 0, 0.02, FIRST)], **KIND)
    np.testing.assert_array_equal(found.orientation[3, 2], matches.orientation[3, 2, 0])
    after = with_shares(found, matches, (LINIO2,), shares_map(found.grain_id), boundary_deg=5)
    np.testing.assert_array_equal(after.orientation[3, 2], matches.orientation[3, 2, 0])


def test_a_stray_pixel_that_may_be_of_its_grain_becomes_so():
    label = TWO.copy()
    label[3, 2] = random_uniform(1, seed=12)[0]
    matches = matches_of(TWO)
    matches.orientation[3, 2, 1], matches.score[3, 2, 1] = matches.orientation[3, 2, 0], 0.59
    matches.orientation[3, 2, 0] = label[3, 2]
    found = agreed(label, np.where(HALF, 0, 1).astype(np.int32))
    after = with_shares(found, matches, (LINIO2,), shares_map(found.grain_id), boundary_deg=5)
    assert error(after.orientation[3, 2], FIRST) < 2
    assert after.source[3, 2] == SHARE
    assert (after.source != OWN_WINNER).sum() == 1


def test_shares_move_a_pixel_and_keep_the_second_grain_beside():
    found = agreed(TWO, np.where(HALF, 0, 1).astype(np.int32))
    first, second, weight = found.grain_id.copy(), np.full(SHAPE, -1, np.int32), np.ones(SHAPE, np.float32)
    first[:, 6], second[:, 6], weight[:, 6] = 0, 1, 0.7
    second[:, 5], weight[:, 5] = 1, 0.9
    after = with_shares(
        found, matches_of(TWO), (LINIO2,), shares_map(first, second=second, weight=weight), boundary_deg=5
    )
    np.testing.assert_array_equal(after.grain_id, first)
    assert error(after.orientation[:, 6], FIRST).max() < 2
    assert error(after.orientation2[:, 6], SECOND).max() < 2
    assert (after.source[:, 6] == SHARE).all()
    assert (np.delete(after.source, 6, axis=1) == OWN_WINNER).all()
    np.testing.assert_allclose(after.weight[:, 6], 0.7)
    alone = np.arange(12) != 6
    np.testing.assert_allclose(after.weight[:, alone], 1)
    np.testing.assert_array_equal(after.orientation2[:, alone], after.orientation[:, alone])
    assert (after.phase2_id == np.where(alone, -1, 0)).all()


def test_shares_change_the_phase_too():
    phase_id = np.where(HALF, 0, 1).astype(np.int16)
    found = agreed(TWO, np.where(HALF, 0, 1).astype(np.int32), phase_id=phase_id)
    first = found.grain_id.copy()
    first[:, 5] = 1
    matches = matches_of(TWO)
    matches.phase_id[:, 6:] = 1
    second = np.where(np.arange(12) == 5, 0, -1) * np.ones(SHAPE, np.int32)
    weight = np.where(np.arange(12) == 5, 0.6, 1) * np.ones(SHAPE, np.float32)
    after = with_shares(
        found, matches, (LINIO2, NICKEL), shares_map(first, second=second, weight=weight), boundary_deg=5
    )
    np.testing.assert_array_equal(after.phase_id, first)
    assert (after.phase2_id[:, 5] == 0).all()
    assert error(after.orientation[:, 5], SECOND, NICKEL.proper_rotations()).max() < 1e-6


def test_a_grain_that_loses_all_its_pixels_leaves_no_gap_in_the_numbers():
    grain_id = np.where(HALF, 0, 2).astype(np.int32)
    grain_id[:, 6] = 1
    label = TWO.copy()
    label[:, 6] = random_uniform(1, seed=5)
    found = agreed(label, grain_id)
    first = np.where(grain_id == 1, 0, grain_id)
    after = with_shares(found, matches_of(label), (LINIO2,), shares_map(first), boundary_deg=5)
    assert np.unique(after.grain_id).tolist() == [0, 1]


def test_pixels_in_no_grain_stay_out_of_everything():
    grain_id = np.where(HALF, 0, -1).astype(np.int32)
    found = agreed(TWO, grain_id)
    after = with_shares(found, matches_of(TWO), (LINIO2,), shares_map(grain_id), boundary_deg=5)
    np.testing.assert_array_equal(after.grain_id, grain_id)
    assert (after.phase_id[~HALF] == -1).all()
    empty = agreed(TWO, np.full(SHAPE, -1, np.int32))
    after = with_shares(empty, matches_of(TWO), (LINIO2,), shares_map(empty.grain_id), boundary_deg=5)
    assert (after.grain_id == -1).all()


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_lines_and_single_pixels_go_all_the_way(shape):
    matches = matches_of(np.broadcast_to(FIRST, (*shape, 4)))
    found = pooled_map(matches)
    regions, cases = undecided(found, matches, (LINIO2,), min_pixels=1, sites=4)
    assert cases == []
    after = with_shares(found, matches, (LINIO2,), shares_map(found.grain_id), boundary_deg=5)
    assert error(after.orientation, FIRST).max() < 2
    assert regions.grain_id.tolist() == after.grain_id.tolist() == np.zeros(shape, int).tolist()


def test_pixels_of_grains_are_listed_without_those_of_none():
    grain_id = np.array([[0, -1, 1], [2, 1, 0]], np.int32)
    assert [part.tolist() for part in pixels_of(grain_id)] == [[0, 5], [2, 4], [3]]
    assert pixels_of(np.full((2, 2), -1, np.int32)) == []


def test_the_score_of_a_label_is_that_of_its_candidate():
    matches = matches_of(TWO)
    label = TWO.copy()
    label[0, 0] = matches.orientation[0, 0, 2]
    label[1, 1] = turn_pattern(FIRST, 45)
    phase_id = np.zeros(SHAPE, np.int16)
    phase_id[2, 2] = -1
    found = label_score(matches, label, phase_id, symmetries=[SYMMETRY])
    assert found[0, 0] == matches.score[0, 0, 2]
    assert found[1, 1] == matches.score[1, 1, -1]
    assert found[2, 2] == matches.score[2, 2, -1]
    assert found[5, 5] == matches.score[5, 5, 0]
