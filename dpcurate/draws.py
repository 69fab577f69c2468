"""Random numbers by arithmetic: each depends on seed, sample, stream and element, never on its batch.

A sample keeps its numbers whatever is drawn beside it, in whatever order, on however many processes: resuming needs no
state. The bits are the same on a CPU and on a GPU. They are for simulation, not for secrets.
"""

import numpy as np
import torch
from torch import Tensor

CHUNK_CPU = 32
"""Patterns of 128 x 128 worked on at once on a CPU, so that what belongs to them stays in the cache."""

CHUNK_GPU = 1024
"""The same on a GPU, where few large steps beat many small ones."""

_LARGE_RATE = 10.0
"""Expected counts from which on the quantile is approximated: its cumulative probability is within 5e-5 there."""

_STEPS = (1, 2, 4, 8, 16, 32)
"""Counts tried between two looks at which pixels still go on; after 65 no tail of 31 bits is left at `_LARGE_RATE`."""


def uniform(index: Tensor, *, seed: int, stream: int, n: int) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24, shape ``(b, n)``, float32.

    ``index`` holds the samples, ``(b,)``, int64; ``stream`` says what the numbers are for. Number k of a sample is the
    same for every n.
    """
    return bits(index, seed=seed, stream=stream, n=n).bitwise_right_shift_(7).float().mul_(2.0**-24)


def normal(index: Tensor, *, seed: int, stream: int, n: int) -> Tensor:
    """Standard normal numbers, shape ``(b, n)``, float32; arguments as for `uniform`.

    Box and Muller, Ann. Math. Stat. 29 (1958) 610: elements 2k and 2k + 1 share the uniform numbers of both.
    """
    pairs = uniform(index, seed=seed, stream=stream, n=n + n % 2)
    radius = pairs[:, 0::2].neg().log1p().mul(-2).sqrt()
    turn = pairs[:, 1::2] * (2 * torch.pi)
    return torch.stack([radius * turn.cos(), radius * turn.sin()], dim=2).flatten(1)[:, :n]


def poisson(expected: Tensor, index: Tensor, *, seed: int, stream: int) -> Tensor:
    """Counts with Poisson's distribution, shape of ``expected`` ``(b, h, w)``, float32 whole numbers.

    Each pixel's count is the quantile of its own uniform number of 31 bits, so it rises with the expected count. Exact
    below 10 expected counts; above, Cornish and Fisher's expansion as in Giles, ACM Trans. Math. Softw. 42 (2016) 7,
    eq. for Q_N2, off by less than 5e-5 in cumulative probability. Zero, negative and undefined expectations give 0.
    """
    rates = expected.reshape(len(expected), -1)
    counts = torch.empty_like(rates)
    step = chunk_of(expected)
    for start in range(0, len(rates), step):
        part = slice(start, start + step)
        _poisson(rates[part], bits(index[part], seed=seed, stream=stream, n=rates.shape[1]), out=counts[part])
    return counts.reshape(expected.shape)


def chunk_of(images: Tensor) -> int:
    """How many images of ``(b, h, w)`` to work on at once on their device."""
    most = CHUNK_CPU if images.device.type == "cpu" else CHUNK_GPU
    return max(1, most * 128 * 128 // max(1, images.shape[-2] * images.shape[-1]))


def bits(index: Tensor, *, seed: int, stream: int, n: int) -> Tensor:
    """Uniform whole numbers from 0 to 2^31 - 1, shape ``(b, n)``, int32.

    The counter of the element goes through a 32-bit mixer (C. Wellons, hash-prospector, "lowbias32") with 64 bits of
    key from seed, stream and sample: 32 before the first round, 32 before the second.
    """
    key = _mix64(index.long() * _signed(0x9E3779B97F4A7C15, 64) + _signed(_start(seed, stream), 64))
    first, second = key.to(torch.int32)[:, None], (key >> 32).to(torch.int32)[:, None]
    x = torch.arange(n, dtype=torch.int32, device=index.device) + first
    shifted = torch.empty_like(x)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1)).mul_(_signed(factor, 32))
        if shift == 16:
            x.bitwise_xor_(second)
    # an arithmetic shift: the sign cancels, which leaves 31 even bits
    return x.bitwise_xor_(torch.bitwise_right_shift(x, 16, out=shifted))


def _mix64(x: Tensor) -> Tensor:
    """SplitMix64's mixer (Steele, Lea and Flood, OOPSLA 2014, 453) on int64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor, 64)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _start(seed: int, stream: int) -> int:
    """64 bits made of seed and stream, by the same mixer."""
    x = 0
    for word in (seed, stream):
        x = (x + word * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        x ^= x >> 31
    return x


def _signed(word: int, size: int) -> int:
    """The word of ``size`` bits as a signed number."""
    return (word + (1 << (size - 1))) % (1 << size) - (1 << (size - 1))


def _poisson(rates: Tensor, drawn: Tensor, *, out: Tensor) -> None:
    """Counts of rates ``(b, n)`` into ``out``: only pixels that can have one are looked at."""
    tail = drawn.float().mul_(2.0**-31)
    # P(count > 0) = 1 - exp(-rate) <= rate: this leaves most pixels of a pattern out without an exponential
    at = _places((tail < rates).view(-1))
    rate = rates.reshape(-1).index_select(0, at)
    tail = drawn.view(-1).index_select(0, at).double().add_(0.5).mul_(2.0**-31)
    counts = _low_quantile(rate.double(), tail)
    large = _places(rate >= _LARGE_RATE)
    if len(large):
        counts[large] = _high_quantile(rate[large].double(), tail[large]).to(counts.dtype)
    out.zero_().view(-1).scatter_(0, at, counts)


def _places(mask: Tensor) -> Tensor:
    """Where a mask ``(m,)`` holds, int64. On a CPU by numpy, which takes a fifth of the time of torch 2.13."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _low_quantile(rate: Tensor, tail: Tensor) -> Tensor:
    """Smallest k with P(count > k) <= tail, ``(m,)``, float32; right for rates below `_LARGE_RATE`, else of no use."""
    rate = torch.where(rate < _LARGE_RATE, rate, 0)
    term = rate.neg().exp_()
    excess = (1 - tail).sub_(term)
    counts = (excess > 0).float()
    excess.sub_(term.mul_(rate))
    k, at, none = 1, None, excess.new_zeros(())
    for steps in _STEPS:
        alive = _places(excess > 0)
        if not len(alive):
            break
        at = alive if at is None else at.index_select(0, alive)
        rate, term, excess = (each.index_select(0, alive) for each in (rate, term, excess))
        found = torch.full_like(excess, k)
        for _ in range(steps):
            k += 1
            found.add_(torch.heaviside(excess, none))
            excess.sub_(term.mul_(rate).mul_(1 / k))
        counts.scatter_(0, at, found.float())
    return counts


def _high_quantile(rate: Tensor, tail: Tensor) -> Tensor:
    """Count with P(count > k) = tail by Cornish and Fisher's expansion, ``(m,)``, float64 whole numbers."""
    w, root = -torch.special.ndtri(tail), rate.sqrt()
    w2 = w * w
    third = -w * (1 / 36 + w2 / 72) / root
    fourth = (-8 / 405 + w2 * (7 / 810 + w2 / 270)) / rate
    return (rate + root * w + 1 / 3 + w2 / 6 + third + fourth).floor().clamp(min=0)
