"""Counter-based random numbers: what an item gets depends on seed, stream and its index, not on what was drawn before.

So an item is the same whatever block, batch or process it is drawn in, and work goes on where it stopped. Needs numpy
only.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def uniform(index: ArrayLike, *, seed: int, stream: int, n: int) -> NDArray[np.float64]:
    """``n`` numbers in [0, 1) for each index ``(m,)``, shape ``(m, n)``.

    A counter-based generator (SplitMix64's finalizer: Steele, Lea, Flood, OOPSLA 2014), applied to seed, stream, index
    and place in turn. ``seed``, ``stream`` and ``index`` are not negative; other streams are other numbers.
    """
    state = np.full((1, 1), seed, np.uint64)
    for word in (np.array([stream]), np.asarray(index)[:, None], np.arange(n)):
        state = _mixed(state + (word.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal numbers from uniform ones of one shape: Box & Muller, Ann. Math. Statist. 29 (1958) 610."""
    return np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
