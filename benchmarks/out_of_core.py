"""Peak memory and speed of indexing scans of growing size, 256 x 256 pixels each pattern.

    python benchmarks/out_of_core.py --sizes 64 128 256 --folder scratch
    python benchmarks/out_of_core.py --sizes 512 --spacing 6 --folder scratch

Each scan is a .hspy file in HyperSpy's own chunks, its patterns those of the demonstration scan, enlarged. One process
a size indexes it from file to index folder. Its memory is all that it holds at its peak (VmHWM), and how much of that
is anonymous (RssAnon, sampled), for pages of files can be given back at any time.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import hyperspy.api as hs
import numpy as np
from rsciio._hierarchical import get_signal_chunks

DEMO = Path(__file__).parents[1] / "tests" / "data" / "demo.hspy"
PHASE = Path(__file__).parents[1] / "datasets" / "phases" / "LiNiO2.cif"
PIXELS = 256
TEMPLATE = 36
"""Rows and columns of the demonstration scan, repeated over the large one."""


def write_scan(path: Path, size: int) -> None:
    """Write a scan of size x size patterns; chunks repeat, so each is compressed once and copied."""
    demo = hs.load(DEMO)
    shape = (size, size, PIXELS, PIXELS)
    chunks = get_signal_chunks(shape, np.uint16, signal_axes=(2, 3))
    small = hs.signals.Signal2D(np.zeros((1, 1, PIXELS, PIXELS), np.uint16))
    small.metadata.set_item("Acquisition_instrument", demo.metadata.Acquisition_instrument.as_dictionary())
    for axis, old in zip(small.axes_manager._axes, demo.axes_manager._axes, strict=True):
        axis.units, axis.name = old.units, old.name
        axis.scale = old.scale / 2 if axis in small.axes_manager.signal_axes else old.scale
    small.save(path, overwrite=True)
    with h5py.File(path, "r+") as file:
        group = next(iter(file["Experiments"].values()))
        attributes = dict(group["data"].attrs)
        del group["data"]
        data = group.create_dataset("data", shape, np.uint16, chunks=chunks, compression="gzip", compression_opts=1)
        data.attrs.update(attributes)
        for axis in (0, 1):
            group[f"axis-{axis}"].attrs["size"] = size
        fill(data, demo.data)


def fill(data: h5py.Dataset, patterns: np.ndarray) -> None:
    """Write every chunk; those that begin at the same pattern of the demonstration scan are equal."""
    high, wide = data.chunks[:2]
    known: dict[tuple[int, int], bytes] = {}
    for row in range(0, data.shape[0], high):
        for column in range(0, data.shape[1], wide):
            start = row // high * high % TEMPLATE, column // wide * wide % TEMPLATE
            place = (row, column, 0, 0)
            if start not in known:
                rows, columns = (
                    (begin + np.arange(n)) % TEMPLATE for begin, n in zip(start, (high, wide), strict=True)
                )
                block = np.repeat(np.repeat(patterns[np.ix_(rows, columns)], 2, axis=2), 2, axis=3) // 2
                stop = min(row + high, data.shape[0]), min(column + wide, data.shape[1])
                data[row : stop[0], column : stop[1]] = block[: stop[0] - row, : stop[1] - column]
                if stop == (row + high, column + wide):
                    data.flush()
                    known[start] = data.id.read_direct_chunk(place)[1]
            else:
                data.id.write_direct_chunk(place, known[start])


def index(path: Path, spacing: float) -> dict[str, float]:
    """Index a scan in a process of its own and watch its memory, MiB; seconds by step."""
    out = path.with_suffix(".index")
    command = [sys.executable, "-m", "dpcurate.cli", "index", str(path), "--phase", str(PHASE)]
    options = ["--engine", "fast", "--spacing", str(spacing), "--out", str(out), "--overwrite"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    peaks = {"VmHWM": 0, "RssAnon": 0}
    watcher = threading.Thread(target=watch, args=(process, peaks))
    watcher.start()
    if process.wait():
        sys.exit("dpcurate index failed")
    watcher.join()
    seconds = json.loads((out / "index.json").read_text())["seconds"]
    return {name: value / 1024 for name, value in peaks.items()} | seconds | {"all": time.perf_counter() - start}


def watch(process: subprocess.Popen, peaks: dict[str, int]) -> None:
    """Note the largest values in /proc, KiB, until the process ends. It has no children: it works in threads."""
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            name, _, value = line.partition(":")
            if name in peaks:
                peaks[name] = max(peaks[name], int(value.split()[0]))
        time.sleep(0.05)


def main() -> None:
    """Write, index and print a row of a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--spacing", type=float, default=2.0, help="between templates, degrees")
    parser.add_argument("--folder", type=Path, required=True, help="for the scans: 512 takes some gigabytes")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    print("| scan | patterns, GiB | peak, MiB | anonymous, MiB | templates, s | matching, s | patterns/s | all, s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in asked.sizes:
        path = asked.folder / f"large{size}.hspy"
        if not path.exists():
            write_scan(path, size)
        found = index(path, asked.spacing)
        gib = size * size * PIXELS * PIXELS * 2 / 2**30
        rate = size * size / found["matching"]
        print(
            f"| {size} x {size} | {gib:.1f} | {found['VmHWM']:.0f} | {found['RssAnon']:.0f} | {found['library']:.0f} "
            f"| {found['matching']:.0f} | {rate:.0f} | {found['all']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
