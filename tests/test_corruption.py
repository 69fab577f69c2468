import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpcurate.orientations import disorientation_deg, random_uniform
from dptrain.corruption import CORRUPTIONS, corrupt, pseudo_symmetry
from tests.crystals import LINIO2, NICKEL

SYMMETRY = LINIO2.proper_rotations()
N = 200
EXACT = random_uniform(N, seed=1)
GRAIN = np.repeat(np.arange(20), 10)


def made(kind, rate, seed=0):
    return corrupt(EXACT, kind=kind, rate=rate, grain=GRAIN, symmetry=SYMMETRY, seed=seed)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 9))
def test_more_corruption_keeps_what_was_wrong_and_no_label_is_touched_unsaid(kind, low, high, seed):
    low, high = sorted((low, high))
    few, wrong_few = made(kind, low, seed)
    many, wrong_many = made(kind, high, seed)
    assert not (wrong_few & ~wrong_many).any()
    np.testing.assert_array_equal(few[wrong_few], many[wrong_few])
    np.testing.assert_array_equal(many[~wrong_many], EXACT[~wrong_many])
    if kind != "whole grains":
        assert wrong_many.sum() == round(high * N)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_wrong_labels_are_wrong(kind):
    orientation, wrong = made(kind, 0.5)
    off = disorientation_deg(orientation, EXACT, SYMMETRY)
    assert off[~wrong].max() < 1e-6
    assert np.mean(off[wrong] > 3) > 0.95
    assert abs(wrong.mean() - 0.5) <= 0.025


def test_whole_grains_are_wrong_alike_or_not_at_all():
    orientation, wrong = made("whole grains", 0.4)
    for grain in range(20):
        here = grain == GRAIN
        assert len(np.unique(wrong[here])) == 1
        if wrong[here].any():
            assert len(np.unique(orientation[here], axis=0)) == 1


@pytest.mark.parametrize("phase", [LINIO2, NICKEL])
def test_a_pseudo_symmetry_is_no_symmetry_but_twice_or_thrice_it_is(phase):
    symmetry = phase.proper_rotations()
    turn, unit = pseudo_symmetry(symmetry), np.array([1.0, 0, 0, 0])
    assert disorientation_deg(turn, unit, symmetry) > 30
    assert len(symmetry) in (6, 24)
