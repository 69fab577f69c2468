"""Speed, memory and size of datasets: batches beside zarr-python 3 and a raw memory map, and a million patterns.

    python benchmarks/store.py read --folder scratch --zarr3 .venvs/zarr3/bin/python
    python benchmarks/store.py scale --folder scratch
    python benchmarks/store.py appetite

`read`: 20,000 patterns of 128 x 128 pixels, the demonstration scan's with their noise drawn anew. Rounds in turn, each
on batches that the others read too: this store with checksums, the same as two worker processes would share it,
zarr-python 3 on the same files, a raw memory map. Medians over the rounds, with the least and the most; and patterns
for each second of processor time, which other programs on the machine change less. First all readers' sums of whole
batches are compared.
`scale`: a million patterns of 64 x 64 pixels, written by two processes, verified, read in shuffled batches; the memory
of a process that reads on.
`appetite`: how many patterns a data-centre GPU would use up, computed from a network's operations; not measured.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import hyperspy.api as hs
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from dpcurate import store
from tests.conftest import describe, tiny_labels

DEMO = Path(__file__).parents[1] / "tests" / "data" / "demo.hspy"
BATCH = 256
GPU_FLOPS = 989e12
"""Dense BF16 operations a second of an H100 SXM, by NVIDIA's data sheet."""

UTILISATION = (1.0, 0.4)
"""Shares of that which are taken: all of it, which nothing reaches, and what large networks reach at best."""

ZARR_READER = """
import json, sys, time, numpy, zarr
array = zarr.open_array(sys.argv[1], mode="r")
for line in sys.stdin:
    batches = [numpy.array(batch) for batch in json.loads(line)]
    wall, used, total = time.perf_counter(), time.process_time(), 0
    for batch in batches:
        total += int(array.oindex[batch][:, 60, 60].sum())
    taken = time.perf_counter() - wall, time.process_time() - used
    print(json.dumps([*taken, total, zarr.__version__]), flush=True)
"""


@dataclass(frozen=True)
class Bank:
    """Patterns by their number: those of a file in turn, each time moved by another number of rows."""

    path: str

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Patterns from one number up to another."""
        known = np.load(self.path, mmap_mode="r")
        number = np.arange(start, stop)
        block = np.array(known[number % len(known)])
        for turn in np.unique(number // len(known)):
            here = number // len(known) == turn
            block[here] = np.roll(block[here], int(turn), axis=1)
        return block


def make_bank(path: Path, *, n: int, side: int) -> Bank:
    """A file of ``n`` patterns: the demonstration scan's, binned to ``side`` pixels, their noise drawn anew."""
    if not path.exists():
        known = np.asarray(hs.load(DEMO).data).reshape(-1, 128, 128)
        edge = 128 // side
        known = known.reshape(len(known), side, edge, side, edge).sum(axis=(2, 4))
        rng = np.random.default_rng(0)
        whole = np.lib.format.open_memmap(path, "w+", np.uint16, (n, side, side))
        for start in range(0, n, len(known)):
            block = whole[start : start + len(known)]
            block[:] = rng.poisson(known[: len(block)]).astype(np.uint16)
        whole.flush()
    return Bank(str(path))


def write(root: Path, bank: Bank, *, n: int, side: int, processes: int, per_shard: int = 1024) -> tuple[Path, float]:
    """Write a dataset; its folder and the seconds it took."""
    unit = np.tile([1.0, 0, 0, 0], (n, 1))
    labels = tiny_labels(unit, np.zeros(n), grain=np.arange(n), shape=(side, side), seed=0)
    context = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        made = store.write_dataset(
            root,
            name=f"bench{side}",
            patterns=bank,
            dtype=np.dtype("uint16"),
            pattern_shape=(side, side),
            labels=labels,
            description=describe(n=n),
            documents=lambda dataset: {"card.md": dataset.manifest.name},
            executor=pool,
            patterns_per_shard=per_shard,
        )
    return made, time.perf_counter() - start


def batches_of(n: int, number: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).permutation(n)[: number * BATCH].reshape(number, BATCH))


