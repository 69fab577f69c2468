"""What a dataset is put together from: pixels of scans, simulated patterns; and its writing, block by block."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from dpcurate.crystal_maps import IndexResult, read_truth
from dpcurate.errors import InputError
from dpcurate.patterns import Blocks, scan_patterns, simulated_patterns, storage_dtype
from dpcurate.scans import Scan, sha256_of
from dpcurate.schema import Description, Source
from dpcurate.simulation_plan import Geometry
from dpcurate.simulator import Simulator, draw
from dpcurate.store import dataset_root, write_dataset

SOFTWARE = ("dpcurate", "numpy", "tensorstore", "torch")

Simulate = Callable[[Simulator, NDArray[np.int64]], Blocks]


@dataclass(frozen=True)
class Part:
    """What one source gives to a dataset."""

    source: Source
    labels: columns.Labels
    patterns: Blocks
    dtype: np.dtype[Any]


def scan_part(
    index: IndexResult, scan: Scan, pixels: NDArray[np.int64], phases: NDArray[np.int16], *, seed: int
) -> Part:
    """What some pixels of a scan give; ``phases`` are the numbers in the dataset of the index's phases."""
    path = index.info["scan"]["path"]
    split = columns.pixel_splits(index, seed=seed)
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
    progress: bool,
) -> Path:
    """Write a dataset of these parts, one after another, with progress, and return its folder."""
    labels = columns.join([part.labels for part in parts])
    dtype = storage_dtype(part.dtype for part in parts)
    with tqdm(total=len(labels["split"]), desc="patterns", unit="pattern", disable=not progress) as bar:
        return write_dataset(
            dataset_root(root),
            name=name,
            patterns=_counted(chain.from_iterable(part.patterns for part in parts), bar, dtype=dtype),
            dtype=dtype,
            pattern_shape=pattern_shape,
            labels=labels,
            description=description,
            card=partial(card_text, labels=labels),
        )


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
