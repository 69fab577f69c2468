"""From polar patterns to what is matched: background, power, mean, norm."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.recipe import PreprocessRecipe

DEFAULT_K_MAX = 1.5
"""1/Angstrom. Beyond, kinematical intensities are a few per cent of the strongest."""


def k_max_of(shape: tuple[int, int], center_xy: tuple[float, float], scale: float, recipe: PreprocessRecipe) -> float:
    """Outer radius of matching in 1/Angstrom: the recipe's, or the largest full circle on the detector, at most 1.5."""
    if recipe.k_max_inv_angstrom is not None:
        return recipe.k_max_inv_angstrom
    x, y = center_xy
    circle = (min(x, y, shape[1] - 1 - x, shape[0] - 1 - y) + 0.5) * scale
    return float(min(circle, DEFAULT_K_MAX))


def prepare_polar(polar: NDArray[Any], recipe: PreprocessRecipe) -> NDArray[np.float32]:
    """Polar patterns ``(..., radius, azimuth)`` of counts, made ready for matching: float32, unit norm.

    The median over the azimuth of each radius is taken off, what is left is raised to ``power``, then the pattern's
    mean is taken off, so that intensity where a template has none counts against it. Patterns that hold nothing
    become zeros. Cautaerts et al., Ultramicroscopy 237 (2022) 113517 discuss the choices; the defaults are measured.
    """
    counts = np.asarray(polar, np.float32)
    if recipe.background == "radial-median":
        counts = counts - np.median(counts, axis=-1, keepdims=True)
    prepared = np.clip(counts, 0, None) ** np.float32(recipe.power)
    if recipe.subtract_mean:
        prepared = prepared - prepared.mean(axis=(-2, -1), keepdims=True)
    norm = np.linalg.norm(prepared, axis=(-2, -1), keepdims=True)
    return np.asarray(prepared / np.where(norm > 0, norm, 1), np.float32)
