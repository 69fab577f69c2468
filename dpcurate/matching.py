"""Template matching by pyxem, with its traps mended at the door: frame, mirror, dropped bins, runners-up.

pyxem's ``get_orientation`` does the matching. What it is given and how its answer is read is ours:

- pyxem's azimuth runs against ours (q_y down the rows). Templates are laid out in its azimuth; no pattern is flipped.
- A mirrored match is the orientation ``g * C2y``, whatever the crystal (pyxem's own decoding is right only for crystals
  with a mirror plane at y = 0; it is 60 degrees off for -3m).
- Spots go to the bin that holds them. diffsims' own ``polar_flatten_simulations`` drops the last bins of azimuth and
  radius and puts spots half a bin off.
- Each phase is matched by itself, since pyxem books the first template of a later phase on the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from dpcurate.library import TemplateLibrary
from dpcurate.orientations import Array, disorientation_deg, mirror_pattern, turn_pattern
from dpcurate.recipe import MatchingRecipe, PreprocessRecipe


@dataclass(frozen=True)
class Matches:
    """The n best candidates of each pattern, best first, and the best rival far from the winner."""

    orientation: Array
    """Shape (..., n_best, 4)."""
    score: NDArray[np.float32]
    """Correlation, shape (..., n_best)."""
    phase_id: NDArray[np.int16]
    """Index of the library, shape (..., n_best)."""
    runner_up_score: NDArray[np.float32]
    """Best correlation of another phase or of an orientation over ``runner_up_deg`` from the winner, shape (...)."""


@dataclass(frozen=True)
class PolarTemplates:
    """A library in pyxem's polar bins; stands where pyxem expects a diffsims simulation."""

    radius_bin: NDArray[np.int64]
    azimuth_bin: NDArray[np.int64]
    intensity: NDArray[np.float64]

    def polar_flatten_simulations(self, radial_axes: Any, azimuthal_axes: Any) -> tuple[Any, Any, Any]:
        """Return radius bins, azimuth bins and intensities, each (n_templates, n_spots), as pyxem calls for them."""
        if azimuthal_axes.size <= self.azimuth_bin.max() or radial_axes.size <= self.radius_bin.max():
            raise ValueError("templates were binned for a larger polar pattern")
        return self.radius_bin, self.azimuth_bin, self.intensity


def innermost_k(k_max_inv_angstrom: float, recipe: PreprocessRecipe) -> float:
    """Radius in 1/Angstrom from which spots take part: the innermost radius bin of pyxem's kernel holds none."""
    return recipe.k_min_inv_angstrom + (k_max_inv_angstrom - recipe.k_min_inv_angstrom) / recipe.n_radius


def polar_templates(library: TemplateLibrary, *, k_max_inv_angstrom: float, recipe: PreprocessRecipe) -> PolarTemplates:
    """Bin a library's spots for pyxem's kernel; intensities get the same power as the patterns.

    The kernel stops at the first spot in radius bin 0, which stands for padding, so the innermost bin holds none.
    """
    x, y = library.spots.q[..., 0].astype(float), library.spots.q[..., 1].astype(float)
    step = (k_max_inv_angstrom - recipe.k_min_inv_angstrom) / recipe.n_radius
    radius = np.floor((np.hypot(x, y) - recipe.k_min_inv_angstrom) / step).astype(int)
    azimuth = np.floor(np.mod(-np.arctan2(y, x), 2 * np.pi) / (2 * np.pi) * recipe.n_azimuth).astype(int)
    azimuth %= recipe.n_azimuth
    inside = (radius >= 1) & (radius < recipe.n_radius) & (library.spots.intensity > 0)
    intensity = np.where(inside, library.spots.intensity, 0).astype(float) ** recipe.power
    order = np.argsort(-intensity, axis=1)
    longest = max(1, int(inside.sum(axis=1).max()))
    strongest_first = [
        np.take_along_axis(np.where(inside, values, 0), order, axis=1)[:, :longest]
        for values in (radius, azimuth, intensity)
    ]
    return PolarTemplates(*strongest_first)


def polar_patterns(
    patterns: da.Array, *, center_xy: tuple[float, float], scale: float, k_max: float, recipe: PreprocessRecipe
) -> Any:
    """Return pyxem's lazy polar signal of lazy patterns (rows, columns, h, w): counts a bin, (..., radius, azimuth)."""
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(patterns).as_lazy()
    signal.set_signal_type("electron_diffraction")
    signal.calibration(center=center_xy, scale=scale)
    return signal.get_azimuthal_integral2d(
        npt=recipe.n_radius,
        npt_azim=recipe.n_azimuth,
        radial_range=(recipe.k_min_inv_angstrom, k_max),
        mean=True,
        inplace=False,
    )


Kernel = Callable[[Any, PolarTemplates], da.Array]
"""Scores of all templates, as `by_pyxem` gives them."""


