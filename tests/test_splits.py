import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.splits import split_groups

groups = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(np.array)
seeds = st.integers(0, 1000)


@settings(max_examples=40, deadline=None)
@given(group=groups, seed=seeds)
def test_a_grain_never_spans_two_splits(group, seed):
    split = split_groups(group, seed=seed)
    assert all(len(np.unique(split[group == one])) == 1 for one in np.unique(group))


@settings(max_examples=40, deadline=None)
@given(group=groups, seed=seeds, data=st.data())
def test_row_order_does_not_matter(group, seed, data):
    order = np.array(data.draw(st.permutations(range(len(group)))))
    assert np.array_equal(split_groups(group[order], seed=seed), split_groups(group, seed=seed)[order])


@settings(max_examples=40, deadline=None)
@given(group=groups, seed=seeds)
def test_no_split_is_empty_once_there_are_three_grains(group, seed):
    count = len(np.unique(group))
    expected = {1: {0}, 2: {0, 1}}.get(count, {0, 1, 2})
    assert set(split_groups(group, seed=seed)) == expected


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=16, max_size=40), seed=seeds)
def test_shares_come_within_half_the_largest_grain_of_the_fractions(sizes, seed):
    group = np.repeat(np.arange(len(sizes)), sizes)
    share = np.bincount(split_groups(group, seed=seed), minlength=3) / len(group)
    assert np.abs(share - [0.7, 0.15, 0.15]).max() <= 0.5 * max(sizes) / len(group) + 1 / len(group)


def test_items_that_are_groups_of_their_own_are_split_to_one_item_in_exact_shares():
    assert np.bincount(split_groups(np.arange(10_000), seed=1)).tolist() == [7000, 1500, 1500]


def test_another_seed_gives_another_split():
    group = np.repeat(np.arange(20), 10)
    assert len({split_groups(group, seed=seed).tobytes() for seed in range(5)}) == 5


def test_fractions_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        split_groups([0, 1, 2], fractions=(0.5, 0.1, 0.1), seed=0)
