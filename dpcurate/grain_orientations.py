"""Which orientation each grain of a polycrystal has: random or given, turned a little from a neighbour's, or its twin.

Grains are placed one by one, each beside one that stands already. At every step the kind of boundary that is furthest
behind its share is made, so that shares of boundaries are met without a search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dpcurate.errors import InputError
from dpcurate.orientations import Array, disorientation_deg, equivalents, multiply, random_uniform
from dpcurate.reflections import reciprocal_basis
from dpcurate.schema import PhaseRecord, Record

SMALL_ANGLES_DEG = (2.0, 10.0)
"""Disorientation of the two grains at a small-angle boundary; below, they would pass as one grain."""

TWIN_TOLERANCE_DEG = 0.01
"""A boundary counts as a twin's within this angle of the twin law."""

TWIN_PLANES = {
    "m-3m": (1, 1, 1),
    "m-3": (1, 1, 0),
    "6/mmm": (1, 0, 2),
    "6/m": (1, 0, 2),
    "-3m": (0, 0, 1),
    "-3": (0, 0, 1),
    "4/mmm": (1, 0, 1),
    "4/m": (1, 0, 1),
    "mmm": (1, 1, 0),
    "2/m": (1, 0, 0),
    "-1": (0, 1, 0),
}
"""For each Laue group the plane (hkl) of a common twin: a half turn about its normal, which under inversion is the
mirror in it. Annealing and spinel twins (60 deg <111>); iron cross of pyrite; {10-12} deformation twins of hexagonal
metals; half turn about c of rhombohedral crystals and quartz; rutile; aragonite; (100) of gypsum; albite. Names and
many of these laws: International Tables for Crystallography D (2006), chapter 3.3 (Hahn & Klapper)."""

TRIES = 24
"""Orientations that are compared for each grain. With 90 grains and shares of 0.35 small-angle, 0.25 twin boundaries
the shares were off by 0.05 with 6 tries, by 0.03 with 24 and with 96 (mean of 8 seeds)."""

SHARE_TOLERANCE = 0.05
"""How far a share of boundaries may stay below what was asked."""


FIELD_LENGTH = 0.3
"""Correlation length of the turns inside a grain, in units of the square root of its area."""

N_WAVES = 16
"""Waves of which the smooth random turns inside a grain are made."""


class TwinLaw(Record):
    """The turn that takes a crystal to its twin, about an axis in the crystal frame (x along a, z along c*)."""

    angle_deg: float = Field(gt=0, le=180)
    axis: tuple[float, float, float]


class GrainModel(Record):
    """How grains of a Voronoi polycrystal differ from their neighbours and within themselves."""

    phase_fractions: tuple[float, ...] | None = Field(None, description="of the area; default: equal")
    spread_deg: float = Field(0.0, ge=0, le=10, description="root mean square turn from the grain's mean, smooth")
    gradient_deg_per_100_pixels: float = Field(0.0, ge=0, le=90, description="turn about a random axis across a grain")
    small_angle_share: float = Field(0.0, ge=0, le=1, description="of all pairs of touching grains: 2 to 10 degrees")
    twin_share: float = Field(0.0, ge=0, le=1, description="of all pairs of touching grains: twins")
    twin_laws: dict[str, TwinLaw] = Field({}, description="by the phase's name; default: by its Laue group")


@dataclass(frozen=True)
class _Grains:
    """What is known of the grains before they have orientations."""

    neighbours: list[NDArray[np.int64]]
    area: Array
    phases: Sequence[PhaseRecord]
    symmetries: list[Array]
    twins: list[Array]
    """Twin rotation of each phase; empty where no twins are asked for."""
    given: Array | None


@dataclass
class _Tally:
    """Boundaries made so far: all, small-angle, twin."""

    shares: tuple[float, float]
    total: int = 0
    made: tuple[int, int] = (0, 0)

    def missing(self, n_new: int) -> list[float]:
        """How many small-angle and twin boundaries are missing once ``n_new`` more boundaries stand."""
        return [share * (self.total + n_new) - made for share, made in zip(self.shares, self.made, strict=True)]


