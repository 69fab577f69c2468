"""A function over all bands of a scan: with progress, interrupted and taken up again, here or on a cluster."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from dpcurate.bands import Band, size_of
from dpcurate.errors import InputError
from dpcurate.scans import Scan
from dpcurate.workers import Make, Maps, Result, Workers, cut_maps, ready, work_through

DAMAGED = (BadZipFile, OSError, EOFError, ValueError, KeyError)
"""What a kept band raises that was cut off or changed."""


def map_bands(
    scan: Scan,
    make: Make,
    *,
    bands: list[Band],
    key: str,
    desc: str,
    keep: Path | None = None,
    maps: Maps | None = None,
    halo: int = 0,
    workers: Workers | None = None,
) -> Iterator[tuple[Band, Result]]:
    """Yield every band of a scan with its result, an array by name, in any order.

    Parameters
    ----------
    scan
        An open scan.
    make
        Makes what works on bands: ``make(scan)(band, **parts)`` is a band's result. It reads ``scan.patterns[band]``,
        or parts of it, from memory. A cluster needs it picklable.
    bands
        From `bands.cut_bands`.
    key
        Stands for all that decides the results: scan, ``make`` and ``maps``.
    desc
        What the progress bar says.
    keep
        A folder for results, of this ``key`` alone: bands that lie there are not done again.
    maps
        Arrays (rows, columns, ...), of which ``make(scan)`` gets each band's part as keywords.
    halo
        These parts are so many pixels wider on each side than the band, where the scan reaches as far.
    workers
        Default: threads of this process.

    Raises
    ------
    InputError
        A scan that is damaged, or changed while it was read; no space to keep a band; see also `workers.ready`.
    """
    done, todo = 0, []
    for band in bands:
        kept = _kept(keep, band)
        if kept is None:
            todo.append(band)
        else:
            done += size_of(band)
            yield band, kept
    if not todo:
        return
    total = scan.shape[0] * scan.shape[1]
    tasks = ((band, cut_maps(maps or {}, band, halo=halo)) for band in todo)
    with (
        ready(scan, make, key=key, workers=workers or Workers()) as place,
        tqdm(total=total, initial=done, desc=desc, unit="pattern", smoothing=0.1) as progress,
    ):
        for band, result in work_through(tasks, place):
            if keep is not None:
                _keep(keep, band, result)
            progress.update(size_of(band))
            yield band, result


def collect(results: Iterable[tuple[Band, Result]], whole: Band) -> Result:
    """Arrays (rows, columns, ...) of ``whole``, put together from those of the bands that fill it."""
    top, left = whole[0].start, whole[1].start
    shape = (whole[0].stop - top, whole[1].stop - left)
    arrays: Result = {}
    for (rows, columns), result in results:
        place = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        for name, part in result.items():
            if name not in arrays:
                arrays[name] = np.empty((*shape, *part.shape[2:]), part.dtype)
            arrays[name][place] = part
    return arrays


def _file(folder: Path, band: Band) -> Path:
    """Where a band is kept: named by all four edges, so that bands that were cut otherwise are never taken for it."""
    edges = [edge for part in band for edge in (part.start, part.stop)]
    return folder / ("-".join(f"{edge:06d}" for edge in edges) + ".npz")


def _kept(folder: Path | None, band: Band) -> Result | None:
    """A band's result where it was kept; None where it was not, or the file is damaged."""
    if folder is None:
        return None
    try:
        with _file(folder, band).open("rb") as stream, np.load(stream) as file:
            return {name: file[name] for name in file.files}
    except DAMAGED:
        return None


def _keep(folder: Path, band: Band, result: Result) -> None:
    path = _file(folder, band)
    partial = path.with_suffix(f".{os.getpid()}.tmp.npz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = dict(result)
        np.savez(partial, **arrays)
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{folder}: cannot be written ({error}). Free space, then run again.") from error
