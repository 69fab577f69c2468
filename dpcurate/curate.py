"""Build a labelled dataset from indexed scans: the labels that can be trusted, plus simulated patterns."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate import labels as columns
from dpcurate.card import card_text
from dpcurate.crystal_maps import IndexResult, read_index, read_truth
from dpcurate.errors import InputError
from dpcurate.orientations import random_uniform
from dpcurate.patterns import Blocks, Simulate, scan_patterns, simulated_patterns, storage_dtype
from dpcurate.recipe import ScanRecipe
from dpcurate.scans import Scan, open_scan, sha256_of
from dpcurate.schema import Description, PhaseRecord, Source
from dpcurate.simulate import simulate_patterns
from dpcurate.store import dataset_root, write_dataset

SAME = 1e-6
"""Relative difference of two beam energies or precession angles that is rounding only."""

SAMPLE_STREAM, SIMULATED_STREAM = 1, 2
"""Keep the random draws that share one seed apart."""


@dataclass(frozen=True)
class Part:
    """What one source gives to a dataset."""

    source: Source
    labels: columns.Labels
    patterns: Blocks
    dtype: np.dtype[Any]


def build_dataset(
    indexes: Sequence[str | Path],
    *,
    name: str | None = None,
    min_confidence: float = 0.8,
    simulated: int = 0,
    simulate: Simulate = simulate_patterns,
    seed: int = 0,
    root: str | Path | None = None,
    sample: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a dataset of the labels that can be trusted and return its folder.

    Parameters
    ----------
    indexes
        Index folders, as ``dpcurate index`` writes them; one for each scan.
    name
        Default: the first scan's, without its ending.
    min_confidence
        Pixels with a lower confidence are left out, 0 to 1.
    simulated, simulate
        How many patterns of random orientations to add, the phases in turn, and what makes them.
    seed
        Decides the split, the sample and the simulated orientations.
    root
        Folder of all datasets; see ``store.dataset_root``.
    sample
        Keep only so many of the pixels, drawn at random.
    progress
        Show it, on stderr.

    Raises
    ------
    InputError
        An option out of range, no label left, scans that changed, are used twice or do not go together, disk full.

    Notes
    -----
    Patterns are read block by block. The split of a pixel depends on its scan's grains and the seed only.
    """
    options = {"name": name, "min_confidence": min_confidence, "simulated": simulated, "seed": seed, "sample": sample}
    results = [read_index(Path(folder).resolve()) for folder in indexes]
    _check_alike(results)
    kept = _kept(results, min_confidence=min_confidence, simulated=simulated)
    drawn = _draw(kept, sample, seed=seed)
    phases, numbers = columns.merge_phases([index.phases for index in results])
    scans = [_open_unchanged(index) for index in results]
    shape = _pattern_shape(scans)
    parts = [_scan_part(*each, seed=seed) for each in zip(results, scans, drawn, numbers, strict=True)]
    if simulated:
        calibration = results[0].info["calibration"]
        part = _simulated_part(simulated, phases, calibration=calibration, shape=shape, simulate=simulate, seed=seed)
        parts.append(part)
    labels = columns.join([part.labels for part in parts])
    dtype = storage_dtype(part.dtype for part in parts)
    with tqdm(total=len(labels["split"]), desc="patterns", unit="pattern", disable=not progress) as bar:
        return write_dataset(
            dataset_root(root),
            name=name or _default_name(scans[0]),
            patterns=_counted(chain.from_iterable(part.patterns for part in parts), bar, dtype=dtype),
            dtype=dtype,
            pattern_shape=shape,
            labels=labels,
            description=_describe(results, parts, phases=phases, counts=_counts(results, kept, drawn), options=options),
            card=partial(card_text, labels=labels),
        )


def _check_alike(results: Sequence[IndexResult]) -> None:
    """Refuse no index at all, one scan twice (a pixel could train and test), another beam energy or precession."""
    if not results:
        raise InputError("No index given; name at least one folder that 'dpcurate index' has written.")
    first, seen = results[0], dict[str, Path]()
    for index in results:
        digest = index.info["scan"]["sha256"]
        if digest is None:
            raise InputError(f"{index.folder}: indexes a signal in memory; save the scan to a file and index that.")
        if digest in seen:
            raise InputError(f"{index.folder} and {seen[digest]} index the same scan; give one of them.")
        seen[digest] = _folder(index)
        for key, unit in (("beam_energy_kev", "keV"), ("precession_deg", "degrees of precession")):
            mine, other = index.info["calibration"][key], first.info["calibration"][key]
            if not math.isclose(mine, other, rel_tol=SAME):
                raise InputError(
                    f"{index.folder}: {mine:g} {unit}, but {first.folder} has {other:g}; "
                    "build a dataset of each, their patterns do not compare."
                )


def _kept(results: Sequence[IndexResult], *, min_confidence: float, simulated: int) -> list[NDArray[np.int64]]:
    """Pixels of each scan that stay at a confidence; InputError when the options are wrong or leave nothing."""
    if not 0 <= min_confidence <= 1:
        raise InputError(
            f"--min-confidence {min_confidence}: must be from 0 to 1; of the labels {columns.how_many_stay(results)}."
        )
    if simulated < 0:
        raise InputError(f"--simulated {simulated}: must be 0 or more patterns.")
    kept = [columns.kept_pixels(index, min_confidence=min_confidence) for index in results]
    if not _total(kept):
        raise InputError(
            f"--min-confidence {min_confidence}: no label is left; {columns.how_many_stay(results)}. Lower it."
        )
    return kept


