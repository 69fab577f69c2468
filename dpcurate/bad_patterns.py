"""Bad patterns and bad pixels of a scan: told apart by reason and counted, never guessed at."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, label, maximum_filter, uniform_filter

from dpcurate.errors import InputError

F = TypeVar("F", bound=np.floating)

NEGATIVE_SHARE = 0.1
"""A pattern whose negative counts sum to more than this share of its positive ones is not a measurement of electrons;
below it, they are readout noise of a background-subtracted detector."""

FEWEST_TO_MISS = 20
"""Patterns in which a pixel should have changed before it is called dead: a live one stays away from all of them with a
chance of exp(-20)."""

EDGE_SHARE = 0.5
"""Share of a patch's edge that must be dead before all of it is."""

HOT_SIGMA, HOT_RATIO = 8.0, 4.0
"""A hot pixel's mean lies so many standard errors above so many times that of the brightest pixel beside it."""

LINE_SHARE = 0.5
"""Share of the pixels of a detector column or row that must be faulty before the whole line is."""


def unusable(patterns: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return masks ``(...)`` of patterns ``(..., h, w)`` to be skipped, by reason: not finite, negative, or empty."""
    counts = np.asarray(patterns)
    if counts.dtype.kind in "bu":  # most scans; a third of the engine's time otherwise
        never = np.zeros(counts.shape[:-2], bool)
        return {"not finite": never, "negative": never, "empty": counts.max(axis=(-2, -1)) == 0}
    counts = counts.astype(np.float64)
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


def faulty_pixels(patterns: ArrayLike) -> NDArray[np.bool_]:
    """Mask ``(h, w)`` of detector pixels that must not be matched: `dead_pixels` and `hot_pixels` together."""
    return dead_pixels(patterns) | hot_pixels(patterns)


def dead_pixels(patterns: ArrayLike) -> NDArray[np.bool_]:
    """Mask ``(h, w)`` of the detector pixels that say nothing, from patterns ``(..., h, w)`` spread over a scan.

    A pixel is dead when its value is the same in all patterns, or never finite, although by the mean of the 5 x 5
    pixels around it should have changed in at least `FEWEST_TO_MISS` of them, and though it is not brighter than they
    are (which is a saturated pixel). A whole column or row whose pixels all stay the same is dead when together they
    should have changed so often. A patch of such pixels is dead when `EDGE_SHARE` of its edge is: so gaps between chips
    and broken chips are found, while dark corners that hardly count are not dead. About 100 patterns are enough.
    """
    counts = _stack(patterns)
    known = np.isfinite(counts)
    low, high = np.where(known, counts, np.inf).min(axis=0), np.where(known, counts, -np.inf).max(axis=0)
    live = low < high
    missed = _around(np.where(live, (counts != low).sum(axis=0), 0))
    bright, beside = _around(np.where(live, np.where(known, counts, 0).mean(axis=0), 0)), _around(live)
    still = ~live & (~known.any(axis=0) | (low * beside <= bright + 1e-9))
    dead = still & (missed > FEWEST_TO_MISS)
    for axis in (0, 1):
        silent = ~live.any(axis=axis, keepdims=True)
        dead |= still & silent & ((missed * still).sum(axis=axis, keepdims=True) > FEWEST_TO_MISS)
    patch, n = label(still)
    edge = still & binary_dilation(live)
    all_edge, dead_edge = (np.bincount(patch[some], minlength=n + 1) for some in (edge, edge & dead))
    whole = (all_edge > 0) & (dead_edge >= EDGE_SHARE * all_edge)
    return np.asarray(dead | (whole[patch] & still))


def hot_pixels(patterns: ArrayLike) -> NDArray[np.bool_]:
    """Mask ``(h, w)`` of the detector pixels that count without electrons, from patterns ``(..., h, w)`` of a scan.

    Hot: bright in most patterns, and far above the brightest pixel beside it, which no spot is. A column or row is hot
    when half of its pixels are, each compared with its neighbours across the line.
    """
    counts = np.nan_to_num(_stack(patterns), posinf=0, neginf=0)
    hot = _above(counts, [[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    column = _above(counts, [[1, 0, 1]]).mean(axis=0) > LINE_SHARE
    row = _above(counts, [[1], [0], [1]]).mean(axis=1) > LINE_SHARE
    return hot | column[None] | row[:, None]


def without_faults(patterns: NDArray[F], faulty: NDArray[np.bool_]) -> NDArray[F]:
    """Patterns ``(n, h, w)`` of floats whose faulty pixels have the mean of the sound ones of the 5 x 5 around them.

    0 where none of these is sound.
    """
    if not faulty.any():
        return patterns
    at, step = (
        np.argwhere(faulty),
        np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2, indexing="ij"), axis=-1).reshape(-1, 2),
    )
    near = at[:, None] + step
    inside = np.asarray(((near >= 0) & (near < faulty.shape)).all(axis=-1))
    row, column = np.moveaxis(np.where(inside[..., None], near, 0), -1, 0)
    sound = np.asarray(inside & ~faulty[row, column])
    weight = sound / np.maximum(sound.sum(axis=1, keepdims=True), 1)
    mended = patterns.copy()
    mended[:, at[:, 0], at[:, 1]] = (np.where(sound, patterns[:, row, column], 0) * weight).sum(axis=-1)
    return mended


def faulty_lines(faulty: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of a mask ``(h, w)`` of which more than `LINE_SHARE` is faulty."""
    return np.flatnonzero(faulty.mean(axis=0) > LINE_SHARE), np.flatnonzero(faulty.mean(axis=1) > LINE_SHARE)


def _around(image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of the 5 x 5 pixels around each, those outside the frame left out."""
    inside = uniform_filter(np.ones(image.shape), 5, mode="constant")
    return np.asarray(uniform_filter(image.astype(np.float64), 5, mode="constant") / inside)


def _stack(patterns: ArrayLike) -> NDArray[np.float32]:
    counts = np.asarray(patterns, np.float32)
    return counts.reshape(-1, *counts.shape[-2:])


def _above(counts: NDArray[np.float32], footprint: list[list[int]]) -> NDArray[np.bool_]:
    """Whether each pixel of counts ``(n, h, w)`` is far brighter than all of its neighbours in the footprint."""
    level, often = counts.mean(axis=0), np.quantile(counts, 0.25, axis=0)
    beside = maximum_filter(level, footprint=np.array(footprint), mode="nearest")
    error = np.sqrt(np.maximum(beside, 1 / len(counts)) / len(counts))
    return np.asarray((level > HOT_RATIO * beside + HOT_SIGMA * error) & (often > beside))
