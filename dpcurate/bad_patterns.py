"""Bad patterns of a scan: told apart by reason and counted, never guessed at."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError

NEGATIVE_SHARE = 0.1
"""A pattern whose negative counts sum to more than this share of its positive ones is not a measurement of electrons;
below it, they are readout noise of a background-subtracted detector."""


def unusable(patterns: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return masks ``(...)`` of patterns ``(..., h, w)`` to be skipped, by reason: not finite, negative, or empty."""
    counts = np.asarray(patterns, np.float64)
    broken = np.asarray(~np.isfinite(counts).all(axis=(-2, -1)))
    counts = np.where(broken[..., None, None], 0, counts)
    positive, negative = np.clip(counts, 0, None).sum((-2, -1)), -np.clip(counts, None, 0).sum((-2, -1))
    below_zero = ~broken & (negative > NEGATIVE_SHARE * positive) & (negative > 0)
    return {"not finite": broken, "negative": below_zero, "empty": ~broken & ~below_zero & (positive <= 0)}


def usable(skipped: Mapping[str, NDArray[np.bool_]], *, name: str) -> NDArray[np.bool_]:
    """Return the mask of patterns that are bad for no reason of ``skipped``; InputError when there is not one."""
    good = ~np.any(list(skipped.values()), axis=0)
    if not good.any():
        reasons = ", ".join(f"{mask.sum()} {reason}" for reason, mask in skipped.items() if mask.any())
        raise InputError(
            f"{name}: none of its {good.size} patterns can be used ({reasons}). "
            "Open it in HyperSpy to see what it holds; export it as counts."
        )
    return good