def _draw(kept: list[NDArray[np.int64]], sample: int | None, *, seed: int) -> list[NDArray[np.int64]]:
    """``sample`` of all the pixels at random, still in scan order; all of them for None."""
    if sample is None:
        return kept
    if not 1 <= sample <= _total(kept):
        raise InputError(f"--sample {sample}: must be from 1 to {_total(kept)}, the labels that are confident enough.")
    chosen = np.zeros(_total(kept), bool)
    chosen[np.random.default_rng([seed, SAMPLE_STREAM]).choice(len(chosen), sample, replace=False)] = True
    ends = np.cumsum([len(pixels) for pixels in kept])
    return [pixels[here] for pixels, here in zip(kept, np.split(chosen, ends[:-1]), strict=True)]


def _open_unchanged(index: IndexResult) -> Scan:
    """The scan behind an index; InputError when it is gone, or not the one that was indexed."""
    path, known = Path(index.info["scan"]["path"]), index.info["scan"]["sha256"]
    if not path.exists():
        raise InputError(f"{index.folder}: its scan {path} is gone; put it back or index the scan where it is now.")
    if sha256_of(path) != known:
        raise InputError(f"{path}: changed since {index.folder} was made; index it again.")
    calibration = index.info["calibration"]
    keys = ("scale_inv_angstrom", "center_xy", "beam_energy_kev", "flip")
    return open_scan(path, ScanRecipe(**{key: calibration[key] for key in keys if key in calibration}))


def _pattern_shape(scans: Sequence[Scan]) -> tuple[int, int]:
    rows, cols = scans[0].patterns.shape[2:]
    for scan in scans:
        if scan.patterns.shape[2:] != (rows, cols):
            raise InputError(
                f"{scan.path}: patterns of {scan.patterns.shape[2:]} pixels, but {scans[0].path} has {(rows, cols)}; "
                "build a dataset of each, or bin the larger."
            )
    return int(rows), int(cols)


def _scan_part(
    index: IndexResult, scan: Scan, pixels: NDArray[np.int64], phases: NDArray[np.int16], *, seed: int
) -> Part:
    path = index.info["scan"]["path"]
    split = columns.pixel_splits(index, seed=seed)
    source = Source(
        kind="scan",
        index_path=str(index.folder),
        index_sha256=sha256_of(_folder(index) / "crystal_map.h5"),
        scan_path=path,
        scan_sha256=index.info["scan"]["sha256"],
    )
    truth = read_truth(path)
    if truth is not None and truth.weight.shape != index.shape:
        raise InputError(f"{path}: the truth beside it has {truth.weight.shape} pixels, not {index.shape}; remove it.")
    labels = columns.scan_labels(index, truth, pixels=pixels, phases=phases, split=split)
    return Part(source, labels, scan_patterns(scan, pixels), scan.patterns.dtype)


def _simulated_part(
    n: int,
    phases: Sequence[PhaseRecord],
    *,
    calibration: Mapping[str, Any],
    shape: tuple[int, int],
    simulate: Simulate,
    seed: int,
) -> Part:
    orientation = random_uniform(n, seed=np.random.default_rng([seed, SIMULATED_STREAM]))
    phase_id = np.sort(np.arange(n) % len(phases)).astype(np.int16)
    labels = columns.simulated_labels(orientation, phase_id, calibration=calibration, seed=seed)
    patterns = simulated_patterns(labels, phases, calibration=calibration, shape=shape, simulate=simulate, seed=seed)
    source = Source(kind="simulated", note=f"{simulate.__module__}.{simulate.__name__}, seed {seed}")
    return Part(source, labels, patterns, np.dtype(np.uint16))


def _counts(
    results: Sequence[IndexResult], kept: list[NDArray[np.int64]], drawn: list[NDArray[np.int64]]
) -> dict[str, int]:
    pixels = sum(index.phase_id.size for index in results)
    unknown = sum(int((index.phase_id < 0).sum()) for index in results)
    return {
        "pixels of the scans": pixels,
        "dropped, not indexed": unknown,
        "dropped, confidence too low": pixels - unknown - _total(kept),
        "dropped, not in the sample": _total(kept) - _total(drawn),
        "kept": _total(drawn),
    }


def _describe(
    results: Sequence[IndexResult],
    parts: Sequence[Part],
    *,
    phases: tuple[PhaseRecord, ...],
    counts: dict[str, int],
    options: Mapping[str, object],
) -> Description:
    calibration = results[0].info["calibration"]
    return Description(
        beam_energy_kev=calibration["beam_energy_kev"],
        precession_deg=calibration["precession_deg"],
        phases=phases,
        sources=tuple(part.source for part in parts),
        counts=counts | {"simulated": sum(len(p.labels["split"]) for p in parts if p.source.kind == "simulated")},
        recipe={"indexes": [str(index.folder) for index in results], **options},
        software={package: version(package) for package in ("dpcurate", "numpy", "tensorstore")},
    )


def _folder(index: IndexResult) -> Path:
    assert index.folder is not None, "read_index gives the folder"
    return index.folder


def _default_name(scan: Scan) -> str:
    stem = scan.path.stem if scan.path else ""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "dataset"


def _counted(blocks: Iterable[NDArray[Any]], bar: tqdm, *, dtype: np.dtype[Any]) -> Blocks:
    for block in blocks:
        yield block.astype(dtype, copy=False)
        bar.update(len(block))


def _total(pixels: list[NDArray[np.int64]]) -> int:
    return sum(len(some) for some in pixels)
