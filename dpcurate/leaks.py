"""How much validation and test share with training: near-duplicate patterns, counted by similarity.

Similarity is the correlation of two patterns: counts added up in at most 32 x 32 squares, their square roots (equal
noise everywhere), without the direct beam, less the mean of the training patterns. What counts as a near-duplicate is
measured on the dataset itself: as similar as half of all neighbours inside a grain are to each other.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import disorientation_deg
from dpcurate.schema import SPLITS, Leak, PhaseRecord, SplitLeak
from dpcurate.store import Dataset

Labels = Mapping[str, NDArray[Any]]

SIDE = 32
"""Squares along a side of what is compared: a spot of a detector 128 pixels wide fills about one."""

K_MIN_INV_ANGSTROM = 0.15
"""Radii below hold the direct beam, as in indexing (`preprocess.k_min_inv_angstrom`)."""

JUDGED, TRAINING, PAIRS = 2_000, 20_000, 2_000
"""The most patterns of a split that are judged, training patterns they are compared with, pairs of neighbours."""

OTHER_DEG = 10.0
"""Labels farther apart than this are of other orientations."""

BLOCK = 2_048
"""Patterns that are read or compared at a time."""

NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Half of the eight; the others are the same pairs from the other side."""


def measure_leak(dataset: Dataset, labels: Labels, *, seed: int) -> Leak | None:
    """The leak of a dataset; ``labels`` as in ``schema.LABELS``. None where no pattern is of a scan.

    Every pattern is read once. At most `JUDGED` patterns of a split are compared with at most `TRAINING` training
    patterns, both drawn at random; grains, neighbours and identical patterns are counted for all.
    """
    real = labels["pixel"][:, 0] >= 0
    if not real.any():
        return None
    training = labels["split"] == 0
    rng = np.random.default_rng(seed)
    compared = _some(np.flatnonzero(training), TRAINING, rng)
    known = vectors_of(dataset, labels, compared)
    mean = known.mean(axis=0, dtype=np.float64).astype(np.float32) if len(known) else np.float32(0)
    first, second = neighbours(labels)
    chosen = _some(np.flatnonzero(_same_grain(labels, first, second)), PAIRS, rng)
    similarity = None
    if len(chosen):
        pair = [unit(vectors_of(dataset, labels, some[chosen]) - mean) for some in (first, second)]
        similarity = float(np.median((pair[0] * pair[1]).sum(axis=1)))
    digests = _digests(dataset)
    splits = {}
    for number, name in enumerate(SPLITS[1:], start=1):
        here = real & (labels["split"] == number)
        judged = _some(np.flatnonzero(here), JUDGED, rng)
        near, alike = np.zeros(len(judged), bool), np.zeros(len(judged), bool)
        if similarity is not None and len(compared):
            best, row = most_similar(unit(vectors_of(dataset, labels, judged) - mean), unit(known - mean))
            near = best >= similarity
            alike = near & _other(dataset.manifest.phases, labels, judged, compared[row])
        splits[name] = SplitLeak(
            patterns=int(here.sum()),
            same_grain=int(np.isin(_grain(labels)[here], _grain(labels)[training & real]).sum()),
            touching=int(_touching(here, training, first, second).sum()),
            identical=int(np.isin(digests[here], digests[training]).sum()),
            judged=len(judged),
            near_duplicates=int(near.sum()),
            look_alikes=int(alike.sum()),
        )
    return Leak(
        similarity=similarity,
        pairs=len(chosen),
        training=len(compared),
        training_patterns=int(training.sum()),
        splits=splits,
    )


