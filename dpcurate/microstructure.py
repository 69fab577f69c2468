"""Polycrystals as maps with exact orientations, from which virtual scans are made: Voronoi grains, overlap, thickness.

The maps are the truth of the scan: at a grain boundary the probe covers two crystals, and their orientations and shares
are labels like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.ndimage import find_objects, gaussian_filter
from scipy.spatial import cKDTree

from dpcurate.errors import InputError
from dpcurate.grain_orientations import GrainModel, grain_orientations, turned_within
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord, Record

SUPERSAMPLING = 5
"""Cells of the fine grain map along each side of a pixel. Odd, so that one cell's centre is the pixel's."""

SMALLEST_SHARE = 0.005
"""Share of a second grain that counts as none: it would cost a simulated pattern and give one count in 200."""

PROBE_REACH = 4.0
"""Standard deviations at which the probe is cut off."""

THICKNESS_LENGTH = 0.15
"""Standard deviation of the filter that smooths a random thickness, in units of the map's longer side."""

OrientationAt = Callable[[int, Array, Array], Array]
"""Of a grain: its number, the pixels (row, column) that it dominates (m, 2), pixels (n, 2) -> orientations (n, 4)."""


class Specimen(Record):
    """What the microscope sees of a grain structure: size of the probe, thickness of the foil."""

    probe_sigma_pixels: float = Field(0.5, ge=0, le=20, description="standard deviation of the probe, scan steps")
    thickness_limits_angstrom: tuple[float, float] = Field((200.0, 400.0), description="both are reached")
    wedge_share: float = Field(0.5, ge=0, le=1, description="1: a wedge; 0: a smooth random thickness; or a mixture")

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> "Specimen":
        low, high = self.thickness_limits_angstrom
        if not 0 < low <= high:
            raise ValueError(f"thickness_limits_angstrom ({low:g}, {high:g}) must be above 0 and in rising order")
        return self


@dataclass(frozen=True)
class Microstructure:
    """A polycrystal as maps with axes (rows, columns): the truth of a virtual scan; orientations are lab to crystal.

    ``vars`` of it holds the arrays of a truth file. The pattern of a pixel is weight * first + (1 - weight) * second.
    """

    phase_id: NDArray[np.int16]
    """Phase of the dominant grain, an index into the phases given; -1 where there is no crystal."""
    phase2_id: NDArray[np.int16]
    """Phase of the second grain; where ``weight`` is 1, that of the first."""
    quat: Array
    """Exact orientation of the dominant grain at this pixel, shape (rows, columns, 4); identity without crystal."""
    quat2: Array
    """That of the second grain; where ``weight`` is 1, that of the first."""
    weight: Array
    """Share of the dominant grain among the two largest, 0.5 to 1."""
    grain: NDArray[np.int64]
    """Number of the dominant grain, -1 where there is no crystal. A grain smaller than the probe may be missing."""
    thickness_angstrom: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.weight.shape[0], self.weight.shape[1]


def voronoi(
    shape: tuple[int, int],
    *,
    n_grains: int,
    phases: Sequence[PhaseRecord],
    seed: int,
    orientations: Array | None = None,
    grains: GrainModel | None = None,
    specimen: Specimen | None = None,
) -> Microstructure:
    """Return a polycrystal of Voronoi grains around uniformly random points; the same seed gives the same.

    Parameters
    ----------
    shape
        Rows and columns of the scan.
    n_grains, phases
        How many grains of which phases; ``phase_id`` counts in ``phases``.
    orientations
        One for each grain, (n_grains, 4), lab to crystal, for those that are neither twin nor turned a little from a
        neighbour; default: uniformly random.
    grains, specimen
        What the grains are like, and how they are seen.
    seed
        Decides everything random.

    Raises InputError for more grains than a quarter of the pixels, for orientations or fractions that do not match,
    and for shares of boundaries that cannot be made.
    """
    model = grains if grains is not None else GrainModel()
    _check(shape, n_grains=n_grains, phases=phases, orientations=orientations, model=model)
    rng = np.random.default_rng((seed, 0))
    fine = _voronoi_cells(shape, n_grains, rng)
    area = np.bincount(fine.ravel(), minlength=n_grains).astype(float)
    given = None if orientations is None else np.asarray(orientations, float)
    phase, base = grain_orientations(touching(fine), area, phases=phases, model=model, orientations=given, rng=rng)

    def orientation_at(grain: int, own: Array, pixels: Array) -> Array:
        rng_of_grain = np.random.default_rng((seed, 1, grain))
        return turned_within(base[grain], own, pixels, model=model, rng=rng_of_grain)

    return from_grains(fine, phase, orientation_at, specimen=specimen, seed=seed)


