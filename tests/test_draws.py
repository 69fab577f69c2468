"""Random numbers by arithmetic: what they depend on, and that they have the distributions they claim."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpcurate.draws import bits, normal, poisson, uniform

MANY = torch.arange(64)


@pytest.mark.parametrize("draw", [uniform, normal])
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(9)), first=st.integers(0, 8), n=st.integers(1, 40))
def test_numbers_do_not_depend_on_the_batch_or_on_how_many_are_drawn(draw, order, first, n):
    index = torch.arange(9) + 2**40
    whole = draw(index, seed=3, stream=1, n=41)
    some = torch.tensor(order[first:])
    assert torch.equal(draw(index[some], seed=3, stream=1, n=n), whole[some, :n])


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(40)), size=st.integers(1, 40), seed=st.integers(0, 2**63))
def test_counts_do_not_depend_on_the_batch(order, size, seed):
    expected = uniform(torch.arange(40), seed=seed, stream=9, n=19 * 23).reshape(40, 19, 23).pow(-0.7)
    whole = poisson(expected, torch.arange(40), seed=seed, stream=1)
    some = torch.tensor(order[:size])
    assert torch.equal(poisson(expected[some], some, seed=seed, stream=1), whole[some])


@pytest.mark.parametrize("other", [{"seed": 4}, {"stream": 2}, {"index": MANY + 1}, {"index": MANY + 2**32}])
def test_another_seed_stream_or_sample_gives_unrelated_numbers(other):
    settings_ = {"index": MANY, "seed": 3, "stream": 1, "n": 2000}
    one, two = (np.asarray(uniform(**s)).ravel() for s in (settings_, {**settings_, **other}))
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(one.size)
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 5 / np.sqrt(one.size)
    assert (one == two).mean() < 1e-4


def test_each_bit_of_the_numbers_is_set_half_of_the_time_and_follows_no_other():
    drawn = np.asarray(bits(MANY, seed=1, stream=1, n=4096)).ravel()
    assert drawn.min() >= 0
    each = (drawn[:, None] >> np.arange(31) & 1) - 0.5
    together = each.T @ each / drawn.size * 4
    assert np.abs(each.mean(axis=0)).max() < 5 * 0.5 / np.sqrt(drawn.size)
    assert np.abs(together - np.eye(31)).max() < 6 / np.sqrt(drawn.size)


def test_uniform_and_normal_numbers_pass_a_kolmogorov_smirnov_test():
    drawn = np.asarray(uniform(MANY, seed=5, stream=1, n=4096)).ravel()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert stats.kstest(np.asarray(normal(MANY, seed=5, stream=1, n=4096)).ravel(), "norm").pvalue > 1e-3
    # across samples too: what a training run sees first
    assert (
        stats.kstest(np.asarray(uniform(torch.arange(2**17), seed=5, stream=1, n=1)).ravel(), "uniform").pvalue > 1e-3
    )


@pytest.mark.parametrize("rate", [0.01, 0.3, 2.0, 9.0, 15.0, 100.0, 1000.0])
def test_counts_have_poissons_distribution(rate):
    counts = np.asarray(poisson(torch.full((32, 128, 128), rate), torch.arange(32), seed=7, stream=1)).ravel()
    assert (counts == np.floor(counts)).all()
    error = np.sqrt(rate / counts.size)
    assert abs(counts.mean() - rate) < 5 * error
    assert abs(counts.var() - rate) < 5 * rate * np.sqrt((2 + 1 / rate) / counts.size)
    edges = np.unique(stats.poisson.ppf(np.linspace(0, 1, 41)[1:-1], rate))
    edges = np.concatenate([[-1], edges[edges < edges.max() + 1], [np.inf]])
    shares = np.diff(stats.poisson.cdf(edges, rate))
    seen = np.histogram(counts, np.nextafter(edges, np.inf))[0]
    kept = shares * counts.size > 5
    assert stats.chisquare(seen[kept], shares[kept] / shares[kept].sum() * seen[kept].sum()).pvalue > 1e-4


@pytest.mark.parametrize("rate", [1e-3, 0.2, 5.0, 9.9])
def test_low_counts_are_exact_quantiles(rate):
    tail = (bits(torch.arange(1), seed=1, stream=1, n=100_000).double() + 0.5) * 2.0**-31
    counts = poisson(torch.full((1, 1, 100_000), rate), torch.arange(1), seed=1, stream=1)
    assert np.array_equal(counts.ravel(), np.maximum(stats.poisson.isf(tail.ravel(), np.float32(rate)), 0))


def test_high_counts_are_within_one_of_the_exact_quantile():
    rate = torch.logspace(1, 6, 100_000).reshape(1, 1, -1)
    tail = (bits(torch.arange(1), seed=1, stream=1, n=100_000).double() + 0.5) * 2.0**-31
    exact = torch.from_numpy(stats.poisson.isf(tail.numpy(), rate.numpy()))
    off = poisson(rate, torch.arange(1), seed=1, stream=1) - exact
    assert off.abs().max() <= 1
    assert (off != 0).double().mean() < 1e-3


def test_nothing_is_counted_where_nothing_is_expected():
    expected = torch.tensor([0.0, -1.0, float("nan")]).repeat(200).reshape(2, 10, 30)
    assert not poisson(expected, torch.arange(2), seed=1, stream=1).any()
