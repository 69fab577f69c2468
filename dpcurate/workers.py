"""Who works on bands: threads of this process, or the workers of a dask cluster."""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import dask
import numpy as np
import torch
from dask.system import CPU_COUNT
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate.bands import CHUNK_BYTES, Band, HeldPatterns, held, widened
from dpcurate.errors import InputError
from dpcurate.scans import Scan, ScanFile, file_of

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""

WORKER_BYTES = CHUNK_BYTES + (1 << 28)
"""Memory that a thread needs at most: a band, and what becomes of a piece of it while it is matched."""

Result = dict[str, NDArray[Any]]
Maps = Mapping[str, NDArray[Any]]

Work = Callable[..., Result]
"""Takes a band, and the parts of maps there as keywords; gives arrays by name."""

Make = Callable[[Scan], Work]
"""Makes ready what works on a scan's bands. A cluster gets it by pickle, so it is a function of a module or a
`functools.partial` of one."""


@dataclass(frozen=True)
class Workers:
    """Who works: so many threads of this process (default: one a core), or a cluster."""

    threads: int | None = None
    scheduler: str | None = None
    """Address such as tcp://HOST:PORT, or the scheduler's file."""


@dataclass(frozen=True)
class Place:
    """Where bands are done."""

    submit: Callable[[Band, Maps], Future[Result]]
    slots: Callable[[], int]
    """How many bands may be under way."""


@contextmanager
def ready(scan: Scan, make: Make, *, key: str, workers: Workers) -> Iterator[Place]:
    """A place for the bands of a scan; in this process, with what ``make`` makes ready.

    ``key`` says what is made of which scan: each worker of a cluster makes it once. Raises InputError for a signal in
    memory on a cluster, and a cluster that does not answer, here, or is lost, within this context.
    """
    place = _threads(scan, make, workers.threads) if workers.scheduler is None else _cluster(scan, make, key, workers)
    with place as found:
        yield found


def work_through(tasks: Iterable[tuple[Band, Maps]], place: Place) -> Iterator[tuple[Band, Result]]:
    """Yield bands with their results as they are done, in any order; ``tasks`` are bands with the parts of maps there.

    Raises InputError for a scan that cannot be read, or not by the workers.
    """
    ahead, waiting = iter(tasks), dict[Future[Result], Band]()
    while True:
        for band, maps in islice(ahead, max(0, place.slots() - len(waiting))):
            waiting[place.submit(band, maps)] = band
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()


@contextmanager
def _threads(scan: Scan, make: Make, threads: int | None) -> Iterator[Place]:
    """Work in threads: torch and numpy release Python's lock, and all share one set of templates."""
    scan, patterns = held(scan)
    file = file_of(scan)
    ours = torch.get_num_threads()
    # Never the cluster of a client that happens to be open: the patterns in memory are here.
    with dask.config.set(scheduler="threads"):
        work = make(scan)
        threads = threads or affordable_threads()
        pool = ThreadPoolExecutor(threads)
        torch.set_num_threads(ours if threads == 1 else 1)
        try:
            yield Place(lambda band, maps: pool.submit(_one, file, patterns, work, band, maps), lambda: threads)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(ours)


def affordable_threads() -> int:
    """One thread a core, or fewer where half the memory (of the machine, or of the job) does not suffice."""
    from distributed.system import MEMORY_LIMIT

    return int(max(1, min(CPU_COUNT, MEMORY_LIMIT // 2 // WORKER_BYTES)))


@contextmanager
def _cluster(scan: Scan, make: Make, key: str, workers: Workers) -> Iterator[Place]:
    from distributed import KilledWorker

    address, file = str(workers.scheduler), file_of(scan)
    if file is None:
        raise InputError("--scheduler: a signal in memory is not seen by other processes. Save it, and give its path.")
    with _client(address) as client:
        if not client.nthreads():
            tqdm.write(f"{address}: no worker yet; waiting for the first", file=sys.stderr)
        executor = client.get_executor(pure=False)
        try:
            yield Place(
                lambda band, maps: executor.submit(_there, file, make, key, band, maps),
                lambda: 2 + 2 * sum(client.nthreads().values()),
            )
        except (CancelledError, KilledWorker, OSError, ImportError) as error:
            raise InputError(_why_lost(error, address)) from error


@contextmanager
def _client(address: str) -> Iterator[Any]:
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    known = _address_of(address)
    try:
        client = Client(known, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"--scheduler {address}: no scheduler answers there ({str(error)[:100] or type(error).__name__}). "
            "Give the address of one that runs, tcp://HOST:PORT, or the file it writes with --scheduler-file."
        ) from error
    with client:
        yield client


def _address_of(text: str) -> str:
    """The address itself, or the one in a scheduler's file."""
    path = Path(text)
    if not path.is_file():
        return text
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"--scheduler {text}: not a scheduler's file ({error}). Give what it wrote itself.") from error


def _why_lost(error: BaseException, address: str) -> str:
    kind = type(error).__name__
    if kind == "KilledWorker":
        return (
            f"--scheduler {address}: workers died over one band, mostly for lack of memory. Give each more "
            "memory or one thread, then run again; what is done is kept."
        )
    if isinstance(error, ImportError):
        return f"--scheduler {address}: its workers lack a package ({error}). Start them from this environment."
    return f"--scheduler {address}: lost ({kind}: {str(error)[:100]}). Start it, then run again; what is done is kept."


def _one(file: ScanFile | None, patterns: HeldPatterns, work: Work, band: Band, maps: Maps) -> Result:
    with patterns.hold(band):
        if file is not None:
            file.check()
        return work(band, **maps)


_made: dict[str, tuple[HeldPatterns, Work]] = {}
"""What this process, a worker of a cluster, made last, by its key."""

_making = Lock()

_apart = ThreadPoolExecutor(max(32, CPU_COUNT))
"""In threads that are no task's, dask computes by itself; in a task's own it would ask the cluster."""


def _there(file: ScanFile, make: Make, key: str, band: Band, maps: Maps) -> Result:
    """Do a band in a worker of a cluster."""
    return _apart.submit(_with_what_is_made, file, make, key, band, maps).result()


def _with_what_is_made(file: ScanFile, make: Make, key: str, band: Band, maps: Maps) -> Result:
    with _making:
        if key not in _made:
            _made.clear()
            scan, patterns = held(file.open())
            _made[key] = patterns, make(scan)
    return _one(file, *_made[key], band, maps)


def cut_maps(maps: Maps, band: Band, *, halo: int = 0) -> Result:
    """The parts of maps (rows, columns, ...) that lie in a band, or up to ``halo`` pixels around it."""
    return {name: np.ascontiguousarray(array[widened(band, halo, array.shape)]) for name, array in maps.items()}
