"""Which sample is read when, by arithmetic alone, and batches read one ahead."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.schema import SPLITS
from dpcurate.store import Dataset

Index = NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Samples:
    """The labels of one split of a dataset, in memory; ``index`` (n,) says where each pattern lies in the dataset.

    ``orientation`` (n, 4) is what the network learns, ``true_orientation`` (n, 4) is NaN where it is unknown;
    ``phase_id`` (n,); ``center_xy`` (n, 2) in pixels (column, row); ``scale`` (n,) in 1/Angstrom per pixel;
    ``draw`` (n,) is the number of a simulated sample, -1 for one of a scan; ``confidence`` (n,) is that of the label.
    """

    index: Index
    orientation: NDArray[np.float64]
    true_orientation: NDArray[np.float64]
    phase_id: NDArray[np.int16]
    center_xy: NDArray[np.float32]
    scale: NDArray[np.float32]
    draw: NDArray[np.int64]
    confidence: NDArray[np.float32]


def read_samples(dataset: Dataset, split: str, *, label_source: Literal["label", "truth"] = "label") -> Samples:
    """The samples of ``split``, one of ``schema.SPLITS``, with labels or the exact truth to learn from.

    Raises
    ------
    InputError
        The truth is asked for where it is not known, or a sample has no phase.
    """
    rows = np.flatnonzero(dataset.read("split") == SPLITS.index(split))
    truth = dataset.read("true_orientation")[rows]
    phase_id = dataset.read("phase_id")[rows]
    unknown = int(np.isnan(truth).any(axis=-1).sum())
    name = f"{dataset.manifest.name}@{dataset.manifest.version}"
    if label_source == "truth" and unknown:
        raise InputError(
            f"{name}: the exact orientation of {unknown} of {len(rows)} {split} patterns is not known; train on "
            "labels, or build the dataset from scans whose truth is known or from simulations."
        )
    if len(rows) and not 0 <= phase_id.min() <= phase_id.max() < len(dataset.manifest.phases):
        raise InputError(f"{name}: some {split} patterns have no phase; build the dataset again.")
    labels = truth if label_source == "truth" else dataset.read("orientation")[rows]
    center_xy, scale, draw, confidence = (
        dataset.read(key)[rows] for key in ("center_xy", "scale", "draw", "confidence")
    )
    return Samples(rows, labels, truth, phase_id, center_xy, scale, draw, confidence)


def reach_inv_angstrom(samples: Samples, shape: tuple[int, int]) -> float:
    """Median distance in 1/Angstrom from the direct beam to the nearest edge of a pattern of ``shape`` (H, W)."""
    return reach_of(samples.center_xy, samples.scale, shape)


def reach_of(center_xy: NDArray[np.floating], scale: NDArray[np.floating], shape: tuple[int, int]) -> float:
    """As ``reach_inv_angstrom``, for direct beams (column, row) ``(n, 2)`` and scales ``(n,)``."""
    edge = np.minimum(center_xy, np.array(shape[::-1]) - 1 - center_xy).min(axis=-1)
    return float(np.median(edge * scale))


def epoch_order(n: int, *, seed: int, epoch: int) -> Index:
    """The order in which an epoch shows samples 0 to n - 1, each once."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def steps_per_epoch(n: int, *, batch_size: int) -> int:
    """Steps of an epoch of training; the tail that fills no batch is dropped, another one in every epoch."""
    return n // batch_size


def training_batch(order: Index, step: int, *, batch_size: int, rank: int, world_size: int) -> Index:
    """The samples of one process in one step, shape ``(batch_size / world_size,)``.

    ``batch_size`` counts over all processes, so that a step means the same on any number of them. Laws: the processes'
    shares are disjoint and together ``order[step * batch_size : (step + 1) * batch_size]``.
    """
    return order[step * batch_size : (step + 1) * batch_size][rank::world_size]


def evaluation_batches(
    n: int, *, batch_size: int, rank: int, world_size: int
) -> Iterator[tuple[Index, NDArray[np.bool_]]]:
    """Samples 0 to n - 1 for evaluation: index ``(b,)`` and which of them count ``(b,)``.

    Every process gets the same number of batches of the same size ``b = batch_size / world_size``; where samples run
    out the last one is repeated and does not count. Law: over all processes each sample counts once.
    """
    for start in range(0, n, batch_size):
        place = np.arange(start + rank, start + batch_size, world_size)
        yield np.minimum(place, n - 1), place < n


def one_ahead(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``read(item)`` for each item in order, the next one being read in a thread while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        pending = None
        for item in items:
            following = pool.submit(read, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