@dataclass(frozen=True)
class Rate:
    """Patterns that were read, in how many seconds, of how much processor time; the sum of one pixel of each."""

    patterns: int
    wall_s: float
    used_s: float
    total: int


def timed(read, batches) -> Rate:
    wall, used, total = time.perf_counter(), time.process_time(), 0
    for batch in batches:
        total += int(read(batch)[:, 60, 60].sum())
    return Rate(len(batches) * BATCH, time.perf_counter() - wall, time.process_time() - used, total)


def shared_out(pool, path: Path, batches) -> Rate:
    """The batches read by two workers, half of them each."""
    wall = time.perf_counter()
    parts = list(pool.map(share_of_worker, [str(path)] * 2, [batches[::2], batches[1::2]]))
    used, total = (sum(part) for part in zip(*[(part.used_s, part.total) for part in parts], strict=True))
    return Rate(len(batches) * BATCH, time.perf_counter() - wall, used, total)


def by_zarr(reader, batches) -> tuple[str, Rate]:
    reader.stdin.write(json.dumps([batch.tolist() for batch in batches]) + "\n")
    reader.stdin.flush()
    wall, used, total, version = json.loads(reader.stdout.readline())
    return f"zarr-python {version}", Rate(len(batches) * BATCH, wall, used, total)