def by_pyxem(polar: Any, templates: PolarTemplates) -> da.Array:
    """Pyxem's lazy rows (template, correlation, azimuth, mirror) of all templates, (rows, columns, n, 4)."""
    return polar.get_orientation(templates, n_best=-1, frac_keep=1.0).data


def match(
    polar: Any,
    libraries: list[TemplateLibrary],
    *,
    templates: list[PolarTemplates],
    recipe: MatchingRecipe,
    kernel: Kernel = by_pyxem,
) -> da.Array:
    """Match a lazy, prepared polar signal (rows, columns | azimuth, radius) with every library, lazily.

    Returns packed matches of shape (rows, columns, n_best + 1, 6), which `unpack` reads. Candidates of all phases are
    ranked by correlation, which compares between phases because patterns and templates have unit norm.
    """
    step_deg = 360 / polar.axes_manager.signal_axes[0].size
    scores = da.concatenate([kernel(polar, binned) for binned in templates], axis=2).rechunk({2: -1, 3: -1})
    n_best = min(recipe.n_best, scores.shape[2])
    return scores.map_blocks(
        rank,
        libraries=libraries,
        step_deg=step_deg,
        n_best=n_best,
        runner_up_deg=recipe.runner_up_deg,
        chunks=(*scores.chunks[:2], (n_best + 1,), (6,)),
        dtype=float,
    )


def rank(
    rows: Array, libraries: list[TemplateLibrary], *, step_deg: float, n_best: int, runner_up_deg: float
) -> NDArray[np.float64]:
    """Decode and rank pyxem's rows of all phases, ``(rows, columns, n_templates of all, 4)``; packed as in `match`.

    The last of the n_best + 1 candidates is the runner-up: the best of another phase or an orientation over
    ``runner_up_deg`` from the winner. Where none is, its score is 0.
    """
    sizes = [len(library.rotation) for library in libraries]
    phase = np.repeat(np.arange(len(libraries)), sizes)
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=2)
    decoded = [
        decode(part, library.rotation, step_deg=step_deg) for part, library in zip(parts, libraries, strict=True)
    ]
    orientation = np.concatenate(decoded, axis=2)
    packed = np.zeros((*rows.shape[:2], n_best + 1, 6))
    for pixel in np.ndindex(rows.shape[:2]):
        score = rows[pixel][:, 1]
        order = np.argsort(-score, kind="stable")
        winner = order[0]
        far = phase != phase[winner]
        symmetry = libraries[phase[winner]].phase.proper_rotations()
        angle = disorientation_deg(orientation[pixel][~far], orientation[pixel][winner], symmetry)
        far[~far] = angle > runner_up_deg
        rival = order[far[order]][:1]
        chosen = np.concatenate([order[:n_best], rival if len(rival) else [winner]])
        packed[pixel] = np.column_stack([orientation[pixel][chosen], score[chosen], phase[chosen]])
        packed[pixel][-1, 4] *= len(rival)
    return packed


def pack(matches: Matches) -> NDArray[np.float64]:
    """Return matches in one array, as `unpack` reads it; the runner-up's place holds its score alone."""
    last = np.zeros((*matches.runner_up_score.shape, 1, 6))
    last[..., 0, 4] = matches.runner_up_score
    score, phase_id = (np.asarray(column, float)[..., None] for column in (matches.score, matches.phase_id))
    return np.concatenate([np.concatenate([matches.orientation, score, phase_id], axis=-1), last], axis=-2)


def unpack(packed: NDArray[np.float64]) -> Matches:
    """Return the matches in an array of `match`."""
    best = packed[..., :-1, :]
    return Matches(
        orientation=best[..., :4],
        score=best[..., 4].astype(np.float32),
        phase_id=best[..., 5].astype(np.int16),
        runner_up_score=packed[..., -1, 4].astype(np.float32),
    )


def decode(rows: Array, rotation: Array, *, step_deg: float) -> Array:
    """Orientations ``(..., 4)`` of pyxem's rows ``(..., 4)``: template, correlation, in-plane angle in degrees, mirror.

    ``rotation`` are the templates' orientations, ``(n_templates, 4)``. pyxem gives as angle its azimuth axis, which
    starts at -180, at the best shift s. Its azimuth runs against ours, so the pattern is turned by 180 - s d with bins
    of d degrees. A mirrored template is turned by 180 - (s + 1) d: bin t holds the angles from t d to (t + 1) d and its
    mirror image is bin -t - 1, while pyxem's kernel puts it at -t.
    """
    mirrored = rows[..., 3] < 0
    template = rotation[rows[..., 0].astype(int)]
    template = np.where(mirrored[..., None], mirror_pattern(template), template)
    return turn_pattern(template, -rows[..., 2] - mirrored * step_deg)