def vectors_of(dataset: Dataset, labels: Labels, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What is compared of some patterns, ``(len(rows), about SIDE * SIDE)``; see `vectors`."""
    parts = [
        vectors(dataset.patterns(some), labels["center_xy"][some], labels["scale"][some])
        for some in (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    ]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def vectors(patterns: NDArray[Any], center_xy: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.float32]:
    """Square roots of the counts of patterns ``(n, h, w)`` in squares, 0 near the direct beam, ``(n, squares)``.

    ``center_xy`` ``(n, 2)`` in pixels, ``scale`` ``(n,)`` in 1/Angstrom a pixel.
    """
    n, height, width = patterns.shape
    edge = max(1, -(-max(height, width) // SIDE))
    rows, columns = -(-height // edge), -(-width // edge)
    counts = np.zeros((n, rows * edge, columns * edge), np.float32)
    counts[:, :height, :width] = np.clip(np.nan_to_num(patterns), 0, None)
    squares = counts.reshape(n, rows, edge, columns, edge).sum(axis=(2, 4))
    row, column = ((np.indices((rows, columns)) + 0.5) * edge - 0.5)[:, None]
    away = np.hypot(column - center_xy[:, 0, None, None], row - center_xy[:, 1, None, None])
    squares[away * scale[:, None, None] < K_MIN_INV_ANGSTROM] = 0
    return np.asarray(np.sqrt(squares).reshape(n, -1))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1, ``(n, m)``; those of length 0 stay 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))


def most_similar(
    some: NDArray[np.float32], known: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each unit vector ``(n, m)`` the highest correlation with one of ``known`` ``(k, m)``, and its number."""
    best, row = np.full(len(some), -1, np.float32), np.zeros(len(some), np.int64)
    for start in range(0, len(known), BLOCK):
        score = some @ known[start : start + BLOCK].T
        own = score.argmax(axis=1)
        higher = score[np.arange(len(some)), own] > best
        best[higher], row[higher] = score[np.arange(len(some)), own][higher], own[higher] + start
    return best, row


def neighbours(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of touching pixels of one scan, corners included, as rows of the labels, two arrays ``(n,)``."""
    real = np.flatnonzero(labels["pixel"][:, 0] >= 0)
    row, column = labels["pixel"][real].astype(np.int64).T
    source = labels["source"][real].astype(np.int64)
    wide, high = int(column.max(initial=0)) + 3, int(row.max(initial=0)) + 3
    place = (source * high + row + 1) * wide + column + 1
    order = np.argsort(place)
    pairs = []
    for down, right in NEIGHBOURS:
        wanted = place + down * wide + right
        found = np.minimum(np.searchsorted(place[order], wanted), len(order) - 1)
        there = place[order[found]] == wanted if len(order) else np.zeros(0, bool)
        pairs.append((real[there], real[order[found[there]]]))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _some(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most so many of the rows, drawn at random, rising."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _grain(labels: Labels) -> NDArray[np.int64]:
    """One number for each grain of each scan."""
    return labels["source"].astype(np.int64) * (int(labels["grain_id"].max(initial=0)) + 2) + labels["grain_id"]


def _same_grain(labels: Labels, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(_grain(labels)[first] == _grain(labels)[second])


def _touching(
    here: NDArray[np.bool_], training: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which rows of ``here`` touch a training pixel."""
    found = np.zeros(len(here), bool)
    for one, other in ((first, second), (second, first)):
        found[one[here[one] & training[other]]] = True
    return found


def _digests(dataset: Dataset) -> NDArray[np.uint64]:
    """A number for each pattern, the same for patterns that are equal in every count, ``(n,)``."""
    found = []
    for start in range(0, dataset.n, BLOCK):
        block = np.ascontiguousarray(dataset.patterns(np.arange(start, min(start + BLOCK, dataset.n))))
        found += [hashlib.blake2b(pattern.tobytes(), digest_size=8).digest() for pattern in block]
    return np.frombuffer(b"".join(found), np.uint64)


def _other(
    phases: tuple[PhaseRecord, ...], labels: Labels, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the labels of two rows are of different phases or over `OTHER_DEG` apart, ``(n,)``."""
    phase, q = labels["phase_id"], labels["orientation"]
    apart = phase[rows] != phase[others]
    for number, record in enumerate(phases):
        here = ~apart & (phase[rows] == number)
        angle = disorientation_deg(q[rows[here]], q[others[here]], record.proper_rotations())
        apart[here] = angle > OTHER_DEG
    return apart
