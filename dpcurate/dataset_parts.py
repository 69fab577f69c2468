"""What a dataset is put together from: pixels of scans, simulated patterns; and its writing, block by block."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from dpcurate.choosing import Story
from dpcurate.crystal_maps import IndexResult
from dpcurate.documents import documents
from dpcurate.errors import InputError
from dpcurate.leaks import measure_leak
from dpcurate.patterns import Blocks, reordered, scan_patterns, simulated_patterns, storage_dtype
from dpcurate.scans import Scan, sha256_of
from dpcurate.schema import Description, Source
from dpcurate.simulation_plan import Geometry
from dpcurate.simulator import Simulator, draw
from dpcurate.store import dataset_root, write_dataset
from dpcurate.truth import read_truth
from dpcurate.writing import PATTERNS_PER_SHARD

SOFTWARE = ("dpcurate", "numpy", "tensorstore", "torch")

LEAK_SEED = 0
"""Of which patterns are compared: the same of every dataset, so that two can be compared with each other."""

Simulate = Callable[[Simulator, NDArray[np.int64]], Blocks]


@dataclass(frozen=True)
class Part:
    """What one source gives to a dataset."""

    source: Source
    labels: columns.Labels
    patterns: Blocks
    dtype: np.dtype[Any]


def scan_part(
    index: IndexResult,
    scan: Scan,
    pixels: NDArray[np.int64],
    phases: NDArray[np.int16],
    split: NDArray[np.uint8],
) -> Part:
    """What some pixels of a scan give.

    ``phases`` are the numbers in the dataset of the index's phases; ``split`` is that of every pixel of the scan.
    """
    path = index.info["scan"]["path"]
    source = Source(
        kind="scan",
        index_path=str(index.folder),
        index_sha256=sha256_of(folder_of(index) / "crystal_map.h5"),
        scan_path=path,
        scan_sha256=index.info["scan"]["sha256"],
    )
    truth = read_truth(path)
    if truth is not None and truth.weight.shape != index.shape:
        raise InputError(f"{path}: the truth beside it has {truth.weight.shape} pixels, not {index.shape}; remove it.")
    labels = columns.scan_labels(index, truth, pixels=pixels, phases=phases, split=split)
    return Part(source, labels, scan_patterns(scan, pixels), scan.patterns.dtype)


def simulated_part(simulator: Simulator, *, simulate: Simulate = simulated_patterns) -> Part:
    """All samples of a simulator's plan; their patterns are made when they are asked for."""
    plan = simulator.plan
    index = np.arange(plan.number)
    source = Source(kind="simulated", note=f"{plan.recipe.physics}, {plan.recipe.orientations}, seed {plan.seed}")
    labels = columns.simulated_labels(draw(simulator, index), plan.geometry, seed=plan.seed)
    return Part(source, labels, simulate(simulator, index), np.dtype(np.uint16))


def geometry_of(calibration: Mapping[str, Any], shape: tuple[int, int]) -> Geometry:
    """Where the detector of an indexed scan is, from the calibration in its index."""
    keys = ("scale_inv_angstrom", "center_xy", "beam_energy_kev", "precession_deg")
    return Geometry(shape=shape, **{key: calibration[key] for key in keys})


def write_parts(
    parts: Sequence[Part],
    description: Description,
    *,
    name: str,
    root: str | Path | None,
    pattern_shape: tuple[int, int],
    order: NDArray[np.int64] | None = None,
    story: Story | None = None,
    patterns_per_shard: int = PATTERNS_PER_SHARD,
    progress: bool,
) -> Path:
    """Write a dataset of these parts, one after another, with progress, and return its folder.

    ``order`` says in which order the patterns of scans, which come first, are stored. ``story`` is what the card tells
    of the scans. ``patterns_per_shard``: as `write_dataset` takes it.
    """
    labels = in_order(columns.join([part.labels for part in parts]), order)
    dtype = storage_dtype(part.dtype for part in parts)
    folder = dataset_root(root)
    blocks: Iterator[NDArray[Any]] = chain.from_iterable(part.patterns for part in parts)
    if order is not None:
        blocks = reordered(blocks, order, pattern_shape=pattern_shape, dtype=dtype, folder=folder)
    with tqdm(total=len(labels["split"]), desc="patterns", unit="pattern", disable=not progress) as bar:
        return write_dataset(
            folder,
            name=name,
            patterns=_counted(blocks, bar, dtype=dtype),
            dtype=dtype,
            pattern_shape=pattern_shape,
            labels=labels,
            description=description,
            documents=partial(documents, labels=labels, story=story),
            measure=partial(measure_leak, labels=labels, seed=LEAK_SEED),
            patterns_per_shard=patterns_per_shard,
        )


def in_order(labels: columns.Labels, order: NDArray[np.int64] | None) -> columns.Labels:
    """Labels with their first rows in another order, those after them as they are; None: all as they are."""
    if order is None:
        return labels
    rows = np.concatenate([order, np.arange(len(order), len(labels["split"]))])
    return {name: values[rows] for name, values in labels.items()}


def software() -> dict[str, str]:
    """Versions of what decides a dataset's content."""
    return {package: version(package) for package in SOFTWARE}


def folder_of(index: IndexResult) -> Path:
    """Where an index that was read lies."""
    assert index.folder is not None, "read_index gives the folder"
    return index.folder


def _counted(blocks: Iterable[NDArray[Any]], bar: tqdm, *, dtype: np.dtype[Any]) -> Blocks:
    for block in blocks:
        yield block.astype(dtype, copy=False)
        bar.update(len(block))