def from_grains(
    fine: NDArray[np.int64],
    phase_of_grain: NDArray[np.int16],
    orientation_at: OrientationAt,
    *,
    specimen: Specimen | None = None,
    seed: int,
) -> Microstructure:
    """Return the maps of a grain structure as a probe sees it.

    Parameters
    ----------
    fine
        Grain of each cell, from 0, shape (rows * SUPERSAMPLING, columns * SUPERSAMPLING).
    phase_of_grain
        Shape (n_grains,); grains of phase -1 are holes: their orientation is the identity.
    orientation_at
        See `OrientationAt`.
    specimen, seed
        Probe and thickness; the seed of the thickness.
    """
    specimen = specimen if specimen is not None else Specimen()
    first, second, weight = overlap(fine, specimen.probe_sigma_pixels)
    quat, quat2 = _orientations(first, second, orientation_at)
    quat2 = np.where(weight[..., None] == 1, quat, quat2)  # the last bit depends on the place in the array
    phase_id, phase2_id = phase_of_grain[first], phase_of_grain[second]
    identity = np.array([1.0, 0, 0, 0])
    return Microstructure(
        phase_id=phase_id.astype(np.int16),
        phase2_id=phase2_id.astype(np.int16),
        quat=np.where(phase_id[..., None] < 0, identity, quat),
        quat2=np.where(phase2_id[..., None] < 0, identity, quat2),
        weight=weight,
        grain=np.where(phase_id < 0, -1, first),
        thickness_angstrom=thickness_map(weight.shape, specimen=specimen, seed=seed),
    )


