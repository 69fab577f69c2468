import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate import counters

words = st.integers(0, 2**63 - 1)


def mixed(z):
    """SplitMix64's finalizer in whole numbers of any size."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@settings(max_examples=50, deadline=None)
@given(seed=words, stream=words, index=st.integers(0, 2**62), place=st.integers(0, 4))
def test_numbers_are_those_of_the_plain_formula(seed, stream, index, place):
    state = seed
    for word in (stream, index, place):
        state = mixed((state + (word + 1) * 0x9E3779B97F4A7C15) % 2**64)
    found = counters.uniform([index], seed=seed, stream=stream, n=5)
    assert found[0, place] == (state >> 11) / 2**53


def test_the_finalizer_is_that_of_splitmix64():
    assert [mixed(k * 0x9E3779B97F4A7C15 % 2**64) for k in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_numbers_are_even_and_streams_and_places_are_unrelated():
    u = np.concatenate([counters.uniform(np.arange(20_000), seed=3, stream=k, n=2) for k in (5, 6)], axis=1)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean(axis=0) == pytest.approx(0.5, abs=0.01)
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03


def test_normal_numbers_have_the_moments_of_the_normal_distribution():
    u = counters.uniform(np.arange(50_000), seed=4, stream=0, n=2)
    x = counters.normal(u[:, 0], u[:, 1])
    assert [(x**power).mean() for power in (1, 2, 3, 4)] == pytest.approx([0, 1, 0, 3], abs=0.1)