def twin_rotation(phase: PhaseRecord, law: TwinLaw | None = None) -> Array:
    """Quaternion (4,) of a twin law in the crystal frame; default: the half turn about the normal of `TWIN_PLANES`.

    ``multiply(twin, g)`` is the twin's orientation. Raises InputError if the law maps the crystal onto itself.
    """
    if law is None:
        normal = np.array(TWIN_PLANES[phase.point_group]) @ reciprocal_basis(phase)
        angle_deg = 180.0
    else:
        normal, angle_deg = np.array(law.axis, float), law.angle_deg
    length = float(np.linalg.norm(normal))
    half = np.radians(angle_deg) / 2
    twin = np.append(np.cos(half), np.sin(half) * normal / (length or 1.0))
    if length == 0 or disorientation_deg(twin, [1.0, 0, 0, 0], phase.proper_rotations()) < SMALL_ANGLES_DEG[0]:
        raise InputError(
            f"twin law of phase {phase.name}: {angle_deg:g} degrees about {np.round(normal, 4).tolist()} makes no twin "
            f"of a crystal of Laue group {phase.point_group}. Give another angle and axis (crystal frame)."
        )
    return twin


def grain_orientations(
    pairs: NDArray[np.int64],
    area: Array,
    *,
    phases: Sequence[PhaseRecord],
    model: GrainModel,
    orientations: Array | None,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], Array]:
    """Phase (n,) and orientation (n, 4), lab to crystal, of each grain.

    Parameters
    ----------
    pairs
        Touching grains, shape (n_boundaries, 2), each pair once.
    area
        Of each grain, any unit, shape (n,).
    phases, model, rng
        The phases, what is asked of the grains, and the source of chance.
    orientations
        Given orientations (n, 4) for the grains that are neither twin nor turned a little from a neighbour; default:
        uniformly random, at more than 10 degrees from neighbours of their phase.

    Raises InputError if a share of boundaries stays more than `SHARE_TOLERANCE` (and two boundaries) below what the
    model asks: twins come one for each grain, and a grain has some six neighbours; phase boundaries count as well.
    """
    n = len(area)
    grains = _Grains(
        neighbours=_neighbours(pairs, n),
        area=np.asarray(area, float),
        phases=phases,
        symmetries=[phase.proper_rotations() for phase in phases],
        twins=[twin_rotation(p, model.twin_laws.get(p.name)) for p in phases] if model.twin_share > 0 else [],
        given=orientations,
    )
    fractions = np.array(model.phase_fractions or [1 / len(phases)] * len(phases))
    phase, quat = np.full(n, -1, np.int16), np.tile([1.0, 0, 0, 0], (n, 1))
    tally = _Tally((model.small_angle_share, model.twin_share))
    for grain in _outward(grains.neighbours, rng):
        lacking = np.array([fractions[p] * grains.area[phase >= 0].sum() for p in range(len(phases))])
        lacking -= [grains.area[phase == p].sum() for p in range(len(phases))]
        fresh = int((lacking + fractions * grains.area[grain]).argmax())
        phase[grain], quat[grain] = _place(grain, grains, phase, quat, tally=tally, fresh=fresh, rng=rng)
    _check_shares(tally)
    return phase, quat


def turned_within(base: Array, own: Array, pixels: Array, *, model: GrainModel, rng: np.random.Generator) -> Array:
    """Orientations (n, 4) at ``pixels`` (n, 2) of a grain of the pixels ``own`` (m, 2) and mean orientation ``base``.

    They are turned by a smooth random field, its mean over the grain taken away and its root mean square set to the
    spread, plus a gradient along a random direction about a random axis.
    """
    n_own = max(1, len(own))
    centre = (own if len(own) else pixels).mean(axis=0)
    waves = rng.normal(size=(2, N_WAVES)) / (FIELD_LENGTH * np.sqrt(n_own))
    amplitude = rng.normal(size=(2 * N_WAVES, 3))
    direction, axis = rng.normal(size=2), rng.normal(size=3)

    def field(at: Array) -> Array:
        angle = (at - centre) @ waves
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=1) @ amplitude

    inside = field(own)
    mean = inside.mean(axis=0) if len(own) else np.zeros(3)
    rms = np.sqrt(np.square(inside - mean).sum() / n_own)
    spread = (field(pixels) - mean) * (model.spread_deg / rms if rms > 0 and len(own) > 1 else 0.0)
    along = (pixels - centre) @ direction / np.linalg.norm(direction)
    gradient = model.gradient_deg_per_100_pixels / 100 * along[:, None] * axis / np.linalg.norm(axis)
    return multiply(_from_rotation_vector(spread + gradient), base)


def _from_rotation_vector(turn_deg: Array) -> Array:
    """Quaternions (n, 4) of turns about axis times angle, degrees, shape (n, 3)."""
    half = np.radians(turn_deg) / 2
    angle = np.linalg.norm(half, axis=-1, keepdims=True)
    return np.concatenate([np.cos(angle), half * np.sinc(angle / np.pi)], axis=-1)