def memory_mib() -> dict[str, float]:
    """Memory that this process holds: its own pages (RssAnon), and with pages of files (VmRSS)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":") for line in lines if line.startswith(("RssAnon", "VmRSS")))
    return {name: int(value.split()[0]) / 1024 for name, value in found.items()}


def share_of_worker(path: str, batches: list[np.ndarray]) -> Rate:
    """What one of several workers reads."""
    return timed(store.open_dataset(path).patterns, batches)


def read(folder: Path, *, zarr3: str | None, rounds: int) -> None:
    n, side = 20_000, 128
    bank = make_bank(folder / "bank128.npy", n=n, side=side)
    made, seconds = write(folder / "datasets", bank, n=n, side=side, processes=2)
    raw = n * side * side * 2 / 1e6
    print(
        f"{n} patterns of {side} x {side}: {raw:.0f} MB raw, {size_of(made) / 1e6:.0f} MB on the disk; written by "
        f"2 processes in {seconds:.1f} s, their start included ({raw / seconds:.0f} MB/s of raw patterns)"
    )
    opened, mapped = store.open_dataset(made), np.load(bank.path, mmap_mode="r")
    some = np.random.default_rng(9).permutation(n)[:2048]
    assert np.array_equal(opened.patterns(some), mapped[some])
    command = [zarr3, "-c", ZARR_READER, str(made / "patterns")] if zarr3 else None
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    reader = subprocess.Popen(command, **pipe) if command else None
    found: dict[str, list[Rate]] = {}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number in range(rounds + 1):
            batches = batches_of(n, 70, number)
            rates = {"this store": timed(opened.patterns, batches)}
            rates["raw memory map"] = timed(lambda rows: mapped[rows], batches)
            rates["this store, 2 workers"] = shared_out(pool, made, batches)
            assert len({rate.total for rate in rates.values()}) == 1
            if reader:
                name, rate = by_zarr(reader, batches[:10])
                assert rate.total == timed(opened.patterns, batches[:10]).total
                rates[name] = rate
            for name, rate in rates.items():
                found.setdefault(name, []).append(rate)
    if reader:
        reader.stdin.close()
        reader.wait()
    print_rates({name: rates[1:] for name, rates in found.items()})  # the first round warms up


def print_rates(found: dict[str, list[Rate]]) -> None:
    ours = statistics.median(rate.patterns / rate.wall_s for rate in found["this store"])
    print("| reader | patterns/s, median | least to most | for each s of processor | this store is faster by |")
    print("| --- | --- | --- | --- | --- |")
    for name, rates in found.items():
        wall = [rate.patterns / rate.wall_s for rate in rates]
        used = statistics.median(rate.patterns / rate.used_s for rate in rates)
        middle = statistics.median(wall)
        spread = f"{min(wall):,.0f} to {max(wall):,.0f}"
        print(f"| {name} | {middle:,.0f} | {spread} | {used:,.0f} | {ours / middle:.2f} |")


def flat(path: str, n: int) -> None:
    """Print the memory of this process while it reads on and on."""
    opened, done = store.open_dataset(path), 0
    print("| batches of 256 read | own memory, MiB | with pages of files, MiB |")
    print("| --- | --- | --- |")
    for until in (10, 100, 1000, 2000, 4000):
        while done < until:
            for batch in batches_of(n, 10, done):
                opened.patterns(batch)
            done += 10
        held = memory_mib()
        print(f"| {done} | {held['RssAnon']:.0f} | {held['VmRSS']:.0f} |", flush=True)


def scale(folder: Path, *, n: int, per_shard: int) -> None:
    side = 64
    bank = make_bank(folder / "bank64.npy", n=20_000, side=side)
    free = shutil.disk_usage(folder).free
    made, seconds = write(folder / "datasets", bank, n=n, side=side, processes=2, per_shard=per_shard)
    raw, size = n * side * side * 2, size_of(made)
    files = sum(1 for file in made.rglob("*") if file.is_file())
    print(
        f"{n} patterns of {side} x {side}, {per_shard} a shard: {raw / 1e9:.2f} GB raw, "
        f"{size / 1e9:.2f} GB in {files} files"
    )
    print(f"of {free / 1e9:.0f} GB that were free")
    print(f"written by 2 processes: {seconds:.0f} s, {n / seconds:,.0f} patterns/s, {raw / 1e6 / seconds:.0f} MB/s raw")
    start, used = time.perf_counter(), time.process_time()
    assert store.verify(made) == []
    seconds, used = time.perf_counter() - start, time.process_time() - used
    print(f"verified: {seconds:.1f} s ({used:.1f} s of processor time), {size / 1e6 / seconds:.0f} MB/s")
    start = time.perf_counter()
    opened = store.open_dataset(made)
    seconds, manifest = time.perf_counter() - start, (made / "manifest.json").stat().st_size
    print(f"opened: {seconds:.2f} s; manifest {manifest / 1e6:.2f} MB")
    print_rates({"this store": [timed(opened.patterns, batches_of(n, 100, seed)) for seed in range(6)][1:]})
    in_order = [np.arange(first, first + BATCH) for first in range(0, 400 * BATCH, BATCH)]
    rate = timed(opened.patterns, in_order)
    print(f"in order, {BATCH} at a time: {rate.patterns / rate.wall_s:,.0f} patterns/s")
    sys.stdout.flush()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(flat, str(made), n).result()


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def appetite() -> None:
    """Print how many patterns of 128 x 128 an H100 would use up a second, from operations alone."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from dptrain.backbones import load_timm

    timm = load_timm()

    print("| network | operations a pattern, forward | patterns/s at 100 % | at 40 % |\n| --- | --- | --- | --- |")
    for name, options in (("densenet121", {}), ("swin_tiny_patch4_window7_224", {"img_size": 128})):
        network = timm.create_model(name, in_chans=1, **options).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.zeros(1, 1, 128, 128))
        operations = counter.get_total_flops()
        rates = [share * GPU_FLOPS / (3 * operations) for share in UTILISATION]
        print(f"| {name} | {operations / 1e9:.2f}e9 | {rates[0]:,.0f} | {rates[1]:,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["read", "scale", "appetite"])
    parser.add_argument("--folder", type=Path, default=Path("scratch"), help="for files; up to 3 GB stay there")
    parser.add_argument("--zarr3", help="Python of an environment with zarr-python 3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patterns", type=int, default=1_000_000, help="of scale")
    parser.add_argument("--per-shard", type=int, default=1024, help="of scale")
    asked = parser.parse_args()
    if asked.what == "appetite":
        appetite()
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.what == "read":
        read(asked.folder, zarr3=asked.zarr3, rounds=asked.rounds)
    else:
        scale(asked.folder, n=asked.patterns, per_shard=asked.per_shard)


if __name__ == "__main__":
    main()
