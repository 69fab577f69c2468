"""From index and truth to the label arrays of a dataset: pure functions, pixels counted along the scan's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpcurate.crystal_maps import IndexResult
from dpcurate.errors import InputError
from dpcurate.orientations import turn_pattern
from dpcurate.recipe import CurationRecipe
from dpcurate.schema import CONDITIONS, LABELS, SPLITS, PhaseRecord
from dpcurate.simulation_plan import Geometry
from dpcurate.simulator import Drawn
from dpcurate.splits import blocks, split_groups, split_regions
from dpcurate.truth import Truth

Labels = dict[str, NDArray[Any]]

USUAL = CurationRecipe()

CONFIDENCES = (0.5, 0.7, 0.9)
"""Thresholds for which an error says how many labels would stay."""


def merge_phases(
    phases: Sequence[tuple[PhaseRecord, ...]],
) -> tuple[tuple[PhaseRecord, ...], list[NDArray[np.int16]]]:
    """All different phases of several indexes, and for each index the number in that list of each of its phases.

    Raises InputError when two phases have one name and different structures.
    """
    merged: list[PhaseRecord] = []
    for phase in (phase for some in phases for phase in some):
        if phase in merged:
            continue
        if any(phase.name == other.name for other in merged):
            raise InputError(
                f"Phase {phase.name} has different structures in two indexes; index both scans with one CIF, "
                "or give the phases different names."
            )
        merged.append(phase)
    return tuple(merged), [np.array([merged.index(phase) for phase in some], np.int16) for some in phases]


def pixel_splits(index: IndexResult, *, seed: int, recipe: CurationRecipe = USUAL) -> NDArray[np.uint8]:
    """Split of every pixel of an index, shape ``(ny * nx,)``, by whole grains, blocks or regions, or pixel by pixel.

    Depends on the map of grains (not on their numbers), the scan and the seed only, so never on a confidence. Pixels
    that are not indexed take no part and get 0. ``recipe.split`` may be any kind but ``scan``, see `scan_splits`.
    """
    indexed = index.phase_id.ravel() >= 0
    seeds = [seed, int(index.info["scan"]["sha256"][:8], 16)]
    _, first, member = np.unique(index.grain_id.ravel()[indexed], return_index=True, return_inverse=True)
    grain = np.full(indexed.size, -1)
    grain[indexed] = first[member]
    if recipe.split == "region":
        region = split_regions(grain.reshape(index.shape), index.shape, fractions=recipe.fractions, seed=seeds)
        return region.ravel()
    group = {"grain": grain, "block": blocks(index.shape, side=recipe.block_pixels).ravel()}.get(
        recipe.split, np.arange(grain.size)
    )
    split = np.zeros(grain.size, np.uint8)
    split[indexed] = split_groups(group[indexed], fractions=recipe.fractions, seed=seeds)
    return split


def scan_splits(indexes: Sequence[IndexResult], *, seed: int, recipe: CurationRecipe) -> list[NDArray[np.uint8]]:
    """Split of every pixel of each index, as of `pixel_splits`; or, for ``recipe.split`` = scan, by whole scans.

    The order in which indexes are given does not matter. InputError with fewer than three scans to split.
    """
    if recipe.split != "scan":
        return [pixel_splits(index, seed=seed, recipe=recipe) for index in indexes]
    if len(indexes) < len(SPLITS):
        raise InputError(
            f"--split scan: needs three scans or more, one for each split; {len(indexes)} given. "
            "Give more indexes, or --split grain."
        )
    size = [int((index.phase_id >= 0).sum()) for index in indexes]
    number = np.repeat([int(index.info["scan"]["sha256"][:15], 16) for index in indexes], size)
    split = split_groups(number, fractions=recipe.fractions, seed=seed)
    of_scan = split[np.cumsum(size) - 1]
    return [np.full(index.phase_id.size, one, np.uint8) for index, one in zip(indexes, of_scan, strict=True)]


def kept_pixels(index: IndexResult, *, min_confidence: float) -> NDArray[np.int64]:
    """Numbers of the pixels that are indexed with at least this confidence, in scan order."""
    return np.flatnonzero((index.phase_id.ravel() >= 0) & (index.confidence.ravel() >= min_confidence))


def how_many_stay(indexes: Sequence[IndexResult]) -> str:
    """For an error message: how many labels stay at some thresholds."""
    stay = (sum(len(kept_pixels(index, min_confidence=p)) for index in indexes) for p in CONFIDENCES)
    return ", ".join(f"{n} at {p}" for p, n in zip(CONFIDENCES, stay, strict=True)) + " would stay"


def scan_labels(
    index: IndexResult, truth: Truth | None, *, pixels: NDArray[np.int64], phases: NDArray[np.int16], split: ArrayLike
) -> Labels:
    """Labels of some pixels of a scan, all of ``schema.LABELS`` but ``source``.

    Index and truth hold orientations in the scan's frame; a dataset's labels belong to its patterns as they are stored,
    so the rotation of the scan against the detector is taken back.

    Parameters
    ----------
    index, truth
        What is known of the scan, maps of shape ``(ny, nx)``.
    pixels
        Numbers of the pixels along the scan's rows, shape ``(n,)``.
    phases
        Number in the dataset of each of the index's phases.
    split
        Split of every pixel of the scan, shape ``(ny * nx,)``.
    """
    n, columns = len(pixels), index.shape[1]
    rotation_deg = index.info["calibration"].get("rotation_deg", 0.0)
    exact = np.full((n, 4), np.nan) if truth is None else truth.quat.reshape(-1, 4)[pixels]
    labels = {
        "orientation": turn_pattern(index.orientation.reshape(-1, 4)[pixels], -rotation_deg),
        "phase_id": phases[index.phase_id.ravel()[pixels]],
        "grain_id": index.grain_id.ravel()[pixels],
        "split": np.asarray(split)[pixels],
        "pixel": np.stack([pixels // columns, pixels % columns], axis=1),
        **_calibration(index.info["calibration"], n),
        "true_orientation": turn_pattern(exact, -rotation_deg),
        "true_grain": np.full(n, -1) if truth is None else truth.grain.ravel()[pixels],
        "true_weight": np.full(n, np.nan) if truth is None else truth.weight.ravel()[pixels],
        **_second_grain(truth, pixels, phases=phases, rotation_deg=rotation_deg),
        "draw": np.full(n, -1),
        "conditions": np.full((n, len(CONDITIONS)), np.nan),
    }
    if truth is not None:
        labels["conditions"][:, CONDITIONS.index("thickness_angstrom")] = truth.thickness_angstrom.ravel()[pixels]
    for name in ("confidence", "correlation", "reliability", "agreement"):
        labels[name] = getattr(index, name).ravel()[pixels]
    return labels


def simulated_labels(drawn: Drawn, geometry: Geometry, *, seed: int) -> Labels:
    """Labels of simulated patterns, exact, each a group of its own for the split; all but ``source``."""
    n = len(drawn.index)
    unknown = np.full(n, np.nan)
    single = drawn.weight == 1
    calibration = {"center_xy": geometry.center_xy, "scale_inv_angstrom": geometry.scale_inv_angstrom}
    return {
        "orientation": drawn.orientation,
        "phase_id": drawn.phase_id,
        "grain_id": np.full(n, -1),
        "split": split_groups(np.arange(n), seed=seed),
        "pixel": np.full((n, 2), -1),
        **_calibration(calibration, n),
        "true_orientation": drawn.orientation,
        "true_orientation2": np.where(single[:, None], drawn.orientation, drawn.orientation2),
        "true_phase2_id": np.where(single, drawn.phase_id, drawn.phase2_id),
        "true_grain": np.full(n, -1),
        "true_weight": drawn.weight,
        "draw": drawn.index,
        "conditions": np.stack([column.cpu().numpy() for column in drawn.conditions.as_columns().values()], axis=1),
        "confidence": np.ones(n),
        "correlation": unknown,
        "reliability": unknown,
        "agreement": unknown,
    }


def _second_grain(
    truth: Truth | None, pixels: NDArray[np.int64], *, phases: NDArray[np.int16], rotation_deg: float
) -> Labels:
    """The second grain in the probe at some pixels, as far as the truth knows it."""
    n = len(pixels)
    if truth is None:
        return {"true_orientation2": np.full((n, 4), np.nan), "true_phase2_id": np.full(n, -1)}
    second = turn_pattern(truth.quat2.reshape(-1, 4)[pixels], -rotation_deg)
    number = truth.phase2_id.ravel()[pixels]
    phase2_id = np.where((number >= 0) & (number < len(phases)), phases[np.clip(number, 0, len(phases) - 1)], -1)
    return {"true_orientation2": second, "true_phase2_id": phase2_id}


def join(parts: Sequence[Labels]) -> Labels:
    """The labels of all parts one after another, in the dtypes of the format, with their ``source``."""
    source = [np.full(len(part["orientation"]), number) for number, part in enumerate(parts)]
    columns = {name: [part[name] for part in parts] for name in LABELS if name != "source"} | {"source": source}
    return {name: np.concatenate(columns[name]).astype(label.dtype) for name, label in LABELS.items()}


def _calibration(calibration: Mapping[str, Any], n: int) -> Labels:
    return {
        "center_xy": np.tile(np.asarray(calibration["center_xy"], np.float32), (n, 1)),
        "scale": np.full(n, calibration["scale_inv_angstrom"]),
    }