def _place(
    grain: int,
    grains: _Grains,
    phase: NDArray[np.int16],
    quat: Array,
    *,
    tally: _Tally,
    fresh: int,
    rng: np.random.Generator,
) -> tuple[int, Array]:
    """Phase and orientation of one more grain: of `TRIES` candidates the one whose boundaries are wanted most."""
    beside = grains.neighbours[grain]
    beside = beside[phase[beside] >= 0]
    missing = tally.missing(len(beside))
    kind = int(np.argmax(missing))
    parent = None if missing[kind] < 0.5 or not len(beside) else int(rng.choice(beside))
    own = fresh if parent is None else int(phase[parent])
    alike = beside[phase[beside] == own]
    if parent is None:
        candidates = random_uniform(TRIES, seed=rng) if grains.given is None else grains.given[grain][None]
    elif kind == 0:
        candidates = multiply(_small_turns(TRIES, rng), quat[rng.choice(alike, TRIES)])
    else:
        variants = equivalents(quat[rng.choice(alike, TRIES)], grains.symmetries[own])
        candidates = multiply(
            grains.twins[own], variants[np.arange(TRIES), rng.integers(variants.shape[1], size=TRIES)]
        )
    counts = _boundary_kinds(candidates, quat[alike], grains, own)
    wanted = np.array([0.0, 0.0] if parent is None else np.maximum(missing, 0))
    best = int((np.abs(counts[:, :2] - wanted).sum(axis=1) + 100 * counts[:, 2]).argmin())
    tally.total += len(beside)
    tally.made = (tally.made[0] + int(counts[best, 0]), tally.made[1] + int(counts[best, 1]))
    return own, candidates[best]


def _boundary_kinds(candidates: Array, others: Array, grains: _Grains, phase: int) -> NDArray[np.int64]:
    """Numbers of small-angle, twin and too faint boundaries that each candidate would have, shape (n, 3)."""
    symmetry = grains.symmetries[phase]
    angle = disorientation_deg(candidates[:, None], others[None], symmetry)
    low, high = SMALL_ANGLES_DEG
    twin = np.zeros(angle.shape, bool)
    if grains.twins:
        turned = multiply(grains.twins[phase], equivalents(others, symmetry))
        off = disorientation_deg(candidates[:, None, None], turned[None], symmetry)
        twin = off.min(axis=2, initial=180) < TWIN_TOLERANCE_DEG
    kinds = [(angle >= low) & (angle <= high) & ~twin, twin, angle < low]
    return np.stack([kind.sum(axis=1) for kind in kinds], axis=1)


def _small_turns(n: int, rng: np.random.Generator) -> Array:
    """Turns by an angle uniform within `SMALL_ANGLES_DEG` about uniform axes, quaternions (n, 4)."""
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    half = np.radians(rng.uniform(*SMALL_ANGLES_DEG, size=(n, 1))) / 2
    return np.concatenate([np.cos(half), np.sin(half) * axis], axis=1)


def _neighbours(pairs: NDArray[np.int64], n: int) -> list[NDArray[np.int64]]:
    """For each grain the grains it touches."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return np.split(both[:, 1], np.searchsorted(both[:, 0], np.arange(1, n)))


def _outward(neighbours: list[NDArray[np.int64]], rng: np.random.Generator) -> list[int]:
    """All grains in an order in which each, where it can, touches one before it: breadth first from a random one."""
    order: list[int] = []
    seen = np.zeros(len(neighbours), bool)
    for start in rng.permutation(len(neighbours)):
        waiting = [] if seen[start] else [int(start)]
        seen[start] = True
        while waiting:
            order.append(waiting.pop(0))
            new = rng.permutation(neighbours[order[-1]][~seen[neighbours[order[-1]]]])
            seen[new] = True
            waiting += [int(grain) for grain in new]
    return order


def _check_shares(tally: _Tally) -> None:
    """InputError if too few small-angle or twin boundaries could be made."""
    names = ("small_angle_share", "twin_share")
    for name, share, made, missing in zip(names, tally.shares, tally.made, tally.missing(0), strict=True):
        if missing > SHARE_TOLERANCE * tally.total + 2:
            raise InputError(
                f"{name} {share:g}: only {made} of {tally.total} boundaries can be made so. Ask for a share up to "
                f"{np.floor(100 * made / tally.total) / 100:g}."
            )