def overlap(fine: NDArray[np.int64], probe_sigma_pixels: float) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Dominant grain, second grain and share of the first among both, each (rows, columns).

    The share of a grain is the integral of a Gaussian probe at the pixel's centre over the grain's cells; the map goes
    on beyond its edges as it ends there. Where the second has less than `SMALLEST_SHARE`, it is the first and the
    weight is 1.
    """
    step = SUPERSAMPLING
    shape = fine.shape[0] // step, fine.shape[1] // step
    best, rival = np.zeros(shape), np.zeros(shape)
    first, second = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    sigma = probe_sigma_pixels * step
    reach = int(PROBE_REACH * sigma + 0.5)
    for grain, box in enumerate(find_objects(fine + 1)):
        if box is None:
            continue
        window = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        share = gaussian_filter((fine[window] == grain).astype(float), sigma, mode="nearest", truncate=PROBE_REACH)
        offset = [-(w.start - step // 2) % step for w in window]
        share = share[offset[0] :: step, offset[1] :: step]
        row, column = ((w.start + o) // step for w, o in zip(window, offset, strict=True))
        at = slice(row, row + share.shape[0]), slice(column, column + share.shape[1])
        wins, places = share > best[at], share > rival[at]
        second[at] = np.where(wins, first[at], np.where(places, grain, second[at]))
        rival[at] = np.where(wins, best[at], np.where(places, share, rival[at]))
        first[at], best[at] = np.where(wins, grain, first[at]), np.where(wins, share, best[at])
    alone = rival < SMALLEST_SHARE * (best + rival)
    return first, np.where(alone, first, second), np.where(alone, 1.0, best / (best + rival))


def thickness_map(shape: tuple[int, ...], *, specimen: Specimen, seed: int) -> Array:
    """Thickness in Angstrom, shape (rows, columns): a wedge and a smooth random field, between the two limits."""
    rng = np.random.default_rng((seed, 2))
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    wedge = _unit_range(rows * np.sin(angle) + columns * np.cos(angle))
    rough = gaussian_filter(rng.normal(size=shape), THICKNESS_LENGTH * max(shape), mode="wrap")
    mixed = _unit_range(specimen.wedge_share * wedge + (1 - specimen.wedge_share) * _unit_range(rough))
    low, high = specimen.thickness_limits_angstrom
    return low + (high - low) * mixed


def touching(fine: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of grains that share an edge of a cell, each once, smaller number first, shape (n, 2)."""
    sides = [(fine[:-1], fine[1:]), (fine[:, :-1], fine[:, 1:])]
    pairs = np.concatenate([np.stack([a[a != b], b[a != b]], axis=1) for a, b in sides])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _voronoi_cells(shape: tuple[int, int], n_grains: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Nearest of ``n_grains`` random points for each cell of the fine map."""
    points = rng.uniform(size=(n_grains, 2)) * shape
    axes = [(np.arange(n * SUPERSAMPLING) + 0.5) / SUPERSAMPLING for n in shape]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.asarray(cKDTree(points).query(cells)[1], np.int64)


def _orientations(
    first: NDArray[np.int64], second: NDArray[np.int64], orientation_at: OrientationAt
) -> tuple[Array, Array]:
    """Orientation of the dominant and of the second grain at every pixel, each (rows, columns, 4)."""
    pixels = np.argwhere(np.ones(first.shape, bool)).astype(float)
    n_grains = int(max(first.max(), second.max())) + 1
    maps = [first.ravel(), second.ravel()]
    orders = [np.argsort(grain, kind="stable") for grain in maps]
    bounds = [np.searchsorted(g[o], np.arange(n_grains + 1)) for g, o in zip(maps, orders, strict=True)]
    quat = np.zeros((2, first.size, 4))
    for grain in range(n_grains):
        own, other = (o[b[grain] : b[grain + 1]] for o, b in zip(orders, bounds, strict=True))
        if len(own) + len(other):
            found = orientation_at(grain, pixels[own], pixels[np.concatenate([own, other])])
            quat[0, own], quat[1, other] = found[: len(own)], found[len(own) :]
    return quat[0].reshape(*first.shape, 4), quat[1].reshape(*first.shape, 4)


def _unit_range(values: Array) -> Array:
    """The values moved and scaled to 0 to 1; all 0 where they are all the same."""
    span = np.ptp(values)
    return (values - values.min()) / (span if span > 0 else 1.0)


def _check(
    shape: tuple[int, int],
    *,
    n_grains: int,
    phases: Sequence[PhaseRecord],
    orientations: Array | None,
    model: GrainModel,
) -> None:
    """InputError for a polycrystal that cannot be made."""
    most = shape[0] * shape[1] // 4
    if not 1 <= n_grains <= most:
        raise InputError(f"n_grains {n_grains}: a map of {shape[0]} x {shape[1]} pixels can hold 1 to {most} grains.")
    if orientations is not None and np.shape(orientations) != (n_grains, 4):
        raise InputError(
            f"orientations of shape {np.shape(orientations)}: expected ({n_grains}, 4), a quaternion for each grain."
        )
    fractions = model.phase_fractions
    if fractions is not None and (
        len(fractions) != len(phases) or min(fractions) < 0 or not np.isclose(sum(fractions), 1)
    ):
        raise InputError(f"phase_fractions {fractions}: expected {len(phases)} numbers, one a phase, that add up to 1.")
    unknown = sorted(model.twin_laws.keys() - {phase.name for phase in phases})
    if unknown:
        raise InputError(
            f"twin_laws: no phase is called {', '.join(unknown)}. There are {', '.join(p.name for p in phases)}."
        )
