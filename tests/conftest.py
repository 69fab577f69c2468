"""A small real dataset for tests: kinematic spots of two phases, written through the store."""

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dpcurate import orientations
from dpcurate.schema import CONDITIONS, Atom, Description, PhaseRecord, ScatteringFactor, Source
from dpcurate.splits import split_groups
from dpcurate.store import write_dataset

SCALE = 0.08
PER_GRAIN = 5


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Templates that tests make are kept apart from the user's."""
    os.environ["DPCURATE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def rotations(*generators):
    """The group that unit quaternions generate, one of each pair +q, -q, shape (n, 4)."""
    group = [np.array([1.0, 0, 0, 0])]
    for known in group:  # grows while it is walked
        for product in orientations.multiply(known, np.array(generators)):
            if not any(abs(product @ other) > 1 - 1e-9 for other in group):
                group.append(product)
    return np.array(group)


NICKEL = ScatteringFactor(
    element="Ni",
    terms=(
        *(2.969080787252864, 5.0418094910938, -75.74770691290402, 1.182755079216293, 76.03982876253073),
        *(1.162165458466299, 0.0210162113692967, 0.03374790878830353, 0.000231151751135153, 0.002786808620707405),
    ),
)
"""Lobato & Van Dyck 2014; tests/test_reflections.py compares such numbers with diffsims."""


def phase(name, *, space_group, point_group, lattice, symmetry, elements):
    atoms = tuple(Atom(element=element, x=x, y=y, z=z) for element, x, y, z in elements)
    group = tuple(tuple(float(part) for part in q) for q in symmetry)
    return PhaseRecord(
        name=name,
        space_group=space_group,
        point_group=point_group,
        lattice=lattice,
        atoms=atoms,
        symmetry=group,
        scattering=(NICKEL,),
    )


HALF = np.sqrt(0.5)
CUBIC = phase(
    "cubic",
    space_group=225,
    point_group="m-3m",
    lattice=(3.52, 3.52, 3.52, 90.0, 90.0, 90.0),
    symmetry=rotations([HALF, 0, 0, HALF], [HALF, HALF, 0, 0]),
    elements=[("Ni", 0, 0, 0), ("Ni", 0, 0.5, 0.5), ("Ni", 0.5, 0, 0.5), ("Ni", 0.5, 0.5, 0)],
)
TRIGONAL = phase(
    "trigonal",
    space_group=166,
    point_group="-3m",
    lattice=(2.88, 2.88, 14.2, 90.0, 90.0, 120.0),
    symmetry=rotations([0.5, 0, 0, np.sqrt(0.75)], [0, 1, 0, 0]),
    elements=[("Ni", 0, 0, 0), ("Ni", 2 / 3, 1 / 3, 1 / 3), ("Ni", 1 / 3, 2 / 3, 2 / 3)],
)


def reciprocal_vectors(record):
    """Allowed reflections up to 1.3 1/Angstrom in the crystal frame (x along a, z along c*), shape (n, 3)."""
    a, b, c, _, _, gamma = record.lattice
    angle = np.radians(gamma)
    cell = np.array([[a, 0, 0], [b * np.cos(angle), b * np.sin(angle), 0], [0, 0, c]])
    hkl = np.array(list(itertools.product(range(-5, 6), range(-5, 6), range(-19, 20))))
    place = np.array([[atom.x, atom.y, atom.z] for atom in record.atoms])
    allowed = np.abs(np.exp(2j * np.pi * hkl @ place.T).sum(axis=1)) > 1e-6
    q = hkl @ np.linalg.inv(cell).T
    return q[allowed & (np.linalg.norm(q, axis=1) < 1.3)]


def spot_patterns(record, quaternions, *, shape, rng):
    """Counts of kinematic spot patterns, direct beam included, uint16, shape (n, rows, columns)."""
    rows, columns = np.indices(shape)
    center = (np.array(shape) - 1) / 2
    vectors, patterns = reciprocal_vectors(record), []
    for matrix in orientations.to_matrix(quaternions):
        q = vectors @ matrix
        q = q[np.abs(q[:, 2]) < 0.06]
        weight = 40 * np.exp(-np.square(q[:, 2] / 0.03))
        x, y = center[1] + q[:, 0] / SCALE, center[0] + q[:, 1] / SCALE
        distance2 = np.square(rows[..., None] - y) + np.square(columns[..., None] - x)
        patterns.append(rng.poisson((weight * np.exp(-distance2 / 1.5)).sum(axis=-1) + 0.5))
    return np.array(patterns, np.uint16)


def tiny_labels(quaternions, phase_id, *, grain, shape, seed):
    n = len(quaternions)
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.5, 1, (4, n))
    center = np.broadcast_to((np.array(shape[::-1]) - 1) / 2, (n, 2))
    return {
        "orientation": quaternions,
        "phase_id": phase_id,
        **dict(zip(("confidence", "correlation", "reliability", "agreement"), score, strict=True)),
        "grain_id": grain,
        "split": split_groups(grain, seed=seed),
        "source": np.zeros(n),
        "pixel": np.stack([np.arange(n) // 10, np.arange(n) % 10], axis=1),
        "center_xy": center,
        "scale": np.full(n, SCALE),
        "true_orientation": quaternions,
        "true_grain": grain,
        "true_weight": np.ones(n),
        "true_orientation2": quaternions,
        "true_phase2_id": phase_id,
        "draw": np.full(n, -1),
        "conditions": np.full((n, len(CONDITIONS)), np.nan),
    }


def write_tiny_dataset(root, *, name="tiny", n=60, shape=(32, 32), seed=0, phases=(CUBIC, TRIGONAL)) -> Path:
    """A dataset of ``n`` patterns in grains of five, the phases in turn, grains spread by about one degree."""
    rng = np.random.default_rng(seed)
    grain = np.arange(n) // PER_GRAIN
    mean = orientations.random_uniform(grain.max() + 1, seed=rng)[grain]
    spread = np.concatenate([np.ones((n, 1)), rng.normal(scale=0.005, size=(n, 3))], axis=1)
    quaternions = orientations.multiply(mean, spread / np.linalg.norm(spread, axis=1, keepdims=True))
    phase_id = grain % len(phases)
    patterns = np.empty((n, *shape), np.uint16)
    for number, record in enumerate(phases):
        chosen = phase_id == number
        patterns[chosen] = spot_patterns(record, quaternions[chosen], shape=shape, rng=rng)
    return write_dataset(
        Path(root),
        name=name,
        patterns=[patterns],
        dtype=patterns.dtype,
        pattern_shape=shape,
        labels=tiny_labels(quaternions, phase_id, grain=grain, shape=shape, seed=seed),
        description=describe(phases, n),
        documents=lambda made: {"card.md": f"# {made.manifest.name}@{made.manifest.version}\n"},
    )


def describe(phases=(CUBIC, TRIGONAL), n=60):
    return Description(
        beam_energy_kev=200.0,
        precession_deg=1.0,
        phases=tuple(phases),
        sources=(Source(kind="simulated", note="spots made by the tests"),),
        counts={"simulated": n},
        recipe={"made by": "tests/conftest.py"},
        software={"numpy": np.__version__},
    )


@pytest.fixture(scope="session")
def tiny_dataset():
    """``tiny_dataset(root, name=..., n=60, shape=(32, 32), seed=0, phases=...)`` writes a dataset, gives its folder."""
    return write_tiny_dataset


def noise(n, shape=(4, 5), dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 200, (n, *shape)).astype(dtype)


@pytest.fixture(scope="module")
def write():
    """Write given patterns; labels and description are those of the tiny dataset."""

    def write_patterns(root, patterns, *, name="made", blocks=None, **changed):
        n, *shape = patterns.shape
        unit = np.tile([1.0, 0, 0, 0], (n, 1))
        labels = tiny_labels(unit, np.zeros(n), grain=np.arange(n), shape=tuple(shape), seed=0)
        return write_dataset(
            root,
            name=name,
            patterns=[patterns] if blocks is None else blocks,
            dtype=patterns.dtype,
            pattern_shape=tuple(shape),
            labels=labels | changed,
            description=describe(),
            documents=lambda made: {"card.md": made.manifest.name},
        )

    return write_patterns


@pytest.fixture(scope="module")
def original(tiny_dataset, tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("original"))


@pytest.fixture
def dataset(original, tmp_path):
    """A copy of the tiny dataset that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny" / original.name))
