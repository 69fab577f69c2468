"""Examples for a dataset's card: patterns of the most and the least confident labels, and of repaired ones.

A label is repaired where neighbours, dynamical scattering or overlap replaced the best match of its single pattern. The
index keeps both; the dataset holds the label alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.choosing import Story
from dpcurate.crystal_maps import IndexResult
from dpcurate.kinematic import kinematic_spots
from dpcurate.labels import Labels
from dpcurate.orientations import Array, disorientation_deg, turn_pattern
from dpcurate.reflections import reflections
from dpcurate.schema import Manifest
from dpcurate.store import Dataset

SHOWN = 8
"""Examples of each kind."""

REPAIRED_DEG = 3.0
"""Labels nearer to the single pattern's winner are the same answer, told more exactly."""

REASONS = ("", "neighbours", "dynamical scattering", "overlap")
"""Why a label is not its pattern's own winner, in the order of `consensus.OWN_WINNER` and the others."""

MAX_EXCITATION_ERROR, THICKNESS_ANGSTROM, FAINTEST, K_MAX_INV_ANGSTROM = 0.02, 200.0, 0.003, 2.0
"""Of the spots that are drawn, as in the pictures of a preview."""


@dataclass(frozen=True)
class Repairs:
    """Labels of a dataset that are not the winners of their single patterns, each array ``(n,)`` or ``(n, 4)``."""

    row: NDArray[np.int64]
    reason: NDArray[np.uint8]
    phase_id: NDArray[np.int16]
    """Of the winner, in the dataset."""
    orientation: Array
    """Of the winner, in the frame of the dataset's patterns."""
    turned_deg: NDArray[np.float64]
    """How far the label is from it; NaN for another phase."""


@dataclass(frozen=True)
class Example:
    """One pattern with what is drawn over it."""

    pattern: NDArray[Any]
    words: str
    center_xy: NDArray[np.float32]
    scale_inv_angstrom: float
    phase_id: int
    orientation: Array
    replaced: tuple[int, Array] | None = None


def repairs_of(manifest: Manifest, labels: Labels, story: Story) -> Repairs:
    """The repaired labels of a dataset; none where neighbours had no say."""
    found = [_repairs_in(manifest, labels, number, index) for number, index in enumerate(story.indexes)]
    return Repairs(*(np.concatenate(column) for column in zip(*(vars(one).values() for one in found), strict=True)))


def _repairs_in(manifest: Manifest, labels: Labels, number: int, index: IndexResult) -> Repairs:
    rows = np.flatnonzero((labels["source"] == number) & (labels["pixel"][:, 0] >= 0))
    place = tuple(labels["pixel"][rows].T)
    reason = np.zeros(len(rows), np.uint8) if index.source is None else index.source[place]
    rotation_deg = index.info["calibration"].get("rotation_deg", 0.0)
    winner = turn_pattern(index.candidate_orientation[place][:, 0], -rotation_deg)
    numbers = np.array([manifest.phases.index(phase) for phase in index.phases], np.int16)
    phase = numbers[index.candidate_phase_id[place][:, 0]]
    turned = np.full(len(rows), np.nan)
    for k, record in enumerate(manifest.phases):
        here = (phase == k) & (labels["phase_id"][rows] == k)
        turned[here] = disorientation_deg(labels["orientation"][rows[here]], winner[here], record.proper_rotations())
    changed = (reason > 0) & ~(turned <= REPAIRED_DEG)
    return Repairs(rows[changed], reason[changed], phase[changed], winner[changed], turned[changed])


def best_and_worst(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the scans' labels with the highest confidence, each of another grain, and of those with the lowest."""
    real = np.flatnonzero(labels["pixel"][:, 0] >= 0)
    order = real[np.argsort(labels["confidence"][real], kind="stable")]
    grains = np.stack([labels["source"][order[::-1]], labels["grain_id"][order[::-1]]])
    _, first = np.unique(grains, axis=1, return_index=True)
    return order[::-1][np.sort(first)][:SHOWN], order[:SHOWN]


def examples(dataset: Dataset, labels: Labels, rows: NDArray[np.int64], repairs: Repairs) -> list[Example]:
    """The patterns of some rows with their labels, and with what a repair replaced where there was one."""
    patterns = dataset.patterns(rows)
    number = {int(row): place for place, row in enumerate(repairs.row)}
    found = []
    for row, pattern in zip(rows, patterns, strict=True):
        repair = number.get(int(row))
        words = "row {}, column {}\nconfidence {:.2f}".format(*labels["pixel"][row], labels["confidence"][row])
        replaced = None
        if repair is not None:
            turned = repairs.turned_deg[repair]
            words += f"; by {REASONS[repairs.reason[repair]]}\n"
            words += f"turned by {turned:.1f} degrees" if np.isfinite(turned) else "another phase"
            replaced = int(repairs.phase_id[repair]), repairs.orientation[repair]
        found.append(
            Example(
                pattern=pattern,
                words=words,
                center_xy=labels["center_xy"][row],
                scale_inv_angstrom=float(labels["scale"][row]),
                phase_id=int(labels["phase_id"][row]),
                orientation=labels["orientation"][row],
                replaced=replaced,
            )
        )
    return found


def some_repairs(repairs: Repairs) -> NDArray[np.int64]:
    """Rows of a few repaired labels, spread evenly over all of them."""
    chosen = np.unique(np.linspace(0, len(repairs.row) - 1, min(SHOWN, len(repairs.row))).astype(int))
    return repairs.row[chosen] if len(repairs.row) else repairs.row


def spots_of(
    manifest: Manifest, example: Example, phase_id: int, orientation: Array, *, k_min: float
) -> tuple[Array, NDArray[np.float64]]:
    """Places (column, row) in pixels of an orientation's spots, (k, 2), and shares of the strongest, (k,)."""
    corner = float(np.hypot(*example.pattern.shape)) * example.scale_inv_angstrom
    spots = kinematic_spots(
        reflections(manifest.phases[phase_id], min(corner, K_MAX_INV_ANGSTROM)),
        orientation[None],
        beam_energy_kev=manifest.beam_energy_kev,
        precession_deg=manifest.precession_deg,
        max_excitation_error=MAX_EXCITATION_ERROR,
        thickness_angstrom=THICKNESS_ANGSTROM,
    )
    q, intensity = spots.q[0].double().numpy(), spots.intensity[0].double().numpy()
    intensity = np.where(np.hypot(*q.T) >= k_min, intensity, 0)
    share = intensity / max(float(intensity.max(initial=0)), 1e-30)
    shown = share > FAINTEST
    return q[shown] / example.scale_inv_angstrom + example.center_xy, share[shown]
