"""Orientations to simulate: uniform over the symmetry zone, around given ones, or a texture. Needs numpy only.

Orientation number k depends on (seed, k) only, whatever it is drawn together with.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from dpcurate import counters
from dpcurate.errors import InputError
from dpcurate.orientations import Array, multiply, zone_representative
from dpcurate.schema import Record

UNIFORM, SPREAD, CHOICE, TURN = range(2**40, 2**40 + 4)
"""Streams of random numbers. No epoch of training is so late, so none shares numbers with its seed's orientations."""


class Component(Record):
    """A share of a texture around one orientation."""

    orientation: tuple[float, float, float, float] = Field(description="quaternion (w, x, y, z), lab to crystal")
    spread_deg: float = Field(ge=0, description="as of `around`")
    weight: float = Field(gt=0, le=1, description="share of all orientations")


class Fibre(Record):
    """A share of a texture in which one crystal direction lies along one lab direction, turned about it at random."""

    crystal: tuple[float, float, float] = Field(description="in the crystal frame (x along a, z along c*)")
    lab: tuple[float, float, float] = Field(description="in the lab frame; (0, 0, 1) is against the electrons")
    spread_deg: float = Field(ge=0, description="as of `around`")
    weight: float = Field(gt=0, le=1, description="share of all orientations")


def uniform_in_zone(index: ArrayLike, symmetry: ArrayLike, *, seed: int) -> Array:
    """Orientations number ``index`` (n,) of a uniform distribution over the symmetry zone, shape ``(n, 4)``.

    The zone of the proper Laue group ``symmetry`` ``(n_symmetry, 4)`` is that of `orientations.zone_representative`:
    smallest rotation angle, w >= 0.
    """
    return zone_representative(_uniform(np.asarray(index, np.int64), seed), symmetry)


def around(orientations: ArrayLike, index: ArrayLike, *, spread_deg: float, seed: int) -> Array:
    """Orientations number ``index`` (n,) around given ones ``(m, 4)``, taken in turn, shape ``(n, 4)``.

    Orientation k is parent k mod m, turned by a rotation vector of three independent normal components, each with the
    standard deviation ``spread_deg``. It then is off by spread_deg * sqrt(8 / pi) on average (Maxwell's distribution),
    as long as that is small against half a turn. No direction is preferred. The result is not brought into the
    symmetry zone.
    """
    numbers, parents = np.asarray(index, np.int64), np.asarray(orientations, float)
    return turned(parents[numbers % len(parents)], numbers, spread_deg=spread_deg, seed=seed)


def texture(parts: Sequence[Component | Fibre], index: ArrayLike, symmetry: ArrayLike, *, seed: int) -> Array:
    """Orientations number ``index`` (n,) of a texture, in the symmetry zone, shape ``(n, 4)``.

    Each orientation is drawn from one of the parts, with its weight as probability; what the weights lack of 1 is
    uniform. Raises InputError when they add up to more than 1.
    """
    bounds = np.cumsum([part.weight for part in parts])
    if len(parts) and bounds[-1] > 1 + 1e-9:
        raise InputError(f"the weights of the texture add up to {bounds[-1]:.6g}, which is more than 1. Lower them.")
    numbers = np.asarray(index, np.int64)
    chosen = np.searchsorted(bounds, counters.uniform(numbers, seed=seed, stream=CHOICE, n=1)[:, 0], side="right")
    g = _uniform(numbers, seed)
    for number, part in enumerate(parts):
        own = chosen == number
        middle = _middle(part, numbers[own], seed)
        g[own] = turned(middle, numbers[own], spread_deg=part.spread_deg, seed=seed)
    return zone_representative(g, symmetry)


def turned(g: Array, index: NDArray[np.int64], *, spread_deg: ArrayLike, seed: int) -> Array:
    """Orientations ``g`` (n, 4), each turned at random with the number of its ``index`` (n,), shape ``(n, 4)``.

    As of `around`; ``spread_deg`` is one angle or ``(n,)``.
    """
    u = counters.uniform(index, seed=seed, stream=SPREAD, n=6)
    vector = np.radians(np.broadcast_to(spread_deg, len(u)))[:, None] * counters.normal(u[:, :3], u[:, 3:])
    angle = np.linalg.norm(vector, axis=1, keepdims=True)
    part = vector * np.sinc(angle / (2 * np.pi)) / 2  # sin(angle / 2) along the axis
    return multiply(g, np.concatenate([np.cos(angle / 2), part], axis=1))


def _uniform(index: NDArray[np.int64], seed: int) -> Array:
    """Uniform over all rotations: Shoemake, Graphics Gems III (1992) 124."""
    u, v, w = counters.uniform(index, seed=seed, stream=UNIFORM, n=3).T
    v, w = 2 * np.pi * v, 2 * np.pi * w
    inner, outer = np.sqrt(1 - u), np.sqrt(u)
    return np.stack([outer * np.cos(w), inner * np.sin(v), inner * np.cos(v), outer * np.sin(w)], axis=-1)


def _middle(part: Component | Fibre, index: NDArray[np.int64], seed: int) -> Array:
    """What a part of a texture spreads around, ``(m, 4)``."""
    if isinstance(part, Component):
        middle = np.array(part.orientation) / np.linalg.norm(part.orientation)
        return np.broadcast_to(middle, (len(index), 4))
    lab, crystal = (np.array(vector) / np.linalg.norm(vector) for vector in (part.lab, part.crystal))
    half = np.pi * counters.uniform(index, seed=seed, stream=TURN, n=1)
    about = np.concatenate([np.cos(half), np.sin(half) * lab], axis=1)
    return multiply(_shortest(lab, crystal), about)


def _shortest(start: Array, end: Array) -> Array:
    """Quaternion ``(4,)`` of the shortest turn that takes one unit vector to another."""
    half = np.concatenate([[1 + start @ end], np.cross(start, end)])
    if np.linalg.norm(half) < 1e-6:  # opposite: half a turn about anything across
        across = np.cross(start, np.eye(3)[np.abs(start).argmin()])
        half = np.concatenate([[0.0], across])
    return half / np.linalg.norm(half)
